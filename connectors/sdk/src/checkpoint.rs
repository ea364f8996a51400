//! The connector's memory on `state.<department>.<stream>`: what was published, under which version,
//! and how far. One partition, compacted, written in the transaction of the events it speaks of.
//!
//! | Key | Value |
//! |---|---|
//! | `head` | [`Head`] |
//! | `r` ‖ record tag | [`RecordState`] |
//! | `q` ‖ reject tag | [`RejectMark`] |
//!
//! Values are Avro-encoded by hand with a leading format version. No identity number and no field is
//! in it in clear: tags and hashes are keyed, the last value is encrypted (see [`crate::last`]).

use mz_seal::avro::{AvroFault, Reader, Writer};

pub(crate) const HEAD_KEY: &[u8] = b"head";
const FORMAT: i32 = 1;
const RECORD: u8 = b'r';
const REJECT: u8 = b'q';
/// Distinct (dataset, lane) pairs of one stream: 64 datasets on 1,024 lanes.
const MAX_SEQUENCES: u64 = 65_536;

/// A record's or reject's keyed tag.
pub(crate) type Tag = [u8; 16];

/// A key of the checkpoint topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Head,
    Record(Tag),
    Reject(Tag),
}

impl Key {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Head => HEAD_KEY.to_vec(),
            Self::Record(tag) => [&[RECORD][..], &tag].concat(),
            Self::Reject(tag) => [&[REJECT][..], &tag].concat(),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes == HEAD_KEY {
            return Some(Self::Head);
        }
        let (kind, tag) = bytes.split_first()?;
        let tag = Tag::try_from(tag).ok()?;
        match *kind {
            RECORD => Some(Self::Record(tag)),
            REJECT => Some(Self::Reject(tag)),
            _ => None,
        }
    }
}

/// The last number given out on one dataset and lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub dataset: String,
    pub lane: u16,
    pub last: u64,
}

/// Where the stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub epoch: u32,
    /// Last committed batch; 0 before the first.
    pub batch: u64,
    /// Last version given out.
    pub counter: u64,
    pub complete_to_ms: i64,
    pub rejected: u64,
    /// Complete snapshots in which no known record was missing: rows that were rejected by then are
    /// about none of the records known by then.
    pub settled: u64,
    pub sequences: Vec<Sequence>,
    pub position: Option<Vec<u8>>,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.sequences.len() * 32);
        let mut to = Writer(&mut out);
        to.int(FORMAT);
        to.long(i64::from(self.epoch));
        to.unsigned(self.batch);
        to.unsigned(self.counter);
        to.long(self.complete_to_ms);
        to.unsigned(self.rejected);
        to.unsigned(self.settled);
        to.array(self.sequences.iter(), |to, sequence| {
            to.string(&sequence.dataset);
            to.int(i32::from(sequence.lane));
            to.unsigned(sequence.last);
        });
        to.option(self.position.as_ref(), |to, position| to.bytes(position));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, AvroFault> {
        let mut from = Reader::new(bytes);
        format(&mut from)?;
        let mut head = Self {
            epoch: narrow(from.long()?)?,
            batch: count(&mut from)?,
            counter: count(&mut from)?,
            complete_to_ms: from.long()?,
            rejected: count(&mut from)?,
            settled: count(&mut from)?,
            sequences: Vec::new(),
            position: None,
        };
        while let Some(block) = from.block()? {
            if block.count > MAX_SEQUENCES - head.sequences.len() as u64 {
                return Err(AvroFault::TooManyItems);
            }
            for _ in 0..block.count {
                head.sequences.push(Sequence {
                    dataset: from.string()?.to_owned(),
                    lane: narrow(from.long()?)?,
                    last: count(&mut from)?,
                });
            }
            block.check(&from)?;
        }
        if from.union(2)? == 1 {
            head.position = Some(from.bytes()?.to_vec());
        }
        from.finish()?;
        Ok(head)
    }
}

/// What was last published about one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordState {
    /// Keyed hash of the published fields.
    pub hash: [u8; 8],
    /// Keyed check of whom it was about.
    pub subject: [u8; 4],
    pub epoch: u32,
    pub counter: u64,
    pub withdrawn: bool,
    /// The published fields, encrypted; absent once withdrawn.
    pub last: Option<Vec<u8>>,
}

impl RecordState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.last.as_ref().map_or(0, Vec::len));
        let mut to = Writer(&mut out);
        to.int(FORMAT);
        to.fixed(&self.hash);
        to.fixed(&self.subject);
        to.long(i64::from(self.epoch));
        to.unsigned(self.counter);
        to.boolean(self.withdrawn);
        to.option(self.last.as_ref(), |to, last| to.bytes(last));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, AvroFault> {
        let mut from = Reader::new(bytes);
        format(&mut from)?;
        let mut state = Self {
            hash: from.fixed()?,
            subject: from.fixed()?,
            epoch: narrow(from.long()?)?,
            counter: count(&mut from)?,
            withdrawn: from.boolean()?,
            last: None,
        };
        if from.union(2)? == 1 {
            state.last = Some(from.bytes()?.to_vec());
        }
        from.finish()?;
        Ok(state)
    }
}

/// A rejected row that the quarantine topic already tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RejectMark {
    pub first_ms: i64,
    /// [`Head::settled`] when the row was first rejected.
    pub settled: u64,
}

impl RejectMark {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        let mut to = Writer(&mut out);
        to.int(FORMAT);
        to.long(self.first_ms);
        to.unsigned(self.settled);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, AvroFault> {
        let mut from = Reader::new(bytes);
        format(&mut from)?;
        let mark = Self {
            first_ms: from.long()?,
            settled: count(&mut from)?,
        };
        from.finish()?;
        Ok(mark)
    }
}

fn format(from: &mut Reader<'_>) -> Result<(), AvroFault> {
    if from.int()? == FORMAT {
        Ok(())
    } else {
        Err(AvroFault::OutOfRange)
    }
}

fn count(from: &mut Reader<'_>) -> Result<u64, AvroFault> {
    u64::try_from(from.long()?).map_err(|_| AvroFault::OutOfRange)
}

fn narrow<T: TryFrom<i64>>(number: i64) -> Result<T, AvroFault> {
    T::try_from(number).map_err(|_| AvroFault::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn heads_survive(epoch in 1u32.., batch in 0..i64::MAX as u64, complete in any::<i64>(),
            lanes in proptest::collection::vec(any::<(u16, u32)>(), 0..70), position in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50))) {
            let sequences = lanes.iter().map(|(lane, last)| Sequence { dataset: "a.b.v1".into(), lane: *lane, last: u64::from(*last) }).collect();
            let head = Head { epoch, batch, counter: batch / 2, complete_to_ms: complete, rejected: 3, settled: 5, sequences, position };
            prop_assert_eq!(Head::decode(&head.encode()), Ok(head));
        }

        #[test]
        fn record_states_survive(hash in any::<[u8; 8]>(), subject in any::<[u8; 4]>(), epoch in any::<u32>(),
            withdrawn in any::<bool>(), last in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..90))) {
            let state = RecordState { hash, subject, epoch, counter: 9, withdrawn, last };
            prop_assert_eq!(RecordState::decode(&state.encode()), Ok(state));
        }

        #[test]
        fn hostile_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Head::decode(&bytes), RecordState::decode(&bytes), Key::decode(&bytes));
        }
    }

    #[test]
    fn keys_come_back() {
        for key in [Key::Head, Key::Record([7; 16]), Key::Reject([9; 16])] {
            assert_eq!(Key::decode(&key.encode()), Some(key));
        }
        assert_eq!(Key::decode(b"x123456789012345"), None);
    }
}
