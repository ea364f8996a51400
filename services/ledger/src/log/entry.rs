//! What stands in a log: byte for byte in docs/audit-format.md. The first byte says what follows.

use mz_journal::AUDIT_WRITERS;
use mz_tlog::merkle::Hash;

/// An audit record as it stood in `bus.audit`.
const AUDIT: u8 = 1;
/// The log's first entry: which log it follows.
const OPENED: u8 = 2;
/// Where `bus.audit` did not hold together.
const BREAK: u8 = 3;

const OPENED_V1: &str = "mianzheng/ledger/opened/v1";
const BREAK_V1: &str = "mianzheng/ledger/break/v1";

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The bytes of an audit record ([`mz_journal::Audit`]), unchanged: its chain can be walked from the
    /// log alone.
    Audit(&'a [u8]),
    Opened(Opened),
    Break(Break),
}

/// A log's first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The closed log before it; empty for a shard's first.
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// A record of `bus.audit` that does not continue the ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// As [`mz_journal::ChainBreak::code`].
    pub code: String,
    /// Of the record, as far as it could be read: a writer's name or empty.
    pub writer: String,
    pub lane: u16,
    /// Number of the writer's last good record in the lane.
    pub last: u64,
    /// The number found; 0 when it could not be read.
    pub found: u64,
    /// Offset in `bus.audit`.
    pub offset: i64,
    /// Whether the record itself follows as the next entry. What can't be read does not.
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    #[error("an empty entry")]
    Empty,
    #[error("an entry of unknown kind {0}")]
    Kind(u8),
    #[error("an entry that is not written as it must be")]
    Text,
}

impl Entry<'_> {
    /// Replaces the contents of `out` by the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Audit(bytes) => {
                out.push(AUDIT);
                out.extend_from_slice(bytes);
            }
            Self::Opened(opened) => {
                out.push(OPENED);
                let Opened { origin, size, root } = opened;
                let text = format!("{OPENED_V1}\n{origin}\n{size}\n{}\n", hex(root));
                out.extend_from_slice(text.as_bytes());
            }
            Self::Break(broken) => {
                out.push(BREAK);
                let Break {
                    code,
                    writer,
                    lane,
                    last,
                    found,
                    offset,
                    kept,
                } = broken;
                let kept = u8::from(*kept);
                let text = format!(
                    "{BREAK_V1}\n{code}\n{writer}\n{lane}\n{last}\n{found}\n{offset}\n{kept}\n"
                );
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// Reads one entry; what [`Entry::encode`] would not write is refused.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EntryFault> {
        let (kind, rest) = bytes.split_first().ok_or(EntryFault::Empty)?;
        let entry = match *kind {
            AUDIT => return Ok(Self::Audit(rest)),
            OPENED => Self::Opened(opened(rest).ok_or(EntryFault::Text)?),
            BREAK => Self::Break(broken(rest).ok_or(EntryFault::Text)?),
            other => return Err(EntryFault::Kind(other)),
        };
        // One spelling only.
        let mut again = Vec::new();
        entry.encode(&mut again);
        if again == bytes {
            Ok(entry)
        } else {
            Err(EntryFault::Text)
        }
    }
}

fn opened(bytes: &[u8]) -> Option<Opened> {
    let lines = lines::<4>(bytes)?;
    let [OPENED_V1, origin, size, root] = lines else {
        return None;
    };
    let mut hash = [0; 32];
    if root.len() != 64 || !root.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&root[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Opened {
        origin: origin.to_owned(),
        size: size.parse().ok()?,
        root: hash,
    })
}

fn broken(bytes: &[u8]) -> Option<Break> {
    let lines = lines::<8>(bytes)?;
    let [BREAK_V1, code, writer, lane, last, found, offset, kept] = lines else {
        return None;
    };
    let known = AUDIT_WRITERS.iter().any(|known| known.name() == writer);
    if !(known || writer.is_empty()) {
        return None;
    }
    Some(Break {
        code: code.to_owned(),
        writer: writer.to_owned(),
        lane: lane.parse().ok()?,
        last: last.parse().ok()?,
        found: found.parse().ok()?,
        offset: offset.parse().ok()?,
        kept: match kept {
            "0" => false,
            "1" => true,
            _ => return None,
        },
    })
}

fn lines<const N: usize>(bytes: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut lines = text.split('\n');
    let mut found = [""; N];
    for line in &mut found {
        *line = lines.next()?;
    }
    lines.next().is_none().then_some(found)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_nothing_else_is_one() {
        let opened = Opened {
            origin: "dg-bus/audit/0/2026".to_owned(),
            size: 7,
            root: [0xab; 32],
        };
        let broken = Break {
            code: "AUDIT_GAP".to_owned(),
            writer: "vault".to_owned(),
            lane: 3,
            last: 5,
            found: 9,
            offset: -1,
            kept: true,
        };
        let all = [
            Entry::Audit(b"anything"),
            Entry::Opened(Opened::default()),
            Entry::Opened(opened),
            Entry::Break(broken),
        ];
        for entry in &all {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            assert_eq!(Entry::read(&bytes).as_ref(), Ok(entry));
            if matches!(entry, Entry::Audit(_)) {
                continue;
            }
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x20;
                assert_ne!(Entry::read(&other).as_ref(), Ok(entry), "byte {at}");
                assert!(Entry::read(&bytes[..at]).is_err(), "{at} bytes");
            }
            bytes.push(b'\n');
            assert!(Entry::read(&bytes).is_err());
        }
        assert_eq!(Entry::read(b""), Err(EntryFault::Empty));
        assert_eq!(Entry::read(b"\x09x"), Err(EntryFault::Kind(9)));
    }
}
