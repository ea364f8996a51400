//! Signed notes (<https://c2sp.org/signed-note>) and timestamped cosignatures
//! (<https://c2sp.org/tlog-cosignature>), with Ed25519.

use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::text::{from_base64, to_base64};

/// A note has at most this many bytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// A note has at most this many signatures.
pub const MAX_SIGNATURES: usize = 100;
/// A cosignature's time fits a signed integer.
pub const MAX_TIME: u64 = (1 << 63) - 1;

/// Em dash and space, before every signature.
const DASH: &str = "\u{2014} ";
const ID_BYTES: usize = 4;
const TIME_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 64;

/// What a key signs; the first byte of its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// 0x01: the note text.
    Ed25519,
    /// 0x04: a checkpoint and a time.
    Cosignature,
}

impl KeyKind {
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ed25519, Self::Cosignature]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

/// A public key with its name: `<name>+<id>+<base64 of kind and key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: VerifyingKey,
    id: u32,
}

/// Why a text is no verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a verifier key has three parts: name+id+key")]
    Parts,
    #[error("a key name is empty or has a space, a plus or a control character")]
    Name,
    #[error("a key id is not eight lower-case hexadecimal digits")]
    Id,
    #[error("the key is not base64 of a kind and 32 bytes")]
    Encoding,
    #[error("keys of kind {0:#04x} are not supported")]
    Kind(u8),
    #[error("the bytes are no Ed25519 key, or one that accepts any signature")]
    Weak,
    #[error("the key id does not belong to the name and the key")]
    OtherId,
}

impl VerifierKey {
    pub fn new(name: &str, kind: KeyKind, public: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Weak)?;
        if !canonical_y(public) || key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self {
            name: name.to_owned(),
            kind,
            key,
            id: key_id(name, kind, public),
        })
    }

    /// Reads exactly what `Display` writes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // Base64 may hold a plus; names and ids do not.
        let (name, rest) = text.split_once('+').ok_or(KeyError::Parts)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Parts)?;
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let lower = id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if id.len() != 8 || !lower {
            return Err(KeyError::Id);
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| KeyError::Id)?;
        let bytes = from_base64(key).ok_or(KeyError::Encoding)?;
        let (kind, public) = bytes.split_first().ok_or(KeyError::Encoding)?;
        let kind = KeyKind::from_byte(*kind).ok_or(KeyError::Kind(*kind))?;
        let public = public.try_into().map_err(|_| KeyError::Encoding)?;
        let key = Self::new(name, kind, public)?;
        if key.id == id {
            Ok(key)
        } else {
            Err(KeyError::OtherId)
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The key hash, which signature lines carry.
    pub fn id(&self) -> u32 {
        self.id
    }

    fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        Signature::from_slice(signature)
            .and_then(|signature| self.key.verify_strict(message, &signature))
            .map_err(|_| NoteError::BadSignature {
                name: self.name.clone(),
            })
    }

    fn line(&self, signature: &[u8]) -> String {
        signature_line(&self.name, self.id, signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.byte()], self.public().as_slice()].concat();
        write!(out, "{}+{:08x}+{}", self.name, self.id, to_base64(&key))
    }
}

/// Whether a name can stand in a signature line: not empty, no spaces, plus signs or
/// control characters.
pub fn is_key_name(name: &str) -> bool {
    let refused = |c: char| c.is_whitespace() || c < ' ' || c == '+';
    !name.is_empty() && !name.contains(refused)
}

fn key_id(name: &str, kind: KeyKind, public: &[u8; 32]) -> u32 {
    let mut sha = Sha256::new();
    sha.update(name.as_bytes());
    sha.update([b'\n', kind.byte()]);
    sha.update(public);
    let [a, b, c, d, ..]: [u8; 32] = sha.finalize().into();
    u32::from_be_bytes([a, b, c, d])
}

/// RFC 8032 section 5.1.3: y must be below p = 2^255 - 19.
fn canonical_y(public: &[u8; 32]) -> bool {
    let high = public[31] & 0x7f;
    high != 0x7f || public[1..31].iter().any(|byte| *byte != 0xff) || public[0] < 0xed
}

/// Why a note is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("a note of {0} bytes is too long")]
    TooLong(usize),
    #[error("a note is not UTF-8, has control characters or does not end with a newline")]
    Text,
    #[error("a note has no blank line before signatures")]
    NoSignatures,
    #[error("a note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    #[error("signature line {0} is not: em dash, key name, base64")]
    SignatureLine(usize),
    #[error("not signed by {name}")]
    NotSigned { name: String },
    #[error("the signature of {name} does not verify")]
    BadSignature { name: String },
    #[error("the key of {name} is of the other kind")]
    KeyKind { name: String },
    #[error("a time does not fit 63 bits")]
    Time,
}

/// A signature that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// When a cosigner signed, in seconds since 1970; the last time if it signed twice.
    pub timestamp: Option<u64>,
}

/// A text and the signatures below it. Nothing is verified by reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NoteSignature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

impl NoteSignature {
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = from_base64(signature)?;
        let (id, bytes) = bytes.split_first_chunk::<ID_BYTES>()?;
        if !is_key_name(name) || bytes.is_empty() {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            bytes: bytes.to_vec(),
        })
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.id == key.id && self.name == key.name
    }

    fn line(&self) -> String {
        signature_line(&self.name, self.id, &self.bytes)
    }
}

fn signature_line(name: &str, id: u32, signature: &[u8]) -> String {
    let bytes = [id.to_be_bytes().as_slice(), signature].concat();
    format!("{DASH}{name} {}\n", to_base64(&bytes))
}

impl Note {
    /// Reads a note of at most 64 KiB and 100 signatures.
    pub fn parse(note: impl AsRef<[u8]>) -> Result<Self, NoteError> {
        let note = note.as_ref();
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong(note.len()));
        }
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Text)?;
        check_text(note)?;
        // The last blank line separates text and signatures; the text keeps its newline.
        let blank = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (at, line) in lines.split('\n').enumerate() {
            if at == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(NoteSignature::parse(line).ok_or(NoteError::SignatureLine(at + 1))?);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// Puts a text and signature lines together. Each item may hold several lines.
    pub fn assemble<S: AsRef<str>>(
        text: &str,
        lines: impl IntoIterator<Item = S>,
    ) -> Result<Self, NoteError> {
        let mut note = format!("{text}\n");
        for line in lines {
            note.push_str(line.as_ref());
        }
        let note = Self::parse(note)?;
        // Otherwise a line brought its own blank line, or the text lacks its newline.
        if note.text == text {
            Ok(note)
        } else {
            Err(NoteError::Text)
        }
    }

    /// The same note with further signature lines, such as a witness answers.
    pub fn append(&self, lines: &str) -> Result<Self, NoteError> {
        Self::assemble(&self.text, self.lines().chain([lines.to_owned()]))
    }

    /// The signed text, with its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, each with its newline.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.signatures.iter().map(NoteSignature::line)
    }

    /// The signature lines by this key. Verify the note before keeping them.
    pub fn lines_by(&self, key: &VerifierKey) -> impl Iterator<Item = String> {
        self.signatures
            .iter()
            .filter(|signature| signature.is_by(key))
            .map(NoteSignature::line)
    }

    /// Checks every signature by this key; at least one must be there. Signatures by
    /// other keys do not matter.
    pub fn verify(&self, key: &VerifierKey) -> Result<Verified, NoteError> {
        let mut verified = None;
        for signature in self
            .signatures
            .iter()
            .filter(|signature| signature.is_by(key))
        {
            let timestamp = match key.kind {
                KeyKind::Ed25519 => {
                    key.check(self.text.as_bytes(), &signature.bytes)?;
                    None
                }
                KeyKind::Cosignature => Some(self.verify_cosignature(key, &signature.bytes)?),
            };
            verified = verified.max(Some(timestamp));
        }
        let timestamp = verified.ok_or_else(|| NoteError::NotSigned {
            name: key.name.clone(),
        })?;
        Ok(Verified { timestamp })
    }

    fn verify_cosignature(&self, key: &VerifierKey, bytes: &[u8]) -> Result<u64, NoteError> {
        let bad = || NoteError::BadSignature {
            name: key.name.clone(),
        };
        let (time, signature) = bytes.split_first_chunk::<TIME_BYTES>().ok_or_else(bad)?;
        let time = u64::from_be_bytes(*time);
        if time > MAX_TIME {
            return Err(bad());
        }
        key.check(cosigned_message(&self.text, time).as_bytes(), signature)?;
        Ok(time)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| out.write_str(&signature.line()))
    }
}

/// What a cosigner signs.
pub fn cosigned_message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Signs a text and returns the signature line. The signature is checked.
pub fn sign_line(
    key: &VerifierKey,
    text: &str,
    sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
) -> Result<String, NoteError> {
    check_signing(key, KeyKind::Ed25519, text)?;
    let signature = sign(text.as_bytes());
    key.check(text.as_bytes(), &signature)?;
    Ok(key.line(&signature))
}

/// Cosigns a checkpoint's text at a time, in seconds since 1970, and returns the
/// signature line. The signature is checked.
pub fn cosign_line(
    key: &VerifierKey,
    text: &str,
    time: u64,
    sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES],
) -> Result<String, NoteError> {
    check_signing(key, KeyKind::Cosignature, text)?;
    if time > MAX_TIME {
        return Err(NoteError::Time);
    }
    let message = cosigned_message(text, time);
    let signature = sign(message.as_bytes());
    key.check(message.as_bytes(), &signature)?;
    Ok(key.line(&[time.to_be_bytes().as_slice(), &signature].concat()))
}

fn check_signing(key: &VerifierKey, kind: KeyKind, text: &str) -> Result<(), NoteError> {
    if key.kind != kind {
        return Err(NoteError::KeyKind {
            name: key.name.clone(),
        });
    }
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong(text.len()));
    }
    check_text(text)
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.ends_with('\n') && text.bytes().all(|byte| byte >= 0x20 || byte == b'\n') {
        Ok(())
    } else {
        Err(NoteError::Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Key;

    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const EXAMPLE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    const COSIGNED: &str = "example.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    const POEM: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\n\
        ed è subito sera.\n\n\u{2014} quasimodo.example/salvatore \
        NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

    #[test]
    fn the_published_examples() {
        let key = VerifierKey::parse(VKEY).unwrap();
        assert_eq!(key.to_string(), VKEY);
        assert_eq!(
            (key.name(), key.id(), key.kind()),
            ("example.com/foo", 0x530d_903a, KeyKind::Ed25519)
        );
        let note = Note::parse(EXAMPLE).unwrap();
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.verify(&key), Ok(Verified { timestamp: None }));
        for text in [EXAMPLE, COSIGNED, POEM] {
            assert_eq!(Note::parse(text).unwrap().to_string(), text);
        }
        // The text keeps its own blank line.
        assert!(
            Note::parse(POEM)
                .unwrap()
                .text()
                .ends_with("sole:\n\ned è subito sera.\n")
        );
        // The example's time.
        let note = Note::parse(COSIGNED).unwrap();
        assert_eq!(
            note.signatures[1].bytes[..8],
            1_679_315_147_u64.to_be_bytes()
        );
    }

    #[test]
    fn hostile_keys_are_refused() {
        use KeyError::*;
        let key64 = "AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let weak = to_base64(&[&[1_u8], [0_u8; 32].as_slice()].concat());
        let mut over = [0xff_u8; 32];
        over[31] = 0x7f;
        let over = to_base64(&[&[1_u8], over.as_slice()].concat());
        let short = to_base64(&[1; 32]);
        let other = to_base64(&[&[6_u8], [9_u8; 32].as_slice()].concat());
        for (text, error) in [
            (String::new(), Parts),
            ("a+530d903a".into(), Parts),
            (format!("+530d903a+{key64}"), Name),
            (format!("a b+530d903a+{key64}"), Name),
            (format!("a\u{a0}b+530d903a+{key64}"), Name),
            (format!("a\nb+530d903a+{key64}"), Name),
            (format!("example.com/foo+530D903A+{key64}"), Id),
            (format!("example.com/foo++30d903a+{key64}"), Id),
            (format!("example.com/foo+530d903+{key64}"), Id),
            (format!("example.com/foo+0530d903a+{key64}"), Id),
            (format!("example.com/foo+530d903b+{key64}"), OtherId),
            (format!("example.com/fop+530d903a+{key64}"), OtherId),
            (format!("example.com/foo+530d903a+{key64}\n"), Encoding),
            (format!("example.com/foo+530d903a+{key64}="), Encoding),
            ("example.com/foo+530d903a+".into(), Encoding),
            (format!("a+530d903a+{short}"), Encoding),
            (format!("a+530d903a+{other}"), Kind(6)),
            (format!("a+530d903a+{weak}"), Weak),
            (format!("a+530d903a+{over}"), Weak),
        ] {
            assert_eq!(VerifierKey::parse(&text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn hostile_notes_are_refused() {
        use NoteError::*;
        let line = EXAMPLE.split_once("\n\n").unwrap().1;
        let bare = line.trim_end();
        for (note, error) in [
            (String::new(), Text),
            ("a\n".into(), NoSignatures),
            ("a\n\n".into(), NoSignatures),
            (format!("a\n{line}"), NoSignatures),
            (format!("a\n\n{bare}"), Text),
            (format!("a\t\n\n{line}"), Text),
            (format!("a\r\n\n{line}"), Text),
            (format!("a\0\n\n{line}"), Text),
            (format!("a\n\n{line}\n"), NoSignatures),
            (format!("a\n\n{line}b\n"), SignatureLine(2)),
            (format!("a\n\n-{}", &line[3..]), SignatureLine(1)),
            (format!("a\n\n{bare} \n"), SignatureLine(1)),
            (format!("a\n\n{DASH} AAAAAAA=\n"), SignatureLine(1)),
            (format!("a\n\n{DASH}a+b AAAAAAA=\n"), SignatureLine(1)),
            (format!("a\n\n{DASH}a  AAAAAAA=\n"), SignatureLine(1)),
            (format!("a\n\n{DASH}a AAAAAA==\n"), SignatureLine(1)),
            (format!("a\n\n{DASH}a AAAAAAB=\n"), SignatureLine(1)),
            (format!("a\n\n{}", line.repeat(101)), TooManySignatures),
            (
                format!("{}\n\n{line}", "a".repeat(MAX_NOTE_BYTES)),
                TooLong(MAX_NOTE_BYTES + 2 + line.len()),
            ),
        ] {
            assert_eq!(Note::parse(&note), Err(error), "{note:.80?}");
        }
        assert_eq!(Note::parse([0xff, b'\n']), Err(Text));
        assert!(Note::parse(format!("a\n\n{}", line.repeat(100))).is_ok());
    }

    #[test]
    fn unknown_signatures_do_not_matter_and_bad_ones_do() {
        let (key, other) = (Key::log("log"), Key::log("other"));
        let text = "text\n";
        let line = key.sign(text);
        let not_signed = NoteError::NotSigned { name: "log".into() };
        let bad = NoteError::BadSignature { name: "log".into() };
        // Same name or same id, but not both.
        let unknown =
            signature_line("log", 7, &[1; 64]) + &signature_line("else", key.public.id, &[1; 64]);
        let note = Note::assemble(text, [&unknown]).unwrap();
        assert_eq!(note.verify(&key.public), Err(not_signed.clone()));
        let note = note.append(&(other.sign(text) + &line)).unwrap();
        assert_eq!(note.lines().count(), 4);
        assert_eq!(note.lines_by(&key.public).collect::<String>(), line);
        assert_eq!(note.verify(&key.public), Ok(Verified { timestamp: None }));
        assert_eq!(note.verify(&other.public), Ok(Verified { timestamp: None }));
        // A second, bad signature by the same key refuses the note; also a short one.
        for bytes in [vec![0; 64], vec![0; 63], vec![0; 65], vec![0; 72], vec![0]] {
            let line = signature_line("log", key.public.id, &bytes);
            assert_eq!(
                note.append(&line).unwrap().verify(&key.public),
                Err(bad.clone())
            );
        }
        let moved = Note::assemble("text2\n", [&line]).unwrap();
        assert_eq!(moved.verify(&key.public), Err(bad));
    }

    #[test]
    fn cosignatures() {
        let key = Key::witness("w");
        let text = "log\n1\nx\n";
        let note = Note::assemble(text, [key.cosign(text, 17), key.cosign(text, 15)]).unwrap();
        assert_eq!(
            note.verify(&key.public),
            Ok(Verified {
                timestamp: Some(17)
            })
        );
        // The other kind has another id.
        let plain = VerifierKey::new("w", KeyKind::Ed25519, key.public.public()).unwrap();
        assert!(matches!(
            note.verify(&plain),
            Err(NoteError::NotSigned { .. })
        ));
        // Another time, a time beyond 63 bits, too short.
        let mut bytes = note.signatures[0].bytes.clone();
        for at in [0, 7] {
            bytes[at] ^= 0x80;
            let line = signature_line("w", key.public.id, &bytes);
            let note = Note::assemble(text, [line]).unwrap();
            assert!(matches!(
                note.verify(&key.public),
                Err(NoteError::BadSignature { .. })
            ));
        }
        let line = signature_line("w", key.public.id, &bytes[..7]);
        assert!(
            Note::assemble(text, [line])
                .unwrap()
                .verify(&key.public)
                .is_err()
        );
        let sign = |_: &[u8]| [0; 64];
        assert_eq!(
            cosign_line(&key.public, text, MAX_TIME + 1, sign),
            Err(NoteError::Time)
        );
    }

    #[test]
    fn what_could_not_be_read_is_not_signed() {
        let (log, witness) = (Key::log("a"), Key::witness("a"));
        let sign = |_: &[u8]| [0; 64];
        assert!(matches!(
            sign_line(&witness.public, "a\n", sign),
            Err(NoteError::KeyKind { .. })
        ));
        assert!(matches!(
            cosign_line(&log.public, "a\n", 1, sign),
            Err(NoteError::KeyKind { .. })
        ));
        assert_eq!(sign_line(&log.public, "a", sign), Err(NoteError::Text));
        assert_eq!(sign_line(&log.public, "a\t\n", sign), Err(NoteError::Text));
        // A signer that signs nothing.
        assert!(matches!(
            sign_line(&log.public, "a\n", sign),
            Err(NoteError::BadSignature { .. })
        ));
        // A line cannot bring more text, nor a text signatures.
        let line = log.sign("a\n");
        assert_eq!(
            Note::assemble("a\n", [format!("{line}\n{line}")]),
            Err(NoteError::Text)
        );
        assert_eq!(Note::assemble("a", [&line]), Err(NoteError::NoSignatures));
        assert_eq!(
            Note::assemble::<&str>("a\n", []),
            Err(NoteError::NoSignatures)
        );
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies(text in "([^\\x00-\\x1f]{0,20}\n){1,5}", time in 0..=MAX_TIME) {
            let (log, witness) = (Key::log("log"), Key::witness("w"));
            let note = Note::assemble(&text, [log.sign(&text), witness.cosign(&text, time)]).unwrap();
            prop_assert_eq!(note.text(), &text);
            let read = Note::parse(note.to_string()).unwrap();
            prop_assert_eq!(&read, &note);
            prop_assert_eq!(read.verify(&log.public), Ok(Verified { timestamp: None }));
            prop_assert_eq!(read.verify(&witness.public), Ok(Verified { timestamp: Some(time) }));
        }

        #[test]
        fn a_flipped_bit_never_verifies(at: prop::sample::Index, bit in 0_u8..8) {
            let mut note = EXAMPLE.as_bytes().to_vec();
            let at = at.index(note.len());
            note[at] ^= 1 << bit;
            let key = VerifierKey::parse(VKEY).unwrap();
            if let Ok(note) = Note::parse(note) {
                prop_assert!(note.verify(&key).is_err());
            }
            let mut key = VKEY.as_bytes().to_vec();
            let at = at % key.len();
            key[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(key) {
                prop_assert!(VerifierKey::parse(&text).is_err());
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, text: String) {
            let _ = Note::parse(&bytes);
            let _ = VerifierKey::parse(&text);
        }
    }
}
