//! Every limit of the HTTP services.

use std::time::Duration;

/// Largest request body, bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// Largest schema in a lookup body, bytes.
pub const MAX_SCHEMA_BODY_BYTES: usize = 256 * 1024;
/// Largest body that puts a contract in force, bytes: its files as JSON text.
pub const MAX_ACTIVATE_BODY_BYTES: usize = 32 << 20;
/// Largest consent receipt that is checked, bytes.
pub const MAX_RECEIPT_BYTES: usize = 256 * 1024;
/// Contracts put in force at once.
pub const MAX_ACTIVATIONS: usize = 1;
/// Connections held open at once.
pub const MAX_CONNECTIONS: usize = 2_048;
/// Requests worked on at once; more are answered 503 at once.
pub const MAX_IN_FLIGHT: usize = 1_024;
/// Who-read scans at once: each reads a lane of the audit topic.
pub const MAX_SCANS: usize = 4;
/// Questions to the ledger's index at once.
pub const MAX_QUESTIONS: usize = 16;
/// Lanes on one page of an answer about gaps.
pub const MAX_GAP_LANES: usize = 64;
/// Records of source topics that are looked at for one page about gaps; ranges past it stay unchecked.
pub const MAX_GAP_RECORDS: u64 = 500_000;
/// Looking at source topics for one page about gaps takes no longer; ranges past it stay unchecked.
pub const GAP_TIMEOUT: Duration = Duration::from_secs(15);
/// Usages that one findUsage answers with, unless fewer are asked for.
pub const MAX_USAGES: usize = 1_000;
/// Newest usages that one findUsage may leave out.
pub const MAX_USAGE_OFFSET: u32 = 100_000;
/// A TLS handshake takes no longer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head arrives within.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request is answered within.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A request of the consent service is answered within: the longest wait for enforcement that a caller
/// may ask for, and the work around it.
pub const CONSENT_TIMEOUT: Duration =
    Duration::from_millis(mz_consent::model::MAX_WAIT_MS + 15_000);
/// Connections that are still busy at shutdown get this long.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest PEM file that is read, bytes.
pub const MAX_PEM_BYTES: u64 = 1 << 20;
/// Audit records on one page of who-read.
pub const MAX_PAGE: usize = 1_000;
/// Records scanned for one page before it is returned unfinished, with a cursor.
pub const MAX_SCAN_RECORDS: u64 = 2_000_000;
/// A file of the audit log is sent in pieces of this length, bytes.
pub const LOG_PIECE_BYTES: usize = 64 * 1024;
/// Readings of the audit log (certificate, log, kind of file) that are told apart within a day.
pub const MAX_LOG_READS_KEPT: usize = 65_536;
/// Longest list of logs that is read from a service, bytes.
pub const MAX_LOG_LIST_BYTES: u64 = 256 * 1024;
/// Longest refusal that is read from a service, bytes.
pub const MAX_PROBLEM_BYTES: u64 = 64 * 1024;
/// Longest address of a service, bytes.
pub const MAX_SERVICE_URL_BYTES: usize = 256;
/// A file of the audit log has come whole within.
pub const LOG_TIMEOUT: Duration = Duration::from_secs(60);
/// Times that a file of the audit log is asked for again when the connection failed or the service was busy.
pub const LOG_RETRIES: u32 = 2;
/// Between these.
pub const LOG_RETRY_PAUSE: Duration = Duration::from_millis(300);
/// Longest operator id, bytes.
pub const MAX_OPERATOR_BYTES: usize = 64;
/// Longest cursor, bytes.
pub const MAX_CURSOR_BYTES: usize = 2_048;
