//! What was read in a range of a log: a function of the log and of the logs before it, and of nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};

use mz_journal::{Audit, AuditKind, SubjectTag};
use mz_keys::vrf::{SubjectLabel, key_tag};
use mz_tlog::merkle::{Frontier, Hash, MemoryTree, leaf_hash};

use super::error::AbsenceFault;
use super::leaf::{Leaf, key};
use super::statement::{After, LoggedKey};
use crate::log::{Disk, Entry, Stored};

/// Readings: what a department got to see, or could have.
const READINGS: [AuditKind; 3] = [AuditKind::Delivered, AuditKind::Lookup, AuditKind::Exposed];

/// What was read in a range.
#[derive(Debug)]
pub(crate) struct Range {
    /// By key, each once.
    pub leaves: Vec<Leaf>,
    pub tree: MemoryTree,
    pub unbound: u64,
    pub key: Option<LoggedKey>,
    pub after: Option<After>,
    /// Of the log at the range's end.
    pub root: Hash,
    /// When the log's first record was written, milliseconds since 1970.
    pub began_ms: Option<i64>,
}

/// The logs before a log, newest first.
pub(crate) type Earlier<'e> =
    &'e mut dyn FnMut(&After) -> Result<Option<(String, Labels)>, AbsenceFault>;

/// One log's labels, and where their key was logged.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// With the key's tag, and the entry that said it.
    of: HashMap<SubjectTag, ([u8; 16], SubjectLabel, u64)>,
    key: Option<([u8; 32], u64)>,
    after: Option<After>,
    /// Of the log before, as this one's first entry says.
    after_root: Hash,
    /// Of the log at the size that was read.
    root: Hash,
}

impl Labels {
    fn take(&mut self, index: u64, audit: &Audit<'_>) -> Result<(), AbsenceFault> {
        match audit.kind {
            AuditKind::SubjectKey => match self.key {
                Some((known, _)) if known != audit.event => Err(AbsenceFault::TwoKeys(index)),
                Some(_) => Ok(()),
                None => {
                    self.key = Some((audit.event, index));
                    Ok(())
                }
            },
            AuditKind::SubjectBound => {
                let said = (audit.record.0, audit.event, index);
                match self.of.insert(audit.subject, said) {
                    Some((tag, label, _)) if (tag, label) != (said.0, said.1) => {
                        Err(AbsenceFault::TwoLabels(index))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// All labels of a log, for one that follows it.
    pub(crate) fn of_log(stored: &Stored<'_, impl Disk>) -> Result<Self, AbsenceFault> {
        let mut labels = Self::default();
        let mut frontier = Frontier::default();
        let mut fault = None;
        stored.entries(0, stored.size(), |index, entry| {
            frontier.push(leaf_hash(entry));
            if fault.is_none() {
                fault = labels.entry(index, entry).err();
            }
            Ok(())
        })?;
        labels.root = frontier.root();
        fault.map_or(Ok(labels), Err)
    }

    /// Takes an entry; answers the audit record in it.
    fn entry<'e>(
        &mut self,
        index: u64,
        entry: &'e [u8],
    ) -> Result<Option<Audit<'e>>, AbsenceFault> {
        match Entry::read(entry).map_err(|_| AbsenceFault::Entry(index))? {
            Entry::Audit(bytes) => {
                let audit = Audit::read(bytes).map_err(|_| AbsenceFault::Entry(index))?;
                self.take(index, &audit)?;
                return Ok(Some(audit));
            }
            Entry::Opened(opened) if !opened.origin.is_empty() => {
                self.after_root = opened.root;
                self.after = Some(After {
                    origin: opened.origin,
                    size: opened.size,
                });
            }
            _ => {}
        }
        Ok(None)
    }
}

#[derive(Clone, Copy)]
struct Readings {
    count: u64,
    first_ms: i64,
    last_ms: i64,
}

/// What a walk through a log has found so far.
struct Walk {
    shard: u16,
    shards: u16,
    labels: Labels,
    began_ms: Option<i64>,
    read: BTreeMap<(SubjectTag, String), Readings>,
}

impl Walk {
    /// `counts`: the entry is in a range that is asked for.
    fn take(&mut self, index: u64, entry: &[u8], counts: bool) -> Result<(), AbsenceFault> {
        let Some(audit) = self.labels.entry(index, entry)? else {
            return Ok(());
        };
        if audit.lane % self.shards.max(1) != self.shard {
            return Err(AbsenceFault::Lane(index));
        }
        self.began_ms.get_or_insert(audit.at_ms);
        let whose = audit.subject != SubjectTag::default() && !audit.consumer.is_empty();
        if !counts || !whose || !READINGS.contains(&audit.kind) {
            return Ok(());
        }
        let at = audit.at_ms;
        let place = (audit.subject, audit.consumer.into_owned());
        let readings = self.read.entry(place).or_insert(Readings {
            count: 0,
            first_ms: at,
            last_ms: at,
        });
        readings.count += 1;
        readings.first_ms = readings.first_ms.min(at);
        readings.last_ms = readings.last_ms.max(at);
        Ok(())
    }

    /// The range that ends here.
    fn cut(&mut self, origin: &str, earlier: Earlier<'_>) -> Result<Range, AbsenceFault> {
        let read = std::mem::take(&mut self.read);
        let people: HashSet<SubjectTag> = read.keys().map(|(who, _)| *who).collect();
        let (found, key) = labelled(origin, &self.labels, &people, earlier)?;
        let mut leaves: Vec<Leaf> = Vec::with_capacity(read.len());
        for ((who, department), readings) in read {
            if let Some(label) = found.get(&who) {
                leaves.push(Leaf {
                    key: self::key(label, &department),
                    count: readings.count,
                    first_ms: readings.first_ms,
                    last_ms: readings.last_ms,
                });
            }
        }
        leaves.sort_unstable_by_key(|leaf| leaf.key);
        // Two tags under one label are one person: the bus's key for tags was replaced.
        leaves.dedup_by(|next, kept| {
            let same = next.key == kept.key;
            if same {
                kept.count += next.count;
                kept.first_ms = kept.first_ms.min(next.first_ms);
                kept.last_ms = kept.last_ms.max(next.last_ms);
            }
            same
        });
        Ok(Range {
            tree: leaves.iter().map(Leaf::hash).collect(),
            leaves,
            unbound: (people.len() - found.len()) as u64,
            key,
            after: self.labels.after.clone(),
            began_ms: self.began_ms,
            root: Hash::default(),
        })
    }
}

/// Reads the whole log `origin`, and gives `each` what was read in `from..ends[0]`, `ends[0]..ends[1]`, …
/// `lanes`: the shard and how many there are. Answers the tree head of all that was read: whoever trusts the
/// ranges compares it with a signed checkpoint.
///
/// # Errors
/// A log that is not what a ledger writes.
pub(crate) fn ranges(
    stored: &Stored<'_, impl Disk>,
    origin: &str,
    (from, ends): (u64, &[u64]),
    (shard, shards): (u16, u16),
    earlier: Earlier<'_>,
    mut each: impl FnMut(Range),
) -> Result<Hash, AbsenceFault> {
    let last = ends.last().copied().unwrap_or(from);
    if from > last || last > stored.size() || !ends.is_sorted() {
        return Err(AbsenceFault::Ends(last));
    }
    let mut ends = ends.iter().copied().peekable();
    let mut frontier = Frontier::default();
    let mut walk = Walk {
        shard,
        shards,
        labels: Labels::default(),
        began_ms: None,
        read: BTreeMap::new(),
    };
    let mut fault: Option<AbsenceFault> = None;
    let mut cuts = |walk: &mut Walk, frontier: &Frontier| {
        while ends.next_if_eq(&frontier.size()).is_some() {
            let mut range = walk.cut(origin, earlier)?;
            range.root = frontier.root();
            each(range);
        }
        Ok(())
    };
    fault = cuts(&mut walk, &frontier).err().or(fault);
    stored.entries(0, stored.size(), |index, entry| {
        frontier.push(leaf_hash(entry));
        if index < last && fault.is_none() {
            fault = walk.take(index, entry, index >= from).err();
            fault = fault.take().or_else(|| cuts(&mut walk, &frontier).err());
        }
        Ok(())
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    match frontier.size() == stored.size() {
        true => Ok(frontier.root()),
        false => Err(AbsenceFault::Ends(frontier.size())),
    }
}

/// The labels of these people, from the log and as many before it as it takes; all under one key.
fn labelled(
    origin: &str,
    own: &Labels,
    people: &HashSet<SubjectTag>,
    earlier: Earlier<'_>,
) -> Result<(HashMap<SubjectTag, SubjectLabel>, Option<LoggedKey>), AbsenceFault> {
    let mut found: HashMap<SubjectTag, ([u8; 16], SubjectLabel, u64)> = HashMap::new();
    let mut key: Option<LoggedKey> = None;
    let mut before: Option<(String, Labels)> = None;
    loop {
        let (name, labels) = before
            .as_ref()
            .map_or((origin, own), |(name, labels)| (name.as_str(), labels));
        if let Some((public, index)) = labels.key {
            let known = key.get_or_insert(LoggedKey {
                public,
                origin: name.to_owned(),
                index,
            });
            // An older function says nothing under this one.
            if known.public != public {
                break;
            }
        }
        for who in people {
            if let (false, Some(said)) = (found.contains_key(who), labels.of.get(who)) {
                found.insert(*who, *said);
            }
        }
        let done = found.len() == people.len() && (key.is_some() || found.is_empty());
        let root = labels.after_root;
        before = match &labels.after {
            Some(after) if !done => earlier(after)?,
            _ => None,
        };
        // Whoever trusts this log trusts the one that it names, and no other of that name.
        if let Some((name, _)) = before.as_ref().filter(|(_, labels)| labels.root != root) {
            return Err(AbsenceFault::Earlier(name.clone()));
        }
        if before.is_none() {
            break;
        }
    }
    let tag = key.as_ref().map(|key| key_tag(&key.public));
    let mut labels = HashMap::with_capacity(found.len());
    for (who, (said, label, index)) in found {
        if Some(said) != tag {
            return Err(AbsenceFault::UnknownKey(index));
        }
        labels.insert(who, label);
    }
    Ok((labels, key))
}
