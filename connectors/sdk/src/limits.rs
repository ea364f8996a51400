//! Every limit of a connector, in one place. docs/integrator.md lists them.

use std::time::Duration;

/// Events in one transaction and so in one signed batch. A batch of 4,096 costs a path of 12 hashes.
pub const MAX_TX_EVENTS: usize = 4_096;
/// Bytes of event values in one transaction.
pub const MAX_TX_BYTES: usize = 8 * 1024 * 1024;
/// How long an event may wait for others to share its transaction, while the source still yields.
pub const MAX_TX_AGE: Duration = Duration::from_millis(500);
/// Rejects in one transaction (they go to the quarantine topic).
pub const MAX_TX_REJECTS: usize = 10_000;
/// One event's Avro value, bytes. The bus refuses larger ones.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
/// A source's position, bytes.
pub const MAX_POSITION_BYTES: usize = 4 * 1024;
/// The broker ends a transaction that is open longer than this.
pub const TX_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connector says that it is alive and how far its register is complete.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a transaction that the broker aborted is built again before the connector gives up.
pub const MAX_TX_RETRIES: u32 = 5;
/// Pause before an aborted transaction is built again, times the number of tries.
pub const TX_RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Rejected rows that are remembered, so that a row rejected in every pass is reported once.
pub const MAX_KNOWN_REJECTS: usize = 1_000_000;
/// Bytes of one rejects file; what comes after is counted only.
pub const MAX_REJECTS_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// Values of one row in the rejects file are cut after this many bytes each.
pub const MAX_REJECT_VALUE_BYTES: usize = 512;
/// Records to withdraw that are looked up in the checkpoint topic at once.
pub const WITHDRAW_PAGE: usize = 10_000;
/// Share of the known records (percent) that may disappear in one snapshot. A half-empty export is
/// far more likely than half a register gone; above this nothing is withdrawn.
pub const DEFAULT_WITHDRAW_LIMIT_PERCENT: u8 = 10;
/// Below this many known records the share is not looked at.
pub const WITHDRAW_LIMIT_FLOOR: u64 = 20;
