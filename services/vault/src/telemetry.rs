//! All metrics of the vault, named once. No label holds anything about a person.

use std::time::Duration;

pub fn ingested(slot: u32, stored: usize, skipped: u64) {
    if stored > 0 {
        metrics::counter!("mz_vault_facts_total", "slot" => slot.to_string())
            .increment(stored as u64);
    }
    if skipped > 0 {
        metrics::counter!("mz_vault_events_skipped_total", "slot" => slot.to_string())
            .increment(skipped);
    }
}

pub fn stored(slot: u32, took: Duration) {
    metrics::histogram!("mz_vault_store_seconds", "slot" => slot.to_string())
        .record(took.as_secs_f64());
}

pub fn bundle(outcome: &'static str, took: Duration) {
    metrics::histogram!("mz_vault_bundle_seconds", "outcome" => outcome).record(took.as_secs_f64());
}

pub fn slot_lost(slot: u32, code: &'static str) {
    metrics::counter!("mz_vault_slot_lost_total", "slot" => slot.to_string(), "code" => code)
        .increment(1);
}
