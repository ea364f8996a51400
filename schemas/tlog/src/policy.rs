//! Trust policies: which logs and witnesses are believed, and how many witnesses are
//! enough (<https://c2sp.org/tlog-policy>).

use std::borrow::Cow;
use std::collections::HashMap;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{KeyError, KeyKind, Note, NoteError, VerifierKey};

/// A policy file has at most this many bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;
/// At most this many logs, this many witnesses and this many groups.
pub const MAX_ITEMS: usize = 256;

/// What a policy file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    /// No member: no cosignature is needed.
    quorum: Option<Member>,
}

/// A log that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Its name is the origin of the log's checkpoints.
    pub key: VerifierKey,
    url: Option<Vec<u8>>,
}

/// A witness that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    name: Vec<u8>,
    pub key: VerifierKey,
    url: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// A checkpoint that the policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub checkpoint: Checkpoint,
    /// Every witness of the policy that cosigned: its name in the policy and its time, in
    /// seconds since 1970. Whether a time is too old or in the future is for the caller.
    pub witnesses: Vec<(String, u64)>,
}

/// Why a checkpoint is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the note is no checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("the policy has no log {0:?}")]
    UnknownLog(String),
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("{0} cosignatures by witnesses of the policy do not meet the quorum")]
    Quorum(usize),
}

/// Why a policy file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("policy line {line}: {fault}")]
pub struct PolicyParseError {
    /// From 1.
    pub line: usize,
    pub fault: PolicyFault,
}

/// What is wrong with the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    #[error("the file has more than {MAX_POLICY_BYTES} bytes")]
    TooLong,
    #[error("control characters other than tab and newline are not allowed")]
    Characters,
    #[error("the last line does not end with a newline")]
    NoNewline,
    #[error("not a log, witness, group or quorum line")]
    Keyword,
    #[error("too few or too many items for this line")]
    Items,
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("a log needs an Ed25519 key, a witness a cosignature key")]
    KeyKind,
    #[error("the key is listed twice")]
    DuplicateKey,
    #[error("the name is defined twice, or is \"none\"")]
    DuplicateName,
    #[error("the name is not defined on a line before")]
    UnknownName,
    #[error("the name is a member already")]
    MemberTwice,
    #[error("a threshold is any, all or a number from 1 to the number of members")]
    Threshold,
    #[error("more than {MAX_ITEMS} logs, witnesses or groups")]
    TooMany,
    #[error("the quorum is stated twice")]
    SecondQuorum,
    #[error("the quorum is missing")]
    NoQuorum,
}

impl Log {
    pub fn url(&self) -> Option<Cow<'_, str>> {
        self.url.as_deref().map(String::from_utf8_lossy)
    }
}

impl Witness {
    /// The name in the policy; the key has its own.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    pub fn url(&self) -> Option<Cow<'_, str>> {
        self.url.as_deref().map(String::from_utf8_lossy)
    }
}

impl Policy {
    /// Reads a policy file.
    pub fn parse(file: impl AsRef<[u8]>) -> Result<Self, PolicyParseError> {
        let file = file.as_ref();
        if file.len() > MAX_POLICY_BYTES {
            return Err(PolicyParseError {
                line: 1,
                fault: PolicyFault::TooLong,
            });
        }
        let mut reader = Reader::default();
        let mut last = 0;
        for (at, line) in file.split_inclusive(|byte| *byte == b'\n').enumerate() {
            last = at + 1;
            reader
                .line(line)
                .map_err(|fault| PolicyParseError { line: last, fault })?;
        }
        let quorum = reader.quorum.ok_or(PolicyParseError {
            line: last + 1,
            fault: PolicyFault::NoQuorum,
        })?;
        let Reader {
            logs,
            witnesses,
            groups,
            ..
        } = reader;
        Ok(Self {
            logs,
            witnesses,
            groups,
            quorum,
        })
    }

    pub fn logs(&self) -> &[Log] {
        &self.logs
    }

    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether a checkpoint is accepted: signed by a log of the policy under its own
    /// origin, and cosigned by a quorum. A bad signature by any key of the policy that
    /// could count refuses the note.
    pub fn check(&self, note: &Note) -> Result<Accepted, PolicyError> {
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = checkpoint.origin.clone();
        self.check_as(note, &origin)
    }

    /// The same for a note in the form of a checkpoint that the log `name` signed, whatever its own origin.
    ///
    /// # Errors
    /// As [`Policy::check`].
    pub fn check_as(&self, note: &Note, name: &str) -> Result<Accepted, PolicyError> {
        let checkpoint = Checkpoint::parse(note.text())?;
        let mut signed = Err(PolicyError::UnknownLog(name.to_owned()));
        for log in self.logs.iter().filter(|log| log.key.name() == name) {
            match note.verify(&log.key) {
                Ok(_) => signed = Ok(()),
                // Another key of the same log may have signed.
                Err(error @ NoteError::NotSigned { .. }) => {
                    signed = signed.or(Err(error.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        signed?;

        let mut times = Vec::with_capacity(self.witnesses.len());
        for witness in &self.witnesses {
            times.push(match note.verify(&witness.key) {
                Ok(verified) => verified.timestamp,
                Err(NoteError::NotSigned { .. }) => None,
                Err(error) => return Err(error.into()),
            });
        }
        let witnesses: Vec<_> = self
            .witnesses
            .iter()
            .zip(&times)
            .filter_map(|(witness, time)| Some((witness.name().into_owned(), (*time)?)))
            .collect();
        let cosigned: Vec<_> = times.iter().map(Option::is_some).collect();
        if self.is_quorum(&cosigned) {
            Ok(Accepted {
                checkpoint,
                witnesses,
            })
        } else {
            Err(PolicyError::Quorum(witnesses.len()))
        }
    }

    /// Groups refer only to earlier groups, so one pass decides them all.
    fn is_quorum(&self, cosigned: &[bool]) -> bool {
        let mut met: Vec<bool> = Vec::with_capacity(self.groups.len());
        let holds = |met: &[bool], member: &Member| match member {
            Member::Witness(at) => cosigned.get(*at) == Some(&true),
            Member::Group(at) => met.get(*at) == Some(&true),
        };
        for group in &self.groups {
            let count = group
                .members
                .iter()
                .filter(|member| holds(&met, member))
                .count();
            met.push(count >= group.threshold);
        }
        self.quorum.is_none_or(|member| holds(&met, &member))
    }
}

#[derive(Default)]
struct Reader {
    logs: Vec<Log>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    /// Every defined name, and whether it is a member of a group.
    names: HashMap<Vec<u8>, (Member, bool)>,
    quorum: Option<Option<Member>>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), PolicyFault> {
        let line = line.strip_suffix(b"\n").ok_or(PolicyFault::NoNewline)?;
        if line
            .iter()
            .any(|byte| matches!(byte, 0..=8 | 10..=0x1f | 0x7f))
        {
            return Err(PolicyFault::Characters);
        }
        let items: Vec<&[u8]> = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|item| !item.is_empty())
            .collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", rest @ ..] => self.log(rest),
            [b"witness", rest @ ..] => self.witness(rest),
            [b"group", rest @ ..] => self.group(rest),
            [b"quorum", rest @ ..] => self.set_quorum(rest),
            _ => Err(PolicyFault::Keyword),
        }
    }

    fn log(&mut self, items: &[&[u8]]) -> Result<(), PolicyFault> {
        let (key, url) = match items {
            [key] => (key, None),
            [key, url] => (key, Some(url.to_vec())),
            _ => return Err(PolicyFault::Items),
        };
        let key = read_key(key, KeyKind::Ed25519, self.logs.iter().map(|log| &log.key))?;
        self.logs.push(Log { key, url });
        Ok(())
    }

    fn witness(&mut self, items: &[&[u8]]) -> Result<(), PolicyFault> {
        let (name, key, url) = match items {
            [name, key] => (name.to_vec(), key, None),
            [name, key, url] => (name.to_vec(), key, Some(url.to_vec())),
            _ => return Err(PolicyFault::Items),
        };
        let known = self.witnesses.iter().map(|witness| &witness.key);
        let key = read_key(key, KeyKind::Cosignature, known)?;
        self.define(&name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(Witness { name, key, url });
        Ok(())
    }

    fn group(&mut self, items: &[&[u8]]) -> Result<(), PolicyFault> {
        let [name, threshold, names @ ..] = items else {
            return Err(PolicyFault::Items);
        };
        if names.is_empty() {
            return Err(PolicyFault::Items);
        }
        if self.groups.len() == MAX_ITEMS {
            return Err(PolicyFault::TooMany);
        }
        let threshold = match *threshold {
            b"any" => 1,
            b"all" => names.len(),
            number => std::str::from_utf8(number)
                .ok()
                .and_then(crate::text::decimal)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=names.len()).contains(number))
                .ok_or(PolicyFault::Threshold)?,
        };
        let mut members = Vec::with_capacity(names.len().min(2 * MAX_ITEMS));
        for name in names {
            let (member, taken) = self.names.get_mut(*name).ok_or(PolicyFault::UnknownName)?;
            if *taken {
                return Err(PolicyFault::MemberTwice);
            }
            *taken = true;
            members.push(*member);
        }
        // Defined last, so that a group is no member of itself.
        self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members });
        Ok(())
    }

    fn set_quorum(&mut self, items: &[&[u8]]) -> Result<(), PolicyFault> {
        let [name] = items else {
            return Err(PolicyFault::Items);
        };
        if self.quorum.is_some() {
            return Err(PolicyFault::SecondQuorum);
        }
        self.quorum = Some(match *name {
            b"none" => None,
            name => Some(self.names.get(name).ok_or(PolicyFault::UnknownName)?.0),
        });
        Ok(())
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<(), PolicyFault> {
        if name == b"none" || self.names.contains_key(name) {
            return Err(PolicyFault::DuplicateName);
        }
        self.names.insert(name.to_vec(), (member, false));
        Ok(())
    }
}

fn read_key<'a>(
    text: &[u8],
    kind: KeyKind,
    known: impl ExactSizeIterator<Item = &'a VerifierKey>,
) -> Result<VerifierKey, PolicyFault> {
    if known.len() == MAX_ITEMS {
        return Err(PolicyFault::TooMany);
    }
    let text = std::str::from_utf8(text).map_err(|_| KeyError::Name)?;
    let key = VerifierKey::parse(text)?;
    if key.kind() != kind {
        return Err(PolicyFault::KeyKind);
    }
    let mut known = known;
    // A witness counts once. A ledger signs its logs, shard by shard and year by year, with one key, each under
    // its own name: those are logs of their own.
    let same_key = |other: &VerifierKey| {
        other.public() == key.public()
            && (kind == KeyKind::Cosignature || other.name() == key.name())
    };
    if known.any(same_key) {
        return Err(PolicyFault::DuplicateKey);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Key, log};

    fn line(name: &str) -> String {
        format!("witness {name} {}\n", Key::witness(name).public)
    }

    /// The example of the specification.
    fn example() -> String {
        let mut text = format!(
            "# example\n\n\tlog {}  https://log.example/ \n",
            Key::log("log").public
        );
        for name in ["X1", "X2", "X3", "Y1", "Y2", "Y3"] {
            text += &line(name);
        }
        text + "group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n\
                group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    }

    fn signed(origin: &str, cosigners: &[&str]) -> Note {
        let (_, text) = log(origin, 5);
        let lines = cosigners
            .iter()
            .enumerate()
            .map(|(at, name)| Key::witness(name).cosign(&text, 100 + at as u64));
        Note::assemble(
            &text,
            [Key::log(origin).sign(&text)].into_iter().chain(lines),
        )
        .unwrap()
    }

    #[test]
    fn the_published_example() {
        let policy = Policy::parse(example()).unwrap();
        assert_eq!(policy.logs()[0].url().unwrap(), "https://log.example/");
        assert_eq!(policy.witnesses().len(), 6);
        for (names, enough) in [
            (vec![], false),
            (vec!["X1", "X2"], false),
            (vec!["X1", "Y1"], false),
            (vec!["Y1", "Y2", "Y3"], false),
            (vec!["X1", "X2", "X3"], false),
            (vec!["X1", "unknown", "Y1"], false),
            (vec!["X1", "X1", "Y1"], false),
            (vec!["X1", "X3", "Y2"], true),
            (vec!["Y3", "unknown", "X3", "X2", "X1"], true),
        ] {
            let result = policy.check(&signed("log", &names));
            assert_eq!(result.is_ok(), enough, "{names:?}");
        }
        let accepted = policy
            .check(&signed("log", &["Y2", "X1", "unknown", "X3"]))
            .unwrap();
        assert_eq!(accepted.checkpoint.size, 5);
        let expected = [("X1", 101), ("X3", 103), ("Y2", 100)];
        assert_eq!(
            accepted.witnesses,
            expected.map(|(name, time)| (name.to_owned(), time))
        );
    }

    #[test]
    fn the_log_must_have_signed() {
        let policy = Policy::parse(example()).unwrap();
        let witnesses = ["X1", "X2", "Y1"];
        let good = signed("log", &witnesses);
        assert!(policy.check(&good).is_ok());
        let other = signed("other", &witnesses);
        assert_eq!(
            policy.check(&other),
            Err(PolicyError::UnknownLog("other".into()))
        );
        // The log's key under another origin.
        let text = other.text();
        let lines = other.lines().skip(1).chain([Key::log("log").sign(text)]);
        let note = Note::assemble(text, lines).unwrap();
        assert_eq!(
            policy.check(&note),
            Err(PolicyError::UnknownLog("other".into()))
        );
        let note = Note::assemble(good.text(), good.lines().skip(1)).unwrap();
        assert!(matches!(
            policy.check(&note),
            Err(PolicyError::Note(NoteError::NotSigned { .. }))
        ));
        // A bad cosignature refuses even if the others are enough.
        let swapped = other.lines_by(&Key::witness("X1").public).next().unwrap();
        let note = good.append(&swapped).unwrap();
        assert!(matches!(
            policy.check(&note),
            Err(PolicyError::Note(NoteError::BadSignature { .. }))
        ));
        let note =
            Note::assemble("no checkpoint\n", [Key::log("log").sign("no checkpoint\n")]).unwrap();
        assert!(matches!(
            policy.check(&note),
            Err(PolicyError::Checkpoint(_))
        ));
    }

    #[test]
    fn no_quorum_and_one_witness() {
        let log = Key::log("log").public;
        let none = Policy::parse(format!("quorum none\nlog {log}\n")).unwrap();
        assert!(
            none.check(&signed("log", &[]))
                .unwrap()
                .witnesses
                .is_empty()
        );
        let one = Policy::parse(format!("log {log}\n{}quorum w\n", line("w"))).unwrap();
        assert_eq!(one.check(&signed("log", &[])), Err(PolicyError::Quorum(0)));
        assert!(one.check(&signed("log", &["w"])).is_ok());
        // Known from elsewhere which log: no log here, so none is accepted.
        let empty = Policy::parse("quorum none\n").unwrap();
        assert!(matches!(
            empty.check(&signed("log", &[])),
            Err(PolicyError::UnknownLog(_))
        ));
        // A witness's name is bytes, its comment too.
        let key = Key::witness("w").public;
        let bytes = [
            b"#\xff\nwitness \xff ".as_slice(),
            key.to_string().as_bytes(),
            b"\nquorum \xff\n",
        ]
        .concat();
        assert_eq!(
            Policy::parse(bytes).unwrap().witnesses()[0].name(),
            "\u{fffd}"
        );
    }

    #[test]
    fn hostile_policies_are_refused_by_line() {
        use PolicyFault::{
            Characters, DuplicateKey, DuplicateName, Items, KeyKind, Keyword, MemberTwice,
            NoNewline, NoQuorum, SecondQuorum, Threshold, TooLong, TooMany, UnknownName,
        };
        let log = format!("log {}\n", Key::log("log").public);
        let (a, b) = (line("a"), line("b"));
        let same = a.replacen(" a ", " c ", 1);
        let many: String = (0..=MAX_ITEMS)
            .map(|at| format!("group g{at} 1 a\n"))
            .collect();
        let far: String = (0..=MAX_ITEMS).map(|at| line(&format!("w{at}"))).collect();
        for (text, line, fault) in [
            (String::new(), 1, NoQuorum),
            (log.clone(), 2, NoQuorum),
            ("quorum none".into(), 1, NoNewline),
            ("quorum none\r\n".into(), 1, Characters),
            ("# \u{7f}\n".into(), 1, Characters),
            ("quorum none\nquorum none\n".into(), 2, SecondQuorum),
            ("quorum\n".into(), 1, Items),
            ("quorum none none\n".into(), 1, Items),
            ("quorum a\n".into(), 1, UnknownName),
            (format!("quorum a\n{a}"), 1, UnknownName),
            ("\n\nQuorum none\n".into(), 3, Keyword),
            ("log\n".into(), 1, Items),
            ("log x\n".into(), 1, PolicyFault::Key(KeyError::Parts)),
            (format!("{log}{log}"), 2, DuplicateKey),
            (a.replacen("witness a", "log", 1), 1, KeyKind),
            (log.replacen("log", "witness w", 1), 1, KeyKind),
            (format!("{} u v\n", a.trim_end()), 1, Items),
            (format!("{a}{same}"), 2, DuplicateKey),
            (a.replacen(" a ", " none ", 1), 1, DuplicateName),
            (
                format!("{a}{}", b.replacen(" b ", " a ", 1)),
                2,
                DuplicateName,
            ),
            (format!("{a}group a any a\n"), 2, DuplicateName),
            (format!("{a}group none any a\n"), 2, DuplicateName),
            (format!("{a}group g any\n"), 2, Items),
            (format!("{a}group g any none\n"), 2, UnknownName),
            (format!("{a}group g any a g\n"), 2, UnknownName),
            (format!("{a}group g any a a\n"), 2, MemberTwice),
            (format!("{a}group g any a\ngroup h any a\n"), 3, MemberTwice),
            (format!("{a}group g 0 a\n"), 2, Threshold),
            (format!("{a}group g 2 a\n"), 2, Threshold),
            (format!("{a}group g 01 a\n"), 2, Threshold),
            (format!("{a}group g +1 a\n"), 2, Threshold),
            (format!("{a}group g most a\n"), 2, Threshold),
            (format!("{a}group g 99999999999999999999 a\n"), 2, Threshold),
            (format!("{a}{many}"), 3, MemberTwice),
            (far, MAX_ITEMS + 1, TooMany),
            ("#".repeat(MAX_POLICY_BYTES + 1), 1, TooLong),
        ] {
            assert_eq!(
                Policy::parse(&text),
                Err(PolicyParseError { line, fault }),
                "{text:.200?}"
            );
        }
    }

    /// Of the specification's duplicates one kind is no fault: a ledger's logs share a key, each has its name.
    #[test]
    fn logs_may_share_a_key_and_witnesses_may_not() {
        let key = Key::log("bus/audit/0/2026");
        let other = VerifierKey::new("bus/audit/0/2027", KeyKind::Ed25519, key.public.public());
        let text = format!("log {}\nlog {}\nquorum none\n", key.public, other.unwrap());
        let policy = Policy::parse(text).unwrap();
        let (_, text) = log("bus/audit/0/2026", 4);
        let note = Note::assemble(&text, [key.sign(&text)]).unwrap();
        assert!(policy.check(&note).is_ok());
        // Under the other log's name it has not signed.
        let (_, text) = log("bus/audit/0/2027", 4);
        let note = Note::assemble(&text, [key.sign(&text)]).unwrap();
        assert!(matches!(
            policy.check(&note),
            Err(PolicyError::Note(NoteError::NotSigned { .. }))
        ));
    }

    proptest! {
        #[test]
        fn thresholds_count(k in 1_usize..=6, cosigned in prop::collection::vec(any::<bool>(), 6)) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let mut text: String = names.iter().map(|name| line(name)).collect();
            text += &format!("group inner {k} {}\ngroup outer all inner\nquorum outer\n", names.join(" "));
            let policy = Policy::parse(text).unwrap();
            let count = cosigned.iter().filter(|yes| **yes).count();
            prop_assert_eq!(policy.is_quorum(&cosigned), count >= k);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, words in "((log|witness|group|quorum|none|any|1|a|\n) ?){0,40}") {
            let _ = Policy::parse(bytes);
            let _ = Policy::parse(words);
        }

        #[test]
        fn a_changed_policy_is_survived(at: prop::sample::Index, byte: u8) {
            let mut text = example().into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = Policy::parse(text);
        }
    }
}
