//! Proof that a department read nothing about a person in a time, or how often it did.
//!
//! A log is closed range by range. What was read in a range is a list of (person, department), sorted by a
//! hash: a function of the log alone ([`range`]), so that witnesses compute it themselves before they cosign
//! its head ([`Statement`]). People stand in it under the value of a verifiable random function, whose proof
//! says that it is this person and nobody else ([`mz_keys::vrf`]). A [`Proof`] shows, for every range in the
//! time, the two neighbours between which the person would stand. docs/audit-format.md has every byte.

mod check;
mod close;
mod error;
pub(crate) mod filed;
mod leaf;
mod proof;
mod prove;
mod range;
mod statement;
mod verify;

pub use check::{Checked, check};
pub(crate) use check::{agrees, follows, labels};
pub use close::{close, close_at};
pub use error::{AbsenceFault, CloseError};
pub use leaf::{Leaf, key};
pub use proof::{HEADER, Placed, Proof, ProofError, Shown};
pub use prove::{AbsenceError, Asked, prove};
pub(crate) use range::{Range, ranges};
pub use statement::{After, LoggedKey, Statement};
pub use verify::{Answer, SETTLED_MS, SKEW_MS, Verified, VerifyError, verify};

/// What a closed range lies under in its log's folder.
pub(crate) fn path(number: u64, file: &str) -> String {
    format!("absence/{number}/{file}")
}

/// The signed statement about a range.
pub(crate) const STATEMENT: &str = "statement";
/// The same with a quorum of cosignatures.
pub(crate) const COSIGNED: &str = "statement.cosigned";
/// The leaves, one after the other.
pub(crate) const LEAVES: &str = "leaves";
