//! What must hold after the grants drill: every acknowledged change on the bus exactly once, nothing
//! delivered where `enforced` had been said, and the union holds what it may hold and nothing else.

use crate::adapter::AdapterTables;
use crate::arrears::{DATASET, EPOCH, Newest, Person};
use crate::audit::{self, Entry, Log, states};
use crate::bus::{each_record, read_topic};
use crate::check::Check;
use crate::consents::{AGREEMENT, Acknowledged, Told, topic};
use crate::database;
use crate::events::Events;
use crate::install::Installation;
use mz_bus::{BusError, BusOptions, Isolation};
use mz_contract::Contract;
use mz_journal::{
    AuditCause, AuditKind, AuditWriter, Grant, GrantId, GrantStatus, Record as _, SubjectTag,
    topics,
};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Version of a record: epoch and counter.
type Version = (u32, u64);

/// Person, record, epoch, counter.
type Row = (Vec<u8>, Vec<u8>, i64, i64);

/// What is not done yet, a line each.
pub fn unsettled(it: &Installation, contract: &Contract) -> Result<Vec<String>, BusError> {
    let url = it.database_url();
    let mut open = Vec::new();
    let orders = "SELECT count(*) FROM consent.orders
                  WHERE receipt_ms IS NULL AND declined_ms IS NULL";
    for (what, query) in [
        ("orders without an answer", orders),
        ("withdrawals due", "SELECT count(*) FROM consent.due"),
        ("rows in the outbox", "SELECT count(*) FROM consent.outbox"),
    ] {
        match database::number(url, query) {
            0 => {}
            count => open.push(format!("{count} {what}")),
        }
    }
    let bus = it.bus("bus.admin");
    for ((kind, lane), state) in states(&bus, contract.lanes)? {
        if !state.superseded.is_empty() {
            let count = state.superseded.len();
            open.push(format!("{count} superseded records in {kind}|{lane}"));
        }
    }
    let mut ends: BTreeMap<u16, i64> = BTreeMap::new();
    each_record(
        &bus,
        topics::AUDIT,
        contract.lanes,
        Isolation::Committed,
        |record| {
            let lane = u16::try_from(record.partition).unwrap_or(u16::MAX);
            ends.insert(lane, record.offset + 1);
        },
    )?;
    for (lane, end) in ends {
        let query = format!(
            "SELECT coalesce(max(next_offset), 0) FROM consent.position
             WHERE topic = 'bus.audit' AND lane = {lane}"
        );
        let at = database::number(url, &query);
        if at < end {
            open.push(format!(
                "consent has read bus.audit [{lane}] to {at} < {end}"
            ));
        }
    }
    Ok(open)
}

/// All checks of one round.
pub fn check_all(
    it: &Installation,
    contract: &Contract,
    tables: &AdapterTables,
    people: &[Person],
    newest: &[Newest],
    told: &Told,
) -> Result<Vec<Check>, BusError> {
    let bus = it.bus("bus.admin");
    let url = it.database_url();
    let log = Log::read(&bus, contract.lanes)?;
    let deliveries = Deliveries::read(&bus, contract, &log)?;
    let mut decided = BTreeMap::new();
    for dataset in &contract.datasets {
        let events = Events::read(&bus, contract, dataset)?;
        decided.insert(dataset.id.clone(), events.good.len() as u64);
    }
    Ok(vec![
        answers(told),
        changes(&bus, contract, people, told)?,
        history(url, told),
        barred(&log, &deliveries, people, told),
        audit::outcomes(contract, &log, &decided),
        audit::deliveries(&bus, contract, &log)?,
        audit::chains(&bus, contract.lanes, &log)?,
        exposed(&bus, contract, &log)?,
        in_force(&deliveries, people, newest, told),
        rows(url, tables, contract, &deliveries),
        receipts(url, tables, &log),
        recorded(url, &log, told),
    ])
}

/// Nobody was told something that can't be.
fn answers(told: &Told) -> Check {
    let mut check = Check::new("every request was answered");
    for fault in &told.faults {
        check.fault(fault);
    }
    check.figure = format!(
        "{} changes, {} attempts without an answer, {} requests sent twice",
        told.acknowledged.len(),
        told.retried,
        told.repeated
    );
    check
}

/// The changes that were answered, grant by grant in their order.
fn acknowledged(told: &Told) -> BTreeMap<&str, Vec<&Acknowledged>> {
    let mut all: BTreeMap<&str, Vec<&Acknowledged>> = BTreeMap::new();
    for one in &told.acknowledged {
        all.entry(&one.grant).or_default().push(one);
    }
    all
}

/// `bus.grants` holds every acknowledged change once, in order, in the person's lane, and no other.
fn changes(
    bus: &BusOptions,
    contract: &Contract,
    people: &[Person],
    told: &Told,
) -> Result<Check, BusError> {
    let mut check = Check::new("bus.grants = acknowledged changes");
    let mut found: BTreeMap<String, Vec<(u16, Grant)>> = BTreeMap::new();
    let mut total = 0_u64;
    for record in read_topic(bus, topics::GRANTS, contract.lanes, Isolation::Committed)? {
        if record.key == topics::IN_FORCE_KEY {
            continue;
        }
        let lane = u16::try_from(record.partition).unwrap_or(u16::MAX);
        match record.value.as_deref().map(Grant::decode) {
            Some(Ok(grant)) => {
                total += 1;
                found.entry(grant.id.hex()).or_default().push((lane, grant));
            }
            _ => check.fault(format!("[{lane}] at {}: no grant", record.offset)),
        }
    }
    for (id, expected) in acknowledged(told) {
        let found = found.remove(id).unwrap_or_default();
        let person = &people[expected[0].person];
        let same = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .zip(1..)
                .all(|(((lane, grant), one), counter)| {
                    grant.counter == counter
                        && one.counter == counter
                        && status(grant.status) == one.status
                        && *lane == person.lane
                        && grant.subject == person.tag
                });
        if !same {
            let is: Vec<_> = found
                .iter()
                .map(|(_, grant)| (grant.counter, status(grant.status)))
                .collect();
            let said: Vec<_> = expected
                .iter()
                .map(|one| (one.counter, one.status))
                .collect();
            check.fault(format!("{id}: {is:?}, acknowledged {said:?}"));
        }
    }
    for id in found.keys() {
        check.fault(format!("{id}: nobody was told of it"));
    }
    check.figure = format!("{total} records of {} consents", acknowledged(told).len());
    Ok(check)
}

const fn status(status: GrantStatus) -> &'static str {
    match status {
        GrantStatus::Open => "open",
        GrantStatus::Paused => "paused",
        GrantStatus::Closed => "closed",
    }
}

/// The service's own tables say the same: history, state, and one remembered answer a request.
fn history(url: &str, told: &Told) -> Check {
    let mut check = Check::new("history = acknowledged changes");
    let rows: Vec<(String, i64, String)> = database::with(url, async |connection| {
        sqlx::query_as(
            "SELECT encode(grant_id, 'hex'), counter, action FROM consent.history ORDER BY id",
        )
        .fetch_all(connection)
        .await
    });
    let total = rows.len();
    let mut found: HashMap<String, Vec<(i64, String)>> = HashMap::new();
    for (grant, counter, action) in rows {
        found.entry(grant).or_default().push((counter, action));
    }
    let states: Vec<(String, i64, i16)> = database::with(url, async |connection| {
        sqlx::query_as("SELECT encode(id, 'hex'), counter, status FROM consent.grants")
            .fetch_all(connection)
            .await
    });
    let states: HashMap<String, (i64, i16)> = states
        .into_iter()
        .map(|(id, counter, status)| (id, (counter, status)))
        .collect();
    let numbers = [("open", 0), ("paused", 1), ("closed", 2)];
    let all = acknowledged(told);
    check.equal("grants", states.len(), all.len());
    for (id, expected) in all {
        let said: Vec<(i64, String)> = expected
            .iter()
            .map(|one| (one.counter as i64, one.action.to_owned()))
            .collect();
        let found = found.remove(id).unwrap_or_default();
        if found != said {
            check.fault(format!("{id}: {found:?}, acknowledged {said:?}"));
        }
        let last = expected[expected.len() - 1];
        let status = numbers.iter().find(|(name, _)| *name == last.status);
        let expected = (
            last.counter as i64,
            status.map_or(-1, |(_, number)| *number),
        );
        if states.get(id) != Some(&expected) {
            check.fault(format!("{id}: {:?}, expected {expected:?}", states.get(id)));
        }
    }
    check.equal("of grants that nobody was told of", found.len(), 0);
    check.equal(
        "answers that are remembered",
        database::number(url, "SELECT count(*) FROM consent.request"),
        told.acknowledged.len() as i64,
    );
    check.figure = format!("{total} rows");
    check
}

/// One record of the union's topic.
struct Delivery {
    lane: u16,
    offset: i64,
    key: Vec<u8>,
    subject: SubjectTag,
    /// The version that it brings, or up to which it withdraws.
    version: Version,
    withdraws: bool,
}

/// The union's topic as readers of committed data see it, lane by lane in its order.
struct Deliveries(Vec<Delivery>);

impl Deliveries {
    /// Each with the audit entry that its header names; one without stands in another check.
    fn read(bus: &BusOptions, contract: &Contract, log: &Log) -> Result<Self, BusError> {
        let entries: HashMap<(u16, u64), &Entry> = log
            .entries
            .iter()
            .filter(|entry| entry.writer == AuditWriter::Gateway)
            .map(|entry| ((entry.lane, entry.number), entry))
            .collect();
        let topic = topic(contract);
        let records = read_topic(bus, &topic, contract.lanes, Isolation::Committed)?;
        Ok(Self(
            records
                .into_iter()
                .filter_map(|record| {
                    let header = record.delivery()?;
                    let entry = entries.get(&(header.audit_lane, header.audit_number))?;
                    Some(Delivery {
                        lane: entry.lane,
                        offset: record.offset,
                        subject: entry.subject,
                        version: entry.version,
                        withdraws: record.value.is_none(),
                        key: record.key,
                    })
                })
                .collect(),
        ))
    }

    /// What a reader of the topic holds at its end, by key.
    fn held(&self) -> HashMap<&[u8], &Delivery> {
        let mut held: HashMap<&[u8], &Delivery> = HashMap::new();
        for one in &self.0 {
            held.insert(&one.key, one);
        }
        held.retain(|_, one| !one.withdraws);
        held
    }
}

/// After `enforced`, nothing about the person was committed until somebody asked for more again: neither
/// a value in the topic nor a delivery in the log.
///
/// By place, not by time: the time in a record and in its audit entry is that of the decision, and what
/// a woken owner commits late was decided early. The client takes the end of committed data right after
/// the answer; whatever lies at or behind it was committed later.
fn barred(log: &Log, deliveries: &Deliveries, people: &[Person], told: &Told) -> Check {
    let mut check = Check::new("nothing after enforced");
    let mut topic: HashMap<SubjectTag, Vec<&Delivery>> = HashMap::new();
    for one in deliveries.0.iter().filter(|one| !one.withdraws) {
        topic.entry(one.subject).or_default().push(one);
    }
    let mut audit: HashMap<SubjectTag, Vec<&Entry>> = HashMap::new();
    for entry in log
        .of(AuditKind::Delivered)
        .filter(|entry| entry.agreement == AGREEMENT)
    {
        audit.entry(entry.subject).or_default().push(entry);
    }
    let mut looked = 0_u64;
    for bar in &told.barred {
        let person = &people[bar.person];
        for one in topic.get(&person.tag).into_iter().flatten() {
            looked += 1;
            if one.lane == person.lane && bar.topic.holds(one.offset) {
                check.fault(format!(
                    "{} counter {}: enforced at {}, delivered at [{}] {}",
                    bar.grant, bar.counter, bar.at_ms, one.lane, one.offset
                ));
            }
        }
        for entry in audit.get(&person.tag).into_iter().flatten() {
            looked += 1;
            if entry.lane == person.lane && bar.audit.holds(entry.offset) {
                check.fault(format!(
                    "{} counter {}: enforced at {}, audit entry {} of {}",
                    bar.grant,
                    bar.counter,
                    bar.at_ms,
                    entry.id(),
                    entry.at_ms
                ));
            }
        }
    }
    check.figure = format!(
        "{} enforced ({} when asked again, {} with an owner shut out), {} still pending, {looked} records held against them",
        told.barred.len(),
        told.later,
        told.fenced,
        told.pending
    );
    check
}

/// What readers of uncommitted data may have seen of killed owners is in the log.
fn exposed(bus: &BusOptions, contract: &Contract, log: &Log) -> Result<Check, BusError> {
    let mut check = Check::new("exposed = audit");
    let seen = audit::exposed(bus, contract)?;
    check.equal("exposed", log.count(AuditKind::Exposed), seen);
    check.figure = format!("{seen} records of aborted transactions");
    Ok(check)
}

/// The topic ends with exactly the newest record of everybody whose consent is in force and whose firm
/// is in arrears.
fn in_force(deliveries: &Deliveries, people: &[Person], newest: &[Newest], told: &Told) -> Check {
    let mut check = Check::new("topic = consents in force, in arrears");
    let mut last: BTreeMap<usize, &Acknowledged> = BTreeMap::new();
    for one in &told.acknowledged {
        last.insert(one.person, one);
    }
    let expected: BTreeMap<SubjectTag, Version> = last
        .iter()
        .filter(|(person, one)| one.status == "open" && newest[**person].months > 0)
        .map(|(person, _)| (people[*person].tag, (EPOCH, newest[*person].counter)))
        .collect();
    let held: BTreeMap<SubjectTag, Version> = deliveries
        .held()
        .values()
        .map(|one| (one.subject, one.version))
        .collect();
    for (subject, version) in &expected {
        match held.get(subject) {
            Some(found) if found == version => {}
            found => check.fault(format!("{subject:?}: {found:?}, expected {version:?}")),
        }
    }
    for (subject, version) in &held {
        if !expected.contains_key(subject) {
            check.fault(format!("{subject:?}: {version:?} was not withdrawn"));
        }
    }
    check.equal("records", deliveries.held().len(), expected.len());
    check.figure = format!("{} of {} people", expected.len(), people.len());
    check
}

/// The adapter's table holds what the topic ends with, and nothing was refused or missing.
fn rows(url: &str, tables: &AdapterTables, contract: &Contract, deliveries: &Deliveries) -> Check {
    let mut check = Check::new("adapter = topic");
    let table = tables.table(&topic(contract));
    let query = format!(
        "SELECT mz_person, mz_record, mz_epoch, mz_counter FROM {}.{table}",
        tables.schema()
    );
    let rows: Vec<Row> = database::with(url, async |connection| {
        sqlx::query_as(AssertSqlSafe(query))
            .fetch_all(connection)
            .await
    });
    let expected: HashSet<Row> = deliveries
        .held()
        .into_iter()
        .map(|(key, one)| {
            let (person, record) = key.split_at(key.len().min(16));
            let (epoch, counter) = one.version;
            let counter = i64::try_from(counter).unwrap_or(i64::MAX);
            (person.to_vec(), record.to_vec(), i64::from(epoch), counter)
        })
        .collect();
    let held: HashSet<Row> = rows.iter().cloned().collect();
    check.equal("rows, each once", rows.len(), held.len());
    check.equal("lost or old", expected.difference(&held).count(), 0);
    check.equal("not delivered so", held.difference(&expected).count(), 0);
    for table in ["mz_rejects", "mz_sequence_faults"] {
        let query = format!("SELECT count(*) FROM {}.{table}", tables.schema());
        check.equal(table, database::number(url, &query), 0);
    }
    check.figure = format!("{} rows", rows.len());
    check
}

/// Every withdrawal has one receipt, and every order one answer.
fn receipts(url: &str, tables: &AdapterTables, log: &Log) -> Check {
    let mut check = Check::new("withdrawals = receipts");
    let number = |query: &str| database::number(url, query);
    let orders = number("SELECT count(*) FROM consent.orders");
    let executed = number("SELECT count(*) FROM consent.orders WHERE executed_ms IS NOT NULL");
    let declined = number("SELECT count(*) FROM consent.orders WHERE declined_ms IS NOT NULL");
    let receipted = number("SELECT count(*) FROM consent.orders WHERE receipt_ms IS NOT NULL");
    check.equal("orders answered", executed + declined, orders);
    check.equal("receipts", receipted, executed);
    let audited = log.count(AuditKind::Withdrawn) as i64;
    check.equal("withdrawals in the log", audited, executed);
    let query = format!(
        "SELECT count(DISTINCT order_id) FROM {}.mz_receipts WHERE sent_at IS NOT NULL",
        tables.schema()
    );
    check.equal("receipts of the adapter", number(&query), executed);
    let reasons: BTreeMap<&str, usize> =
        log.of(AuditKind::Withdrawn)
            .fold(BTreeMap::new(), |mut all, entry| {
                *all.entry(&*entry.rule).or_default() += 1;
                all
            });
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    check.figure = format!(
        "{orders} orders, {declined} declined; {}",
        reasons.join(", ")
    );
    check
}

/// Every change stands in consent's own audit chain once, and nothing waits to be sent.
fn recorded(url: &str, log: &Log, told: &Told) -> Check {
    let mut check = Check::new("consent's log is complete");
    let waiting = database::number(url, "SELECT count(*) FROM consent.outbox");
    check.equal("rows in the outbox", waiting, 0);
    let mut found: HashMap<GrantId, u64> = HashMap::new();
    for entry in &log.entries {
        let change = matches!(
            entry.kind,
            AuditKind::ConsentGiven | AuditKind::GrantChanged | AuditKind::ConsentRevoked
        );
        if let Some(grant) = entry.grant.filter(|_| change) {
            *found.entry(grant).or_default() += 1;
        }
    }
    let all = acknowledged(told);
    check.equal("consents", found.len(), all.len());
    for (id, expected) in &all {
        let count = GrantId::from_hex(id).and_then(|id| found.get(&id).copied());
        check.equal(id, count.unwrap_or(0), expected.len() as u64);
    }
    let fenced = log.count(AuditKind::SlotFenced);
    let backfilled = log
        .of(AuditKind::Delivered)
        .filter(|entry| entry.cause == AuditCause::Backfill && entry.dataset == DATASET)
        .count();
    check.figure = format!(
        "{} entries; {fenced} lanes' owners shut out; {backfilled} records backfilled",
        found.values().sum::<u64>()
    );
    check
}
