//! What the ledger says about a closed range: a note in the form of a checkpoint (C2SP tlog-checkpoint), its
//! lines after the third fixed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::Hash;

/// The log before a log, by its closed size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub origin: String,
    pub size: u64,
}

/// The key under which people are labelled, and the entry in which it was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedKey {
    pub public: [u8; 32],
    pub origin: String,
    pub index: u64,
}

/// A range of a log and the head of what was read in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Of the log.
    pub origin: String,
    /// Of the range in the log, from 0.
    pub number: u64,
    /// Leaves and their tree head (RFC 6962).
    pub leaves: u64,
    pub head: Hash,
    /// Entries `from..to` of the log, and its tree head at `to`.
    pub from: u64,
    pub to: u64,
    pub root: Hash,
    /// The log before this one.
    pub after: Option<After>,
    /// What was committed to `bus.audit` before `until_ms` stands below `to`; `since_ms` is that of the range
    /// before. Milliseconds since 1970.
    pub since_ms: i64,
    pub until_ms: i64,
    /// Shards that the ledger has.
    pub shards: u16,
    /// People in the range who have no label: nothing can be proven about them.
    pub unbound: u64,
    pub key: Option<LoggedKey>,
}

const BETWEEN: &str = "/absence/";

impl Statement {
    /// `<log>/absence/<number>`: what it is filed and cosigned under.
    pub fn name(&self) -> String {
        format!("{}{BETWEEN}{}", self.origin, self.number)
    }

    /// Log and number of a [`Statement::name`].
    pub fn split(name: &str) -> Option<(&str, u64)> {
        let (origin, number) = name.rsplit_once(BETWEEN)?;
        let value: u64 = number.parse().ok()?;
        (value.to_string() == number).then_some((origin, value))
    }

    /// Shard of the log: the part before the period.
    pub fn shard(&self) -> Option<u16> {
        self.origin.rsplit('/').nth(1)?.parse().ok()
    }

    /// The note's text; `None` for names that no note can hold.
    pub fn encode(&self) -> Option<String> {
        let after = self.after.as_ref().map_or_else(
            || "after -".to_owned(),
            |after| format!("after {} {}", after.origin, after.size),
        );
        let key = self.key.as_ref().map_or_else(
            || "key -".to_owned(),
            |key| {
                let public = BASE64.encode(key.public);
                format!("key {public} {} {}", key.origin, key.index)
            },
        );
        let (from, to, root) = (self.from, self.to, BASE64.encode(self.root));
        let checkpoint = Checkpoint {
            origin: self.name(),
            size: self.leaves,
            root: self.head,
            extensions: vec![
                format!("log {from} {to} {root}"),
                after,
                format!("since {}", self.since_ms),
                format!("until {}", self.until_ms),
                format!("shards {}", self.shards),
                format!("unbound {}", self.unbound),
                key,
            ],
        };
        checkpoint.encode().ok()
    }

    /// Reads exactly what [`Statement::encode`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let said = Checkpoint::parse(text).ok()?;
        let (origin, number) = Self::split(&said.origin)?;
        let [log, after, since, until, shards, unbound, key] = said.extensions.as_slice() else {
            return None;
        };
        let mut log = log.strip_prefix("log ")?.split(' ');
        let after = match after.strip_prefix("after ")? {
            "-" => None,
            text => {
                let (origin, size) = text.split_once(' ')?;
                Some(After {
                    origin: origin.to_owned(),
                    size: size.parse().ok()?,
                })
            }
        };
        let key = match key.strip_prefix("key ")? {
            "-" => None,
            text => {
                let mut parts = text.split(' ');
                Some(LoggedKey {
                    public: BASE64.decode(parts.next()?).ok()?.try_into().ok()?,
                    origin: parts.next()?.to_owned(),
                    index: parts.next()?.parse().ok()?,
                })
            }
        };
        let statement = Self {
            origin: origin.to_owned(),
            number,
            leaves: said.size,
            head: said.root,
            from: log.next()?.parse().ok()?,
            to: log.next()?.parse().ok()?,
            root: BASE64.decode(log.next()?).ok()?.try_into().ok()?,
            after,
            since_ms: since.strip_prefix("since ")?.parse().ok()?,
            until_ms: until.strip_prefix("until ")?.parse().ok()?,
            shards: shards.strip_prefix("shards ")?.parse().ok()?,
            unbound: unbound.strip_prefix("unbound ")?.parse().ok()?,
            key,
        };
        // One spelling.
        (statement.encode().as_deref() == Some(text)).then_some(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_one_spelling() {
        let statement = Statement {
            origin: "dg-bus/audit/0/2026".to_owned(),
            number: 3,
            leaves: 12,
            head: [1; 32],
            from: 100,
            to: 900,
            root: [2; 32],
            after: Some(After {
                origin: "dg-bus/audit/0/2025".to_owned(),
                size: 77,
            }),
            since_ms: 1_790_000_000_000,
            until_ms: 1_790_000_060_000,
            shards: 1,
            unbound: 0,
            key: Some(LoggedKey {
                public: [3; 32],
                origin: "dg-bus/audit/0/2026".to_owned(),
                index: 4,
            }),
        };
        let text = statement.encode().unwrap();
        assert_eq!(Statement::parse(&text).as_ref(), Some(&statement));
        assert_eq!(statement.shard(), Some(0));
        let plain = Statement {
            after: None,
            key: None,
            ..statement
        };
        assert_eq!(Statement::parse(&plain.encode().unwrap()), Some(plain));
        for (from, to) in [
            ("absence/3", "absence/03"),
            ("log 100", "log +100"),
            ("shards 1", "shards 01"),
            ("unbound 0\n", ""),
            ("since 17", "since  17"),
            ("until ", "since "),
        ] {
            assert_eq!(
                Statement::parse(&text.replacen(from, to, 1)),
                None,
                "{from}"
            );
        }
    }
}
