//! Every limit of the ledger, with its unit.

use std::time::Duration;

/// Records that are logged before a commit at the latest.
pub const MAX_COMMIT_RECORDS: u64 = 65_536;
/// Records taken from the bus at once.
pub const MAX_POLL_RECORDS: usize = 8_192;
/// How long to wait for records when there are none.
pub const POLL: Duration = Duration::from_millis(100);
/// A checkpoint is signed at most this often.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Records that wait longer than this for the log raise an alarm: a warning in the log lines and
/// `mz_ledger_lag_seconds`.
pub const LAG_ALARM: Duration = Duration::from_secs(60);
/// The warning is given at most this often.
pub const ALARM_EVERY: Duration = Duration::from_secs(10);
/// Records of `bus.ledger` looked back for the shard's last commit.
pub const STATE_LOOK_BACK: i64 = 256;
/// Longest audit record that is logged, bytes; an entry has one byte more, and C2SP allows 65,535.
pub const MAX_RECORD_BYTES: usize = 65_534;
/// Pause before the ledger tries again after something that may pass; doubles up to [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_millis(100);
pub const RETRY_MAX: Duration = Duration::from_secs(5);
/// Entries that the index takes in one transaction.
pub const INDEX_BATCH: u64 = 16_384;
/// Between two looks for what was signed since.
pub const INDEX_POLL: Duration = Duration::from_millis(500);
/// Between two times that the index's daily sums are folded.
pub const FOLD_EVERY: Duration = Duration::from_secs(600);
/// The log must have taken what the bus holds within this time for a range to be closed.
pub const CLOSE_WITHIN: Duration = Duration::from_secs(60);
/// Offsets behind a commit that are looked through for records when a range is closed: ends of transactions
/// and what was aborted.
pub const MAX_CLOSE_TAIL: i64 = 10_000;
/// Closed ranges of one log that are read: a range an hour makes 8,784 a year.
pub const MAX_RANGES_OF_LOG: usize = 65_536;
/// Ranges that one proof of absence shows.
pub const MAX_RANGES_SHOWN: usize = 8_192;
/// Longest proof of absence that is read, bytes.
pub const MAX_ABSENCE_BYTES: usize = 64 << 20;
/// Longest list of a closed range's leaves that is read from a folder or a network, bytes: a million of them.
pub const MAX_LEAVES_BYTES: u64 = 64 << 20;
/// Batches that an audit of a log holds later ones against, at least half of them; about 200 bytes each.
pub const MAX_BATCHES_HELD: usize = 1 << 21;
/// The same for a running ledger.
pub const RUNNING_BATCHES_HELD: usize = 1 << 17;
