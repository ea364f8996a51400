//! What was published, in memory: 28 bytes a record, so that ten million records fit in half a
//! gigabyte. Built from the checkpoint topic at every start.

use crate::checkpoint::Tag;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Tags are outputs of a keyed function: their first bytes are as good a hash as any.
#[derive(Default)]
pub(crate) struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // `[u8; 16]` writes its length first, then its bytes.
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_ne_bytes(*head);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write_u64(&mut self, _length: u64) {}
}

const SEEN: u8 = 1;
const WITHDRAWN: u8 = 2;
/// Published in an earlier epoch: whatever the register says is news.
const OLD: u8 = 4;
const FLAGS: u8 = SEEN | WITHDRAWN | OLD;

/// One record. The flags live in three bits of the hash: 61 bits still tell two rows apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    hash: [u8; 8],
    pub subject: [u8; 4],
}

impl Entry {
    fn has(&self, flag: u8) -> bool {
        self.hash[0] & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.hash[0] |= flag;
        } else {
            self.hash[0] &= !flag;
        }
    }

    pub(crate) fn seen(&self) -> bool {
        self.has(SEEN)
    }

    pub(crate) fn withdrawn(&self) -> bool {
        self.has(WITHDRAWN)
    }

    /// Whether this is what was published.
    pub(crate) fn is(&self, hash: &[u8; 8]) -> bool {
        !self.has(OLD) && masked(&self.hash) == masked(hash)
    }
}

fn masked(hash: &[u8; 8]) -> u64 {
    let mut hash = *hash;
    hash[0] &= !FLAGS;
    u64::from_ne_bytes(hash)
}

/// All records of a stream.
#[derive(Default)]
pub(crate) struct Known {
    records: HashMap<Tag, Entry, BuildHasherDefault<TagHasher>>,
    withdrawn: u64,
}

impl Known {
    /// A pass over the whole register begins: nothing has appeared yet.
    pub(crate) fn begin_snapshot(&mut self) {
        for entry in self.records.values_mut() {
            entry.set(SEEN, false);
        }
    }

    /// A new epoch: everything is to be published again.
    pub(crate) fn age(&mut self) {
        for entry in self.records.values_mut() {
            entry.set(OLD, true);
        }
    }

    pub(crate) fn get(&self, tag: &Tag) -> Option<&Entry> {
        self.records.get(tag)
    }

    /// It stands in the register, whatever it says.
    pub(crate) fn mark_seen(&mut self, tag: &Tag) {
        if let Some(entry) = self.records.get_mut(tag) {
            entry.set(SEEN, true);
        }
    }

    pub(crate) fn put(
        &mut self,
        tag: Tag,
        hash: [u8; 8],
        subject: [u8; 4],
        withdrawn: bool,
        seen: bool,
    ) {
        let mut entry = Entry { hash, subject };
        entry.hash[0] &= !FLAGS;
        entry.set(WITHDRAWN, withdrawn);
        entry.set(SEEN, seen);
        let before = self.records.insert(tag, entry);
        self.withdrawn -= u64::from(before.is_some_and(|entry| entry.withdrawn()));
        self.withdrawn += u64::from(withdrawn);
    }

    pub(crate) fn remove(&mut self, tag: &Tag) {
        if let Some(entry) = self.records.remove(tag) {
            self.withdrawn -= u64::from(entry.withdrawn());
        }
    }

    /// Records that are published and not withdrawn.
    pub(crate) fn live(&self) -> u64 {
        self.records.len() as u64 - self.withdrawn
    }

    /// Live records that did not appear in this pass.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Tag> {
        self.records
            .iter()
            .filter(|(_, entry)| !entry.seen() && !entry.withdrawn())
            .map(|(tag, _)| tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_never_touch_what_tells_rows_apart() {
        let mut known = Known::default();
        known.put([1; 16], [0xff; 8], [0; 4], false, false);
        assert!(known.get(&[1; 16]).unwrap().is(&[0xff; 8]));
        assert_eq!(known.missing().count(), 1);
        known.mark_seen(&[1; 16]);
        assert!(known.get(&[1; 16]).unwrap().is(&[0xff; 8]));
        assert_eq!(known.missing().count(), 0);
        known.age();
        assert!(!known.get(&[1; 16]).unwrap().is(&[0xff; 8]));
        known.put([1; 16], [0; 8], [0; 4], true, true);
        assert_eq!(
            (known.live(), known.get(&[1; 16]).unwrap().withdrawn()),
            (0, true)
        );
        known.remove(&[1; 16]);
        assert_eq!(known.live(), 0);
        assert!(size_of::<(Tag, Entry)>() == 28);
    }
}
