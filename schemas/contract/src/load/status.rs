//! `agreement-status.yaml`, put to the agreements it names.

use std::collections::BTreeMap;

use serde_saphyr::Location;

use super::agreements::Written;
use super::{date, text};
use crate::agreement::{Suspension, Termination};
use crate::fault::Faults;
use crate::raw::{RawStatus, RawStatusFile};
use crate::status::{AgreementState, STATUS_FILE, StatusEntry};
use crate::tree::Tree;
use crate::yaml::{self, Located};

/// Marks what is suspended or terminated, and gives the entries back as they stand.
pub(super) fn load(
    tree: &Tree,
    agreements: &mut [Written],
    faults: &mut Faults,
) -> BTreeMap<String, StatusEntry> {
    let mut entries = BTreeMap::new();
    let Some(source) = tree.get(STATUS_FILE) else {
        return entries;
    };
    let Some(raw) = yaml::parse::<RawStatusFile>(STATUS_FILE, source, faults) else {
        return entries;
    };
    for (id, raw) in raw.agreements {
        let at = raw.referenced;
        let Some(entry) = entry(raw, faults) else {
            continue;
        };
        match agreements.iter_mut().find(|other| other.agreement.id == id) {
            Some(written) => apply(&entry, written),
            // Its own file may be there and faulty: that has been said.
            None if tree.get(&format!("agreements/{id}.yaml")).is_some() => {}
            None => faults.push("AGREEMENT_UNKNOWN", STATUS_FILE, &at, &id, ""),
        }
        entries.insert(id, entry);
    }
    entries
}

fn entry(raw: Located<RawStatus>, faults: &mut Faults) -> Option<StatusEntry> {
    let at: Location = raw.referenced;
    let raw = raw.value;
    for (name, value) in [
        ("reason.zh", &raw.reason.zh),
        ("reason.en", &raw.reason.en),
        ("by", &raw.by),
    ] {
        if value.trim().is_empty() {
            faults.push("VALUE_EMPTY", STATUS_FILE, &at, name, "");
        }
    }
    Some(StatusEntry {
        state: raw.state,
        since: date(&raw.since, STATUS_FILE, faults)?,
        reason: text(raw.reason),
        by: raw.by,
    })
}

fn apply(entry: &StatusEntry, written: &mut Written) {
    let agreement = &mut written.agreement;
    match entry.state {
        // In addition to what the agreement's own file says.
        AgreementState::Suspended => {
            agreement.suspension = Some(Suspension {
                since: entry.since,
                reason: entry.reason.clone(),
            });
        }
        AgreementState::Terminated => {
            agreement.ended = Some(Termination {
                since: entry.since,
                reason: entry.reason.clone(),
                by: entry.by.clone(),
            });
        }
    }
}
