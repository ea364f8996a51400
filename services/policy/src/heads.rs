//! Where each person's grants begin: a hash table made for one thing, to answer with one cache line. A
//! look-up in an index of gigabytes is nothing but waiting for memory: a general table waits for its
//! control bytes, then for its slot, then for the entry; this one for its line, then for the entry.
//!
//! Lines of twelve slots, found by the hash's high bits; a byte of its low bits stands beside each slot,
//! so that hardly ever a wrong entry is looked at. What does not fit goes to the next line.

/// Slots of one line: twelve times (4 + 1) bytes and a flag fill 64 bytes.
const SLOTS: usize = 12;
/// Most slots in use, in hundredths: beyond it too many look-ups need a second line.
const FULL: usize = 75;

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    at: [u32; SLOTS],
    /// 0: empty.
    marks: [u8; SLOTS],
    /// Something that belongs here stands further on.
    spilt: bool,
}

impl Line {
    /// The high bit of each byte whose mark is the wanted one, all twelve at once; perhaps that of a byte
    /// above one of them too, which its entry then shows.
    fn hits(&self, wanted: u8) -> u128 {
        const ONES: u128 = u128::from_ne_bytes([1; 16]);
        let mut bytes = [0; 16];
        bytes[..SLOTS].copy_from_slice(&self.marks);
        let differ = u128::from_le_bytes(bytes) ^ (ONES * u128::from(wanted));
        differ.wrapping_sub(ONES) & !differ & (ONES << 7) & ((1 << (8 * SLOTS)) - 1)
    }
}

/// Numbers of entries by the hash of their person.
#[derive(Default)]
pub(crate) struct Heads {
    lines: Vec<Line>,
    used: usize,
}

fn mark(hash: u64) -> u8 {
    // The low byte; 0 means empty.
    (hash as u8).max(1)
}

impl Heads {
    /// Room for at least one more.
    pub(crate) fn has_room(&self) -> bool {
        (self.used + 1) * 100 <= self.lines.len() * SLOTS * FULL
    }

    /// Empty, a sixth larger: the caller puts everything back in. Growing by little leaves few slots empty
    /// without filling lines to the brim.
    pub(crate) fn grow(&mut self) {
        let lines = self.lines.len().max(2);
        // Never the old and the new side by side.
        self.lines = Vec::new();
        self.lines = vec![Line::default(); lines + lines / 6 + 1];
        self.used = 0;
    }

    pub(crate) fn clear(&mut self) {
        self.lines.fill(Line::default());
        self.used = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    fn first_line(&self, hash: u64) -> usize {
        // Below the number of lines.
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() {
            0
        } else {
            line + 1
        }
    }

    fn place(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let wanted = mark(hash);
        let mut at = self.first_line(hash);
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            let mut hits = line.hits(wanted);
            while hits != 0 {
                let slot = hits.trailing_zeros() as usize / 8;
                if line.at.get(slot).is_some_and(|number| same(*number)) {
                    return Some((at, slot));
                }
                hits &= hits - 1;
            }
            if !line.spilt {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// The number under this hash for which `same` holds.
    pub(crate) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let (line, slot) = self.place(hash, same)?;
        Some(self.lines[line].at[slot])
    }

    pub(crate) fn find_mut(&mut self, hash: u64, same: impl Fn(u32) -> bool) -> Option<&mut u32> {
        let (line, slot) = self.place(hash, same)?;
        Some(&mut self.lines[line].at[slot])
    }

    /// Puts in a number that is not there; there must be room.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        debug_assert!(self.has_room());
        let mut at = self.first_line(hash);
        loop {
            let line = &mut self.lines[at];
            if let Some(slot) = line.marks.iter().position(|mark| *mark == 0) {
                line.marks[slot] = mark(hash);
                line.at[slot] = number;
                self.used += 1;
                return;
            }
            line.spilt = true;
            at = self.after(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_line_is_a_cache_line() {
        assert_eq!(size_of::<Line>(), 64);
    }

    proptest! {
        /// Against a map, with hashes that meet in lines and marks.
        #[test]
        fn everything_is_found_again(hashes in prop::collection::vec((0u64..4, 0u64..3), 0..300)) {
            let hashes: Vec<u64> = hashes
                .into_iter()
                .enumerate()
                .map(|(at, (high, low))| high << 62 | (at as u64) << 8 | low)
                .collect();
            let mut heads = Heads::default();
            let mut model = BTreeMap::new();
            for (at, hash) in hashes.iter().enumerate() {
                if !heads.has_room() {
                    heads.grow();
                    for (hash, number) in &model {
                        heads.insert(*hash, *number);
                    }
                }
                heads.insert(*hash, at as u32);
                model.insert(*hash, at as u32);
            }
            for (hash, number) in &model {
                prop_assert_eq!(heads.find(*hash, |found| found == *number), Some(*number));
                prop_assert_eq!(heads.find(*hash, |_| false), None);
            }
            prop_assert!(heads.find(9 << 40, |_| false).is_none());
            heads.clear();
            prop_assert!(model.keys().all(|hash| heads.find(*hash, |_| true).is_none()));
        }
    }
}
