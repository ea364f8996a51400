//! `schemas/POLICY.md`: department × purpose × field, for people who read no YAML. A test compares the
//! committed file with this text.

use crate::contract::Contract;

/// The whole page, in Markdown.
#[must_use]
pub fn policy_matrix(contract: &Contract) -> String {
    let _ = contract;
    String::new()
}
