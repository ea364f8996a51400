//! Every limit of the adapter.

use std::time::Duration;

/// Records of one database transaction.
pub const MAX_BATCH_RECORDS: usize = 2_000;
/// Bytes of the values and seals of one database transaction; may be passed by one poll.
pub const MAX_BATCH_BYTES: usize = 16 << 20;
/// Records of one poll.
pub const POLL_RECORDS: usize = 256;
/// Longest wait for records; also how soon a stop is noticed.
pub const POLL_WAIT: Duration = Duration::from_millis(200);
/// How often positions of idle lanes are written down, so that they keep up with retention.
pub const IDLE_POSITIONS: Duration = Duration::from_secs(60);
/// First and longest pause before the database is tried again.
pub const RETRY_FIRST: Duration = Duration::from_millis(100);
pub const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Longest wait for one answer of the database.
pub const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
/// A delivery topic drops superseded records no earlier than this after they were written.
pub const COMPACTION_LAG: Duration = Duration::from_secs(12 * 3600);
/// How often it is looked whether a hold on frozen records has ended.
pub const RELEASE_EVERY: Duration = Duration::from_secs(10);
/// Receipts that are signed and sent at once.
pub const MAX_RECEIPTS: i64 = 500;
/// How long the loop stands still for their acknowledgement, and how long that may take in all.
pub const RECEIPT_MOMENT: Duration = Duration::from_millis(20);
pub const RECEIPT_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest pause before receipts that did not get through are sent again.
pub const RECEIPT_RETRY_FIRST: Duration = Duration::from_secs(1);
pub const RECEIPT_RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Bytes of a configuration file.
pub const MAX_CONFIG_BYTES: u64 = 64 * 1024;
/// Bytes of a PostgreSQL identifier.
pub const MAX_IDENT_BYTES: usize = 63;
