//! `agreement-status.yaml`: which agreements are suspended or terminated (Order 809 Art. 27).
//!
//! A file of its own, because stopping needs nobody's approval: the consent service writes it into the
//! next version of the contract and leaves the agreements' own files as their providers signed them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::NaiveDate;
use serde::Deserialize;

use crate::reasons::Text;

/// Where the file stands, below the contract root.
pub const STATUS_FILE: &str = "agreement-status.yaml";

/// What became of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementState {
    /// 中止: no deliveries until it is resumed; what was delivered may stay.
    Suspended,
    /// 终止: no deliveries ever again under this agreement, and what was delivered is withdrawn.
    Terminated,
}

impl AgreementState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Terminated => "terminated",
        }
    }
}

/// One agreement that is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusEntry {
    pub state: AgreementState,
    /// The day of the decision, Beijing time. It takes effect with the version that carries it.
    pub since: NaiveDate,
    pub reason: Text,
    /// Who decided: an operator or a document.
    pub by: String,
}

/// The file's text; the same entries always give the same bytes. An entry is one line, so that a fault
/// about it is at its line.
#[must_use]
pub fn status_file(entries: &BTreeMap<String, StatusEntry>) -> String {
    let mut text = String::from(
        "# Agreements that are suspended or terminated (Order 809 Art. 27). Written by the consent service.\n",
    );
    if entries.is_empty() {
        text.push_str("agreements: {}\n");
        return text;
    }
    text.push_str("agreements:\n");
    for (agreement, entry) in entries {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  {}: {{state: {}, since: {}, reason: {{zh: {}, en: {}}}, by: {}}}",
            quoted(agreement),
            entry.state.as_str(),
            entry.since,
            quoted(&entry.reason.zh),
            quoted(&entry.reason.en),
            quoted(&entry.by),
        );
    }
    text
}

/// A double-quoted YAML scalar on one line: what YAML does not print is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{10000}'.. => {
                out.push(character);
            }
            '\u{e000}'..='\u{fffd}' if character != '\u{feff}' => out.push(character),
            // All that is left lies below U+10000.
            other => {
                let _ = write!(out, "\\u{:04x}", u32::from(other));
            }
        }
    }
    out.push('"');
    out
}
