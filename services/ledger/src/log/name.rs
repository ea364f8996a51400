//! What a log and its files are called by somebody else: read into values, and only from these is a path
//! made. What has another spelling is no name.

use std::fmt;

use mz_tlog::note::MAX_NOTE_BYTES;
use mz_tlog::tile::{MAX_BUNDLE_BYTES, TileKind, TilePath};

use super::CHECKPOINT;
use crate::absence;
use crate::limits::MAX_LEAVES_BYTES;
use crate::quorum::COSIGNED;
use crate::witness::OFFERED;

/// Longest name that is looked at, bytes: no file has a longer one.
const MAX_NAME_BYTES: usize = 96;
const HASH_BYTES: u64 = 32;

/// A log of a ledger: `<shard>/<period>`, such as `0/2026` and `3/2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName {
    shard: u16,
    year: u16,
    month: Option<u8>,
}

impl LogName {
    /// Reads exactly what `Display` writes.
    pub fn parse(name: &str) -> Option<Self> {
        if name.len() > MAX_NAME_BYTES {
            return None;
        }
        let (shard, period) = name.split_once('/')?;
        let (year, month) = match period.split_once('-') {
            None => (period, None),
            Some((year, month)) => (year, Some(month)),
        };
        let month = match month {
            None => None,
            Some(month) => Some(
                month
                    .parse()
                    .ok()
                    .filter(|month| (1..=12).contains(month))?,
            ),
        };
        let read = Self {
            shard: shard.parse().ok()?,
            year: year.parse().ok().filter(|year| *year < 10_000)?,
            month,
        };
        (read.to_string() == name).then_some(read)
    }

    pub const fn shard(&self) -> u16 {
        self.shard
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{:04}", self.shard, self.year)?;
        match self.month {
            Some(month) => write!(out, "-{month:02}"),
            None => Ok(()),
        }
    }
}

/// What lies beside a log about a closed range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangePart {
    Statement,
    Cosigned,
    Leaves,
}

const PARTS: [(RangePart, &str); 3] = [
    (RangePart::Statement, absence::STATEMENT),
    (RangePart::Cosigned, absence::COSIGNED),
    (RangePart::Leaves, absence::LEAVES),
];

/// A file of a log that others may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFile {
    Checkpoint,
    Offered,
    Cosigned,
    Tile(TilePath),
    Range { number: u64, part: RangePart },
}

impl LogFile {
    /// Reads exactly what `Display` writes.
    pub fn parse(path: &str) -> Option<Self> {
        if path.len() > MAX_NAME_BYTES {
            return None;
        }
        let read = match path {
            CHECKPOINT => Self::Checkpoint,
            OFFERED => Self::Offered,
            COSIGNED => Self::Cosigned,
            _ => match path.strip_prefix("absence/") {
                Some(rest) => {
                    let (number, part) = rest.split_once('/')?;
                    let known = PARTS.iter().find(|(_, name)| *name == part)?;
                    Self::Range {
                        number: number.parse().ok()?,
                        part: known.0,
                    }
                }
                None => Self::Tile(TilePath::parse(path).ok()?),
            },
        };
        (read.to_string() == path).then_some(read)
    }

    /// Which kind of file, as it is counted.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Checkpoint | Self::Offered | Self::Cosigned => "checkpoint",
            Self::Tile(TilePath {
                kind: TileKind::Entries,
                ..
            }) => "entries",
            Self::Tile(_) => "hashes",
            Self::Range { .. } => "range",
        }
    }

    /// No such file is longer.
    pub const fn max_bytes(&self) -> u64 {
        match self {
            Self::Tile(TilePath {
                kind: TileKind::Entries,
                ..
            }) => MAX_BUNDLE_BYTES as u64,
            Self::Tile(tile) => tile.width as u64 * HASH_BYTES,
            Self::Range {
                part: RangePart::Leaves,
                ..
            } => MAX_LEAVES_BYTES,
            _ => MAX_NOTE_BYTES as u64,
        }
    }

    /// A tile of a log of this many entries; anything else is not measured in entries.
    pub fn is_within(&self, size: u64) -> bool {
        let Self::Tile(tile) = self else {
            return true;
        };
        let level = match tile.kind {
            TileKind::Entries => 0,
            TileKind::Hashes { level } => u32::from(level),
        };
        let hashes = u128::from(tile.index) * 256 + u128::from(tile.width);
        // Entries below one hash; a level that no log reaches has none.
        let each = 256_u128.checked_pow(level);
        let needed = each.and_then(|each| hashes.checked_mul(each));
        needed.is_some_and(|needed| needed <= u128::from(size))
    }
}

impl fmt::Display for LogFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => out.write_str(CHECKPOINT),
            Self::Offered => out.write_str(OFFERED),
            Self::Cosigned => out.write_str(COSIGNED),
            Self::Tile(tile) => out.write_str(&tile.path()),
            Self::Range { number, part } => {
                let known = PARTS.iter().find(|(known, _)| known == part);
                let name = known.map_or("", |(_, name)| *name);
                out.write_str(&absence::path(*number, name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_one_name() {
        for name in ["0/2026", "3/2026-11", "65535/9999-12", "0/0001-01"] {
            assert_eq!(LogName::parse(name).unwrap().to_string(), name);
        }
        for name in [
            "",
            "/",
            "0",
            "0/",
            "/2026",
            "00/2026",
            "+0/2026",
            "-1/2026",
            "65536/2026",
            "0/2026/",
            "0//2026",
            "0/2026-00",
            "0/2026-13",
            "0/2026-99",
            "0/2026-1",
            "0/2026-011",
            "0/2026-+1",
            "0/+026",
            "0/026",
            "0/02026",
            "0/12026",
            "0/2026-11-01",
            "0/..",
            "../2026",
            "0/2026\0",
            " 0/2026",
            "0/2026\n",
            "0/२०२६",
            "٠/2026",
            "0/２０２６",
            "0%2f2026",
            &"0/2026".repeat(1_000),
        ] {
            assert_eq!(LogName::parse(name), None, "{name:?}");
        }
        let sorted = ["0/2025", "0/2026", "0/2026-01", "0/2026-02", "1/2024"];
        let read: Vec<_> = sorted
            .iter()
            .filter_map(|name| LogName::parse(name))
            .collect();
        assert!(read.is_sorted() && read.len() == sorted.len());
    }

    #[test]
    fn a_file_has_one_name() {
        let (mut classes, mut most) = (Vec::new(), Vec::new());
        for path in [
            "checkpoint",
            "checkpoint.offered",
            "checkpoint.cosigned",
            "tile/0/000",
            "tile/2/x001/234.p/17",
            "tile/entries/x001/x234/067",
            "absence/0/statement",
            "absence/18446744073709551615/statement.cosigned",
            "absence/12/leaves",
        ] {
            let file = LogFile::parse(path).unwrap();
            assert_eq!(file.to_string(), path);
            classes.push(file.class());
            most.push(file.max_bytes());
        }
        let wanted = [
            "checkpoint",
            "checkpoint",
            "checkpoint",
            "hashes",
            "hashes",
            "entries",
            "range",
            "range",
            "range",
        ];
        assert_eq!(classes, wanted);
        assert_eq!(most[..5], [65_536, 65_536, 65_536, 8_192, 17 * 32]);
        assert_eq!((most[5], most[8]), (16_777_472, MAX_LEAVES_BYTES));
        for path in [
            "",
            "/",
            ".",
            "..",
            "/checkpoint",
            "checkpoint/",
            "checkpoint.new",
            "checkpoint\0",
            "CHECKPOINT",
            "Checkpoint",
            "./checkpoint",
            "../0/2026/checkpoint",
            "%2e%2e/checkpoint",
            "tile",
            "tile/",
            "tile/0/../../checkpoint",
            "tile//0/000",
            "tile/0/000.p",
            "tile/0/000.p/256",
            "tile/00/000",
            "tile/0%2f000",
            "tile/0/٠٠٠",
            "tlog-policy",
            "closing.lock",
            "absence",
            "absence/",
            "absence/0",
            "absence/0/",
            "absence//statement",
            "absence/00/statement",
            "absence/+1/statement",
            "absence/-1/statement",
            "absence/18446744073709551616/statement",
            "absence/٣/statement",
            "absence/../statement",
            "absence/0/../statement",
            "absence/0/statement.new",
            "absence/0/statement/",
            "absence/0/leaves/0",
            &format!("checkpoint{}", "/".repeat(10_000)),
            &format!("tile/{}", "x001/".repeat(10_000)),
        ] {
            assert_eq!(LogFile::parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_tile_is_within_what_is_signed() {
        for (path, size) in [
            ("tile/entries/000.p/7", 7),
            ("tile/entries/000", 256),
            ("tile/0/001.p/1", 257),
            ("tile/1/000.p/1", 256),
            ("tile/1/000", 65_536),
            ("tile/2/001.p/2", 258 << 16),
        ] {
            let file = LogFile::parse(path).unwrap();
            assert!(file.is_within(size), "{path}");
            assert!(!file.is_within(size - 1), "{path}");
        }
        let last = LogFile::parse("tile/63/x018/x446/x744/x073/x709/x551/615").unwrap();
        assert!(!last.is_within(u64::MAX));
        assert!(LogFile::Checkpoint.is_within(0));
    }
}
