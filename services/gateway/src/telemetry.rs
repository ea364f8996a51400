//! Every metric of the gateway, its name written once. Labels are slots, codes, streams and lanes:
//! never anything about a person.

use metrics::{counter, gauge, histogram};

use crate::outbox::Outbox;

pub const EVENTS: &str = "mz_gateway_events_total";
pub const OUTCOMES: &str = "mz_gateway_outcomes_total";
pub const QUARANTINED: &str = "mz_gateway_quarantined_total";
pub const AUDITED: &str = "mz_gateway_audit_entries_total";
pub const EXPOSED: &str = "mz_gateway_exposed_total";
pub const CASES: &str = "mz_gateway_cases_total";
pub const SEQUENCE_GAPS: &str = "mz_gateway_sequence_missing_total";
pub const SEQUENCE_FORGOTTEN: &str = "mz_gateway_sequence_forgotten_total";
pub const OFFSETS_LOST: &str = "mz_gateway_offsets_lost_total";
pub const GRANTS: &str = "mz_gateway_grants";
pub const OPEN_BACKFILLS: &str = "mz_gateway_open_backfills";
pub const FETCHES: &str = "mz_gateway_fetches_total";
pub const COMMIT_SECONDS: &str = "mz_gateway_commit_seconds";
pub const TRANSACTION_EVENTS: &str = "mz_gateway_transaction_events";
pub const ABORTS: &str = "mz_gateway_aborts_total";
pub const TAKEOVERS: &str = "mz_gateway_takeovers_total";
pub const FENCED: &str = "mz_gateway_fenced_total";
pub const RETURNED: &str = "mz_gateway_fence_returns_total";
pub const ORDERS_DONE: &str = "mz_gateway_orders_carried_out_total";
pub const ORDERS_DECLINED: &str = "mz_gateway_orders_declined_total";
pub const SUPERSEDED_REPORTED: &str = "mz_gateway_superseded_total";
pub const SUPERSEDED_HELD: &str = "mz_gateway_superseded_held";
pub const SUPERSEDED_FORGOTTEN: &str = "mz_gateway_superseded_forgotten_total";
pub const CONTRACT_VERSION: &str = "mz_gateway_contract_version";

/// Names every metric and its unit, for the exporter.
pub fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};
    counter!(EVENTS, "source records processed");
    counter!(
        OUTCOMES,
        "outcomes by kind: delivered, denied, out_of_scope"
    );
    counter!(QUARANTINED, "records refused, by reason code");
    counter!(AUDITED, "audit entries written");
    counter!(
        EXPOSED,
        "deliveries of aborted transactions that readers of uncommitted data may have seen"
    );
    counter!(CASES, "cases opened and closed by events");
    counter!(SEQUENCE_GAPS, "stream numbers found missing: alarm");
    counter!(
        SEQUENCE_FORGOTTEN,
        "missing ranges given up because there were too many: alarm"
    );
    counter!(
        OFFSETS_LOST,
        "source positions that their topic no longer has: alarm"
    );
    gauge!(GRANTS, "grants held by a slot");
    gauge!(OPEN_BACKFILLS, "backfills that wait for the vault");
    counter!(FETCHES, "backfill requests written");
    metrics::describe_histogram!(
        COMMIT_SECONDS,
        metrics::Unit::Seconds,
        "time to commit a transaction"
    );
    metrics::describe_histogram!(TRANSACTION_EVENTS, "source records in a transaction");
    counter!(ABORTS, "transactions aborted");
    counter!(TAKEOVERS, "slots taken over");
    counter!(
        FENCED,
        "slots lost to another owner while this one still ran: alarm"
    );
    counter!(
        RETURNED,
        "slots taken again after consent had shut their owner out"
    );
    counter!(ORDERS_DONE, "orders to withdraw that were carried out");
    counter!(
        ORDERS_DECLINED,
        "orders that no longer held, by reason code"
    );
    counter!(
        SUPERSEDED_REPORTED,
        "updates that a row filter left out, reported to consent"
    );
    gauge!(
        SUPERSEDED_HELD,
        "reports of superseded records that wait for consent"
    );
    counter!(
        SUPERSEDED_FORGOTTEN,
        "reports given up because too many waited: alarm"
    );
    gauge!(
        CONTRACT_VERSION,
        "contract version in force; 0: the one from disk"
    );
}

/// What a committed transaction did.
pub(crate) fn committed(slot: u32, out: &Outbox, seconds: f64) {
    let slot = slot.to_string();
    let counts = &out.counts;
    counter!(EVENTS, "slot" => slot.clone()).increment(counts.events);
    for (kind, count) in [
        ("delivered", counts.delivered),
        ("denied", counts.denied),
        ("out_of_scope", counts.out_of_scope),
    ] {
        counter!(OUTCOMES, "slot" => slot.clone(), "kind" => kind).increment(count);
    }
    counter!(AUDITED, "slot" => slot.clone()).increment(counts.audited);
    counter!(CASES, "kind" => "opened").increment(counts.cases_opened);
    counter!(CASES, "kind" => "closed").increment(counts.cases_closed);
    counter!(FETCHES, "slot" => slot.clone()).increment(counts.fetches);
    counter!(ORDERS_DONE, "slot" => slot.clone()).increment(counts.withdrawn);
    counter!(SUPERSEDED_REPORTED, "slot" => slot.clone()).increment(counts.superseded);
    for (code, count) in &out.declined {
        counter!(ORDERS_DECLINED, "code" => *code).increment(*count);
    }
    for (code, count) in &out.refused {
        counter!(QUARANTINED, "code" => *code).increment(*count);
    }
    histogram!(COMMIT_SECONDS, "slot" => slot.clone()).record(seconds);
    // A transaction has far fewer events than an f64 counts exactly.
    histogram!(TRANSACTION_EVENTS, "slot" => slot).record(counts.events as f64);
}

pub(crate) fn holding(slot: u32, grants: usize, backfills: usize, superseded: usize) {
    gauge!(GRANTS, "slot" => slot.to_string()).set(grants as f64);
    gauge!(OPEN_BACKFILLS, "slot" => slot.to_string()).set(backfills as f64);
    gauge!(SUPERSEDED_HELD, "slot" => slot.to_string()).set(superseded as f64);
}

pub(crate) fn in_force(slot: u32, version: u64) {
    // Far below what an f64 counts exactly.
    gauge!(CONTRACT_VERSION, "slot" => slot.to_string()).set(version as f64);
}

pub(crate) fn superseded_forgotten(lane: u16) {
    counter!(SUPERSEDED_FORGOTTEN, "lane" => lane.to_string()).increment(1);
}

pub(crate) fn returned(slot: u32) {
    counter!(RETURNED, "slot" => slot.to_string()).increment(1);
}

pub(crate) fn missing(stream: &str, lane: u16, count: u64) {
    counter!(SEQUENCE_GAPS, "stream" => stream.to_owned(), "lane" => lane.to_string())
        .increment(count);
}

pub(crate) fn forgotten(stream: &str, lane: u16) {
    counter!(SEQUENCE_FORGOTTEN, "stream" => stream.to_owned(), "lane" => lane.to_string())
        .increment(1);
}

pub(crate) fn offsets_lost(topic: &str, lane: u16) {
    counter!(OFFSETS_LOST, "topic" => topic.to_owned(), "lane" => lane.to_string()).increment(1);
}

pub(crate) fn exposed(count: u64) {
    counter!(EXPOSED).increment(count);
}

pub(crate) fn aborted(slot: u32) {
    counter!(ABORTS, "slot" => slot.to_string()).increment(1);
}

pub(crate) fn taken_over(slot: u32) {
    counter!(TAKEOVERS, "slot" => slot.to_string()).increment(1);
}

pub(crate) fn fenced(slot: u32) {
    counter!(FENCED, "slot" => slot.to_string()).increment(1);
}
