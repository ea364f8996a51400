//! Every limit of witness and quorum, with its unit.

use std::time::Duration;

/// New entries that are compared with deliveries at once: what a step keeps of them is in memory.
pub const WINDOW_ENTRIES: u64 = 65_536;
/// Longest state file, bytes.
pub const MAX_STATE_BYTES: u64 = 4 << 20;
/// Logs of a folder that are looked at.
pub const MAX_LOGS: usize = 4_096;
/// Closed ranges of a log that one step makes again; the rest is the next step's.
pub const MAX_RANGES_AT_ONCE: usize = 1_024;
/// Breaks of `bus.audit` that an outcome lists; the rest are counted.
pub const MAX_BREAKS: usize = 1_000;
/// Deliveries that wait longer than this for the log are an alarm, milliseconds: the bureau's ledger stands
/// still, or it shows an old log.
pub const LATE_MS: i64 = 10 * 60_000;
/// Deliveries taken from the bus at once.
pub const MAX_POLL_RECORDS: usize = 8_192;
/// Longest wait for deliveries without any progress.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks while deliveries are waited for.
pub const POLL: Duration = Duration::from_millis(200);
/// Longest wait until the cluster has a cosignature.
pub const PUBLISH_WITHIN: Duration = Duration::from_secs(30);
/// Longest key and value in `bus.cosignatures`, bytes. A statement has a line for each lane.
pub const MAX_KEY_BYTES: usize = 512;
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Cosignatures kept of each witness and log, newest sizes first.
pub const KEPT_COSIGNATURES: usize = 8;
/// Faults in `bus.cosignatures` that one poll reports; the rest are counted.
pub const MAX_FAULTS: usize = 100;
/// A checkpoint is offered to the witnesses this long before a newer one is.
pub const OFFER_EVERY: Duration = Duration::from_secs(30);
/// A witness that has cosigned what is offered waits this long for the next offer.
pub const HOLD_OFFER: Duration = Duration::from_secs(90);
