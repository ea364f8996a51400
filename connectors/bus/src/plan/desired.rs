//! What a cluster must look like for a contract: topics with their settings, and who may do what.
//! Pure: the same contract and options give the same answer. Names are logical.

use crate::admin::{Acl, Operation, Resource, Topic};
use crate::options::reader_group;
use crate::slots::slot_group;
use mz_contract::dataset::SOURCE_RETENTION_MAX_DAYS;
use mz_contract::{Agreement, Contract};
use mz_journal::topics::{self, SlotKind};
use std::collections::{BTreeMap, BTreeSet};

/// What an installation decides beside the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Slots of each kind (gateway, vault): the most processes that can share the work.
    pub slots: u32,
    /// Copies of each partition; `None`: the cluster's default. Production: 3.
    pub replication: Option<u16>,
    /// Copies that must have a record before it counts as written. Production: 2.
    pub min_insync: Option<u16>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            slots: 1,
            replication: None,
            min_insync: None,
        }
    }
}

/// The plan's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub topics: BTreeMap<String, Topic>,
    pub acls: BTreeSet<Acl>,
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Backfill requests and answers: long enough for a vault to come back, no longer.
const BACKFILL_HOURS: u64 = 24;
const QUARANTINE_DAYS: u64 = 30;
/// Orders to gateway slots: longer than any slot stays down unnoticed; consent repeats what was missed.
const ORDER_DAYS: u64 = 7;
/// Receipts of withdrawals: as long as a delivery can live, so that one that is missing can be looked for.
const RECEIPT_DAYS: u64 = 90;
/// A withdrawn value has left the consumer's topic after this long, its tombstone after 30 days.
const COMPACTION_LAG_HOURS: (u64, u64) = (12, 24);
const TOMBSTONE_DAYS: u64 = 30;
/// Longest life of a delivered record in the consumer's topic; shorter if the agreement says so.
const DELIVERY_MAX_DAYS: u64 = 90;

/// Principals of the bureau that hold rights; `bus.admin` is a super user.
const GATEWAY: &str = "bus.gateway";
const VAULT: &str = "bus.vault";
const CONSOLE: &str = "bus.console";
const CONSENT: &str = "bus.consent";
const LEDGER: &str = "bus.ledger";
const AUDITOR: &str = "bus.auditor";
/// Shards into which an installation can cut its ledger: at most one a lane.
pub const MAX_LEDGER_SHARDS: u16 = 16;
/// Under this id the console records that it read the log.
pub const CONSOLE_TRANSACTIONAL_ID: &str = "mz-console-0";

/// Topics and rules for a contract.
pub fn desired(contract: &Contract, options: &PlanOptions) -> Desired {
    Desired {
        topics: desired_topics(contract, options),
        acls: desired_acls(contract, options),
    }
}

fn desired_topics(contract: &Contract, options: &PlanOptions) -> BTreeMap<String, Topic> {
    let lanes = u32::from(contract.lanes);
    let mut all = BTreeMap::new();
    let mut add = |name: String, partitions: u32, settings: Vec<(&str, String)>| {
        let mut settings: BTreeMap<String, String> = settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        if let Some(copies) = options.min_insync {
            settings.insert("min.insync.replicas".to_owned(), copies.to_string());
        }
        let topic = Topic {
            partitions,
            replication: options.replication,
            settings,
        };
        all.insert(name, topic);
    };
    for dataset in &contract.datasets {
        let days = u64::from(dataset.retention_days.min(SOURCE_RETENTION_MAX_DAYS));
        add(dataset.src_topic(), lanes, kept_for(days * DAY_MS, DAY_MS));
    }
    for agreement in &contract.agreements {
        for topic in deliveries(agreement) {
            add(topic, lanes, delivered(u64::from(agreement.retention_days)));
        }
    }
    for (department, stream) in streams(contract) {
        let checkpoint = topics::checkpoint(department, stream);
        add(checkpoint, 1, newest_only(24 * HOUR_MS));
        add(topics::status(department, stream), 1, newest_only(HOUR_MS));
    }
    for department in &contract.departments {
        let settings = kept_for(QUARANTINE_DAYS * DAY_MS, DAY_MS);
        add(topics::quarantine(&department.id), 1, settings);
    }
    add(topics::STATE.to_owned(), lanes, newest_only(HOUR_MS));
    add(topics::GRANTS.to_owned(), lanes, newest_only(24 * HOUR_MS));
    let backfill = kept_for(BACKFILL_HOURS * HOUR_MS, HOUR_MS);
    add(topics::FETCH.to_owned(), lanes, backfill.clone());
    add(topics::FACTS.to_owned(), lanes, backfill);
    let forever = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
    ];
    add(topics::AUDIT.to_owned(), lanes, forever);
    // One partition a shard: no shard waits for another's open transaction.
    let shards = u32::from(contract.lanes.min(MAX_LEDGER_SHARDS));
    add(topics::LEDGER.to_owned(), shards, newest_only(HOUR_MS));
    add(topics::COSIGNATURES.to_owned(), 1, newest_only(HOUR_MS));
    let orders = kept_for(ORDER_DAYS * DAY_MS, DAY_MS);
    add(topics::ORDERS.to_owned(), lanes, orders);
    let receipts = kept_for(RECEIPT_DAYS * DAY_MS, DAY_MS);
    add(topics::RECEIPTS.to_owned(), lanes, receipts);
    // Every version stays under its own digest: a decision names the digest it was made under.
    add(topics::CONTRACT.to_owned(), 1, newest_only(24 * HOUR_MS));
    let slots = kept_for(DAY_MS, DAY_MS);
    add(topics::SLOTS.to_owned(), options.slots, slots);
    all
}

/// Deleted after `retention`; a segment is closed often enough for that to be true.
fn kept_for(retention_ms: u64, segment_ms: u64) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", retention_ms.to_string()),
        ("segment.ms", segment_ms.to_string()),
    ]
}

/// The newest record of each key, older ones gone after at most `lag_ms`.
fn newest_only(lag_ms: u64) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "compact".to_owned()),
        ("max.compaction.lag.ms", lag_ms.to_string()),
        ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        // Small segments: only closed ones are compacted, and a new owner reads what is left.
        ("segment.bytes", (64 << 20).to_string()),
    ]
}

fn delivered(agreement_days: u64) -> Vec<(&'static str, String)> {
    let (least, most) = COMPACTION_LAG_HOURS;
    let days = agreement_days.clamp(TOMBSTONE_DAYS, DELIVERY_MAX_DAYS);
    vec![
        ("cleanup.policy", "compact,delete".to_owned()),
        ("min.compaction.lag.ms", (least * HOUR_MS).to_string()),
        ("max.compaction.lag.ms", (most * HOUR_MS).to_string()),
        ("delete.retention.ms", (TOMBSTONE_DAYS * DAY_MS).to_string()),
        ("retention.ms", (days * DAY_MS).to_string()),
        ("segment.ms", (least * HOUR_MS).to_string()),
    ]
}

/// `to.*` topics of an agreement: projected records and derived answers.
fn deliveries(agreement: &Agreement) -> impl Iterator<Item = String> {
    agreement.sections.iter().flat_map(|section| {
        let answers = section
            .answers
            .iter()
            .map(|answer| answer.out_topic.clone());
        std::iter::once(section.out_topic.clone()).chain(answers)
    })
}

/// Each (department, stream) once.
fn streams(contract: &Contract) -> BTreeSet<(&str, &str)> {
    contract
        .datasets
        .iter()
        .flat_map(|dataset| {
            let department = dataset.department.as_str();
            dataset
                .streams
                .iter()
                .map(move |stream| (department, stream.as_str()))
        })
        .collect()
}

/// Collects rules for one principal at a time.
struct Rules(BTreeSet<Acl>);

impl Rules {
    fn topic(&mut self, principal: &str, name: impl Into<String>, operations: &[Operation]) {
        let name = name.into();
        for operation in operations {
            let name = name.clone();
            self.0
                .insert(Acl::grant(principal, Resource::Topic, name, *operation));
        }
    }

    fn group(&mut self, principal: &str, name: impl Into<String>) {
        let rule = Acl::grant(principal, Resource::Group, name, Operation::Read);
        self.0.insert(rule);
    }

    /// A transactional producer: its own id and nothing near it.
    fn producer(&mut self, principal: &str, transactional_id: &str) {
        for operation in [Operation::Write, Operation::Describe] {
            let resource = Resource::TransactionalId;
            self.0
                .insert(Acl::grant(principal, resource, transactional_id, operation));
        }
    }
}

const READ: &[Operation] = &[Operation::Read];
const WRITE: &[Operation] = &[Operation::Write];
const BOTH: &[Operation] = &[Operation::Read, Operation::Write];

fn desired_acls(contract: &Contract, options: &PlanOptions) -> BTreeSet<Acl> {
    let mut rules = Rules(BTreeSet::new());
    for department in &contract.departments {
        connector(&mut rules, contract, &department.id);
        adapter(&mut rules, contract, &department.id);
    }
    gateway(&mut rules, contract, options);
    vault(&mut rules, contract, options);
    console(&mut rules, contract);
    consent(&mut rules, contract, options);
    ledger(&mut rules, contract);
    rules.topic(AUDITOR, topics::AUDIT, READ);
    rules.topic(AUDITOR, topics::COSIGNATURES, READ);
    rules.group(AUDITOR, reader_group(AUDITOR));
    rules.0
}

fn connector(rules: &mut Rules, contract: &Contract, department: &str) {
    let principal = format!("{department}.connector");
    let own = |dataset: &&mz_contract::Dataset| dataset.department == department;
    for dataset in contract.datasets.iter().filter(own) {
        // Read: a stream without a checkpoint asks its own events for its last epoch.
        rules.topic(&principal, dataset.src_topic(), BOTH);
    }
    for (owner, stream) in streams(contract) {
        if owner != department {
            continue;
        }
        rules.topic(&principal, topics::checkpoint(owner, stream), BOTH);
        rules.topic(&principal, topics::status(owner, stream), BOTH);
        let id = topics::connector_transactional_id(owner, stream);
        rules.producer(&principal, &id);
    }
    rules.topic(&principal, topics::quarantine(department), BOTH);
    rules.group(&principal, reader_group(&principal));
}

fn adapter(rules: &mut Rules, contract: &Contract, department: &str) {
    let principal = format!("{department}.adapter");
    let own = |agreement: &&Agreement| agreement.consumer == department;
    for agreement in contract.agreements.iter().filter(own) {
        for topic in deliveries(agreement) {
            rules.topic(&principal, topic, READ);
        }
        // For a stock client of the department's own developers.
        rules.group(&principal, consumer_group(agreement));
    }
    // Its witness cosigns logs that record what it was sent. Whoever reads that verifies everything.
    if contract.agreements.iter().any(|agreement| own(&agreement)) {
        rules.topic(&principal, topics::COSIGNATURES, WRITE);
    }
    // Signed receipts of withdrawals. It can't read the topic: others' receipts are not its business.
    rules.topic(&principal, topics::RECEIPTS, WRITE);
    rules.group(&principal, reader_group(&principal));
}

/// The group that a department's stock clients use for one purpose: `police.talent-settlement`.
pub fn consumer_group(agreement: &Agreement) -> String {
    format!("{}.{}", agreement.consumer, agreement.purpose)
}

fn gateway(rules: &mut Rules, contract: &Contract, options: &PlanOptions) {
    for dataset in &contract.datasets {
        rules.topic(GATEWAY, dataset.src_topic(), READ);
    }
    for topic in contract.agreements.iter().flat_map(deliveries) {
        // Reads back what an aborted transaction may have shown.
        rules.topic(GATEWAY, topic, BOTH);
    }
    for department in &contract.departments {
        rules.topic(GATEWAY, topics::quarantine(&department.id), WRITE);
    }
    rules.topic(GATEWAY, topics::STATE, BOTH);
    rules.topic(GATEWAY, topics::GRANTS, BOTH);
    rules.topic(GATEWAY, topics::FETCH, WRITE);
    rules.topic(GATEWAY, topics::FACTS, READ);
    rules.topic(GATEWAY, topics::AUDIT, WRITE);
    rules.topic(GATEWAY, topics::ORDERS, READ);
    rules.topic(GATEWAY, topics::CONTRACT, READ);
    slots(rules, GATEWAY, SlotKind::Gateway, options);
}

fn vault(rules: &mut Rules, contract: &Contract, options: &PlanOptions) {
    for dataset in &contract.datasets {
        rules.topic(VAULT, dataset.src_topic(), READ);
    }
    for (department, stream) in streams(contract) {
        rules.topic(VAULT, topics::status(department, stream), READ);
    }
    rules.topic(VAULT, topics::STATE, BOTH);
    // The first request for evidence opens the case.
    rules.topic(VAULT, topics::GRANTS, BOTH);
    rules.topic(VAULT, topics::FETCH, READ);
    rules.topic(VAULT, topics::FACTS, WRITE);
    // Its HTTP side answers auditors who read what: from the log itself.
    rules.topic(VAULT, topics::AUDIT, BOTH);
    // An order to erase a person is the vault's: it destroys the key.
    rules.topic(VAULT, topics::ORDERS, READ);
    rules.topic(VAULT, topics::CONTRACT, READ);
    slots(rules, VAULT, SlotKind::Vault, options);
}

fn slots(rules: &mut Rules, principal: &str, kind: SlotKind, options: &PlanOptions) {
    rules.topic(principal, topics::SLOTS, READ);
    rules.group(principal, slot_group(kind));
    rules.group(principal, reader_group(principal));
    for slot in 0..options.slots {
        rules.producer(principal, &kind.transactional_id(slot));
    }
}

fn console(rules: &mut Rules, contract: &Contract) {
    rules.topic(CONSOLE, topics::AUDIT, BOTH);
    rules.topic(CONSOLE, topics::STATE, BOTH);
    for (department, stream) in streams(contract) {
        rules.topic(CONSOLE, topics::status(department, stream), READ);
    }
    rules.group(CONSOLE, reader_group(CONSOLE));
    rules.producer(CONSOLE, CONSOLE_TRANSACTIONAL_ID);
}

/// Reads what everybody did, writes nothing but how far its own log is.
fn ledger(rules: &mut Rules, contract: &Contract) {
    rules.topic(LEDGER, topics::AUDIT, READ);
    rules.topic(LEDGER, topics::LEDGER, BOTH);
    rules.topic(LEDGER, topics::COSIGNATURES, READ);
    rules.group(LEDGER, reader_group(LEDGER));
    for shard in 0..contract.lanes.min(MAX_LEDGER_SHARDS) {
        rules.producer(LEDGER, &topics::ledger_transactional_id(shard));
    }
}

fn consent(rules: &mut Rules, contract: &Contract, options: &PlanOptions) {
    // A contract is put in force only when its topics are there. To see that is not to read them.
    let sources = contract
        .datasets
        .iter()
        .map(mz_contract::Dataset::src_topic);
    for topic in sources.chain(contract.agreements.iter().flat_map(deliveries)) {
        rules.topic(CONSENT, topic, &[Operation::Describe]);
    }
    // Grants that gateway and vault opened, positions for the barrier, who was sent what.
    for topic in [topics::GRANTS, topics::STATE, topics::AUDIT] {
        rules.topic(CONSENT, topic, BOTH);
    }
    // Read: a version that is put in force is read back as a slot would read it.
    rules.topic(CONSENT, topics::CONTRACT, BOTH);
    rules.topic(CONSENT, topics::ORDERS, WRITE);
    rules.topic(CONSENT, topics::RECEIPTS, READ);
    rules.group(CONSENT, reader_group(CONSENT));
    rules.producer(CONSENT, &SlotKind::Consent.transactional_id(0));
    // A revocation must hold although a slot's owner is frozen. Whoever initialises the slot's own
    // transactional id shuts that owner out: what it then wakes up with can't be committed. Nothing of
    // the slot's topics comes with it: consent writes no delivery and reads no source.
    for kind in [SlotKind::Gateway, SlotKind::Vault] {
        for slot in 0..options.slots {
            rules.producer(CONSENT, &kind.transactional_id(slot));
        }
    }
}
