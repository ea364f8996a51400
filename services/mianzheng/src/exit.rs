//! Exit codes. Stable; docs/errors.md lists them.

/// The environment failed: Kafka, PostgreSQL, a file.
pub const FAILED: u8 = 1;
/// The command line was wrong; clap's own code for it.
pub const USAGE: u8 = 2;
/// The contract or a configuration has faults.
pub const FAULTS: u8 = 3;
/// A seal, signature or bundle did not verify.
pub const NOT_VERIFIED: u8 = 4;
/// Cluster or database differ from the contract.
pub const DRIFT: u8 = 5;
/// Another owner took over; this process may write no more.
pub const FENCED: u8 = 6;
// 7 is the connector's: some input was rejected, the good rows were published.
/// The change is recorded, but not every slot has shown yet that it decides under it.
pub const PENDING: u8 = 8;
/// The log is whole, and holds evidence against a department.
pub const EVIDENCE: u8 = 9;
