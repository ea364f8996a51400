//! Every limit of the vault, with its unit.

use std::time::Duration;

/// Records taken from the bus before they are stored together.
pub const MAX_BATCH_RECORDS: usize = 4_096;
/// How long a slot waits for records when nothing is pending.
pub const IDLE_POLL: Duration = Duration::from_millis(10);
/// How long it waits while requests are pending.
pub const BUSY_POLL: Duration = Duration::from_millis(2);
/// Facts of the people of one read (one turn of a slot).
pub const MAX_FACTS_PER_READ: i64 = 100_000;
/// Facts of one person that one bundle or one backfill may hold.
pub const MAX_FACTS_PER_SUBJECT: usize = 10_000;
/// Keys of people that one slot keeps in memory (about 150 bytes each).
pub const MAX_CACHED_KEYS: usize = 65_536;
/// Rows from before there were keys that a slot seals in one idle turn.
pub const SEAL_PLAIN_ROWS: i64 = 256;
/// Keys that are wrapped anew in one statement.
pub const REWRAP_ROWS: i64 = 10_000;
/// Requests that wait in one slot; more are refused as busy.
pub const MAX_PENDING: usize = 2_048;
/// Backfill requests answered in one transaction.
pub const MAX_FETCHES_PER_TURN: usize = 256;
/// Erasures carried out in one transaction.
pub const MAX_ERASURES_PER_TURN: usize = 16;
/// Labels of people told to `bus.audit` in one transaction.
pub const MAX_LABELS_PER_TURN: usize = 1_024;
/// Labels that are still to be told, read from the store at once.
pub const MAX_UNTOLD_ROWS: i64 = 65_536;
/// People that one slot remembers as labelled (about 40 bytes each).
pub const MAX_KNOWN_LABELS: usize = 1 << 20;
/// A bundle waits this long for facts that were published before it was asked for.
pub const CATCH_UP: Duration = Duration::from_secs(2);
/// A slot writes its grants position at least this often while grants change.
pub const STATE_INTERVAL: Duration = Duration::from_millis(50);
/// Pause before a slot that failed is taken again; doubles up to [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_millis(200);
pub const RETRY_MAX: Duration = Duration::from_secs(10);
/// Reading a compacted topic to its end makes progress at least this often, or fails.
pub const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Verified batch roots that a slot remembers.
pub const VERIFIER_BATCHES: usize = 4_096;
/// Largest bundle that `verify` reads, bytes.
pub const MAX_BUNDLE_BYTES: usize = 8 << 20;
