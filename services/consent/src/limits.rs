//! Every limit of the consent service, with its unit.

use std::time::Duration;

/// Rows of the outbox that one Kafka transaction carries.
pub const MAX_PUBLISH: i64 = 1_000;
/// Longest time between two looks into the outbox when nobody says that there is something.
pub const PUBLISH_POLL: Duration = Duration::from_millis(200);
/// Records that a follower takes before it stores what they mean.
pub const MAX_BATCH_RECORDS: usize = 4_096;
/// How long a follower waits for records.
pub const FOLLOW_POLL: Duration = Duration::from_millis(50);
/// Records of `bus.state` looked back for each lane at the start.
pub const STATE_LOOK_BACK: i64 = 2_000;
/// Between two looks at what is due.
pub const LIFE_POLL: Duration = Duration::from_millis(100);
/// Due withdrawals taken in hand at once.
pub const MAX_DUE: i64 = 256;
/// Records that one due withdrawal turns into orders in one transaction; the rest follow.
pub const MAX_ORDERS_PER_STEP: i64 = 5_000;
/// Ended grants whose data life is worked out at once.
pub const MAX_SETTLED: i64 = 5_000;
/// An order that no slot has carried out or declined for so long is given again.
pub const ORDER_AGAIN: Duration = Duration::from_secs(3_600);
/// Orders given again at once.
pub const MAX_ORDERS_AGAIN: i64 = 1_000;
/// Grants that are sent once more in one step after a contract gave more.
pub const MAX_REFETCH: i64 = 2_000;
/// Connections to PostgreSQL.
pub const MAX_CONNECTIONS: u32 = 16;
/// Longest request id, bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 64;
/// Longest text of an application number, a session or a document, bytes.
pub const MAX_NOTE_BYTES: usize = 128;
/// People of one case that an operator opens.
pub const MAX_SUBJECTS: usize = 32;
/// Grants of one person that are listed.
pub const MAX_LISTED: i64 = 1_000;
/// Withdrawals on one page.
pub const MAX_PAGE: u32 = 500;
/// Answers to requests are remembered for so long, milliseconds (90 days).
pub const KEEP_REQUESTS_MS: i64 = 90 * 24 * 3600 * 1000;
/// Pause before a thread that failed tries again; doubles up to [`RETRY_MAX`].
pub const RETRY_MIN: Duration = Duration::from_millis(100);
pub const RETRY_MAX: Duration = Duration::from_secs(5);
