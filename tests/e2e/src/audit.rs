//! The audit log against what really happened: chains, deliveries, outcomes, refusals, look-ups.

use crate::bus::{Owned, each_record, read_topic};
use crate::check::Check;
use mz_bus::{BusError, BusOptions, Isolation};
use mz_contract::Contract;
use mz_journal::{
    AUDIT_WRITERS, Audit, AuditCause, AuditCounts, AuditKind, AuditWriter, Chain, Grant, GrantId,
    GrantKind, GrantStatus, OrderId, Quarantine, Record as _, State, SubjectTag, WITHDRAWAL_HEADER,
    Withdrawal, topics,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// One entry, owned, with what the equations need.
#[derive(Clone, Debug)]
pub struct Entry {
    pub writer: AuditWriter,
    pub lane: u16,
    pub number: u64,
    /// Where it lies in `bus.audit`, partition `lane`.
    pub offset: i64,
    pub at_ms: i64,
    pub kind: AuditKind,
    pub cause: AuditCause,
    pub agreement: String,
    /// Dataset id, or `answer.<name>.v<N>`.
    pub dataset: String,
    pub subject: SubjectTag,
    pub record: [u8; 16],
    pub grant: Option<GrantId>,
    pub order: Option<OrderId>,
    pub rule: String,
    pub reason: String,
    pub operator: String,
    pub version: (u32, u64),
    pub source_offset: i64,
    pub output_sequence: u64,
    pub counts: AuditCounts,
}

impl Entry {
    /// As bundles and people name it: `vault-3-120`.
    pub fn id(&self) -> String {
        format!("{}-{}-{}", self.writer.name(), self.lane, self.number)
    }

    /// Whether it stands for a record on a consumer topic: a delivery, or the word that one ends.
    pub fn is_output(&self) -> bool {
        self.writer == AuditWriter::Gateway
            && matches!(self.kind, AuditKind::Delivered | AuditKind::Withdrawn)
    }

    /// The consumer topic of a delivery or withdrawal.
    pub fn topic(&self) -> String {
        format!("to.{}.{}", self.agreement.replace('/', "."), self.dataset)
    }
}

/// The whole log, and everything it is checked against.
#[derive(Debug)]
pub struct Log {
    pub entries: Vec<Entry>,
    /// Chains that did not hold together.
    pub breaks: Vec<String>,
    /// Last number of each writer and lane.
    pub last: BTreeMap<(AuditWriter, u16), u64>,
}

impl Log {
    /// Reads `bus.audit` and walks every chain.
    pub fn read(bus: &BusOptions, lanes: u16) -> Result<Self, BusError> {
        let mut log = Self {
            entries: Vec::new(),
            breaks: Vec::new(),
            last: BTreeMap::new(),
        };
        let mut chains: HashMap<(AuditWriter, u16), Chain> = HashMap::new();
        each_record(bus, topics::AUDIT, lanes, Isolation::Committed, |record| {
            let lane = u16::try_from(record.partition).unwrap_or(u16::MAX);
            let writer = topics::parse_audit_key(&record.key).map(|(writer, ..)| writer);
            let (Some(writer), Some(bytes)) = (writer, record.value.as_deref()) else {
                log.breaks
                    .push(format!("lane {lane}: offset {}", record.offset));
                return;
            };
            let chain = chains
                .entry((writer, lane))
                .or_insert_with(|| Chain::new(writer, lane));
            match chain.check(&record.key, bytes) {
                Ok(audit) => log.entries.push(entry(&audit, record.offset)),
                Err(broken) => log.breaks.push(format!("{}: {broken}", writer.name())),
            }
        })?;
        for ((writer, lane), chain) in chains {
            log.last.insert((writer, lane), chain.number());
        }
        log.entries
            .sort_by_key(|entry| (entry.lane, entry.writer, entry.number));
        Ok(log)
    }

    /// Entries of one kind.
    pub fn of(&self, kind: AuditKind) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }

    /// How many entries of one kind.
    pub fn count(&self, kind: AuditKind) -> u64 {
        self.of(kind).count() as u64
    }
}

fn entry(audit: &Audit<'_>, offset: i64) -> Entry {
    Entry {
        writer: audit.writer,
        lane: audit.lane,
        number: audit.number,
        offset,
        at_ms: audit.at_ms,
        kind: audit.kind,
        cause: audit.cause,
        agreement: audit.agreement.to_string(),
        dataset: audit.dataset.to_string(),
        subject: audit.subject,
        record: audit.record.0,
        grant: audit.grant,
        order: audit.order,
        rule: audit.rule.to_string(),
        reason: audit.reason.to_string(),
        operator: audit.operator.to_string(),
        version: (audit.version_epoch, audit.version_counter),
        source_offset: audit.source_offset,
        output_sequence: audit.output_sequence,
        counts: audit.counts,
    }
}

/// Names of all consumer topics of a contract: deliveries and answers.
pub fn outputs(contract: &Contract) -> Vec<String> {
    contract
        .sections()
        .flat_map(|section| {
            std::iter::once(section.out_topic.clone()).chain(
                section
                    .answers
                    .iter()
                    .map(|answer| answer.out_topic.clone()),
            )
        })
        .collect()
}

/// The latest state of every slot lane, by its key.
pub fn states(
    bus: &BusOptions,
    lanes: u16,
) -> Result<BTreeMap<(&'static str, u16), State>, BusError> {
    let mut states = BTreeMap::new();
    each_record(bus, topics::STATE, lanes, Isolation::Committed, |record| {
        if let Some((kind, lane)) = topics::parse_state_key(&record.key)
            && let Some(state) = record.value.as_deref().and_then(|v| State::decode(v).ok())
        {
            states.insert((kind.name(), lane), state);
        }
    })?;
    Ok(states)
}

/// The grants as they joined, by id.
pub fn grants(bus: &BusOptions, lanes: u16) -> Result<HashMap<GrantId, Grant>, BusError> {
    let mut grants: HashMap<GrantId, Grant> = HashMap::new();
    each_record(bus, topics::GRANTS, lanes, Isolation::Committed, |record| {
        // The contract in force lies among them: it is nobody's grant.
        if record.key == topics::IN_FORCE_KEY {
            return;
        }
        if let Some(grant) = record.value.as_deref().and_then(|v| Grant::decode(v).ok()) {
            let joined = match grants.remove(&grant.id) {
                Some(held) => held.join(grant),
                None => grant,
            };
            grants.insert(joined.id, joined);
        }
    })?;
    Ok(grants)
}

/// Numbering and chains are unbroken, and the slots' own state agrees with them.
pub fn chains(bus: &BusOptions, lanes: u16, log: &Log) -> Result<Check, BusError> {
    let mut check = Check::new("audit chains");
    for broken in &log.breaks {
        check.fault(broken);
    }
    let states = states(bus, lanes)?;
    for ((kind, lane), state) in &states {
        let writer = AUDIT_WRITERS.into_iter().find(|writer| {
            matches!(
                (*kind, writer),
                ("gw", AuditWriter::Gateway)
                    | ("vault", AuditWriter::Vault)
                    | ("consent", AuditWriter::Consent)
            )
        });
        let Some(writer) = writer else { continue };
        let last = log.last.get(&(writer, *lane)).copied().unwrap_or(0);
        check.equal(
            &format!("last number of {kind}|{lane}"),
            last,
            state.audit_number,
        );
    }
    check.figure = format!("{} entries in {} chains", log.entries.len(), log.last.len());
    Ok(check)
}

/// Every record that readers of committed data see on a consumer topic, delivery or withdrawal, has
/// exactly one audit entry that names it, and every such entry its record; per topic and lane the
/// sequence has no gap. A withdrawal by the bus carries no value and names the order of its entry.
pub fn deliveries(bus: &BusOptions, contract: &Contract, log: &Log) -> Result<Check, BusError> {
    let mut check = Check::new("deliveries = audit");
    let mut audited: HashMap<(u16, u64), &Entry> = log
        .entries
        .iter()
        .filter(|entry| entry.is_output())
        .map(|entry| ((entry.lane, entry.number), entry))
        .collect();
    let total = audited.len();
    let (mut seen, mut withdrawn) = (0_u64, 0_u64);
    for topic in outputs(contract) {
        let mut last: HashMap<i32, u64> = HashMap::new();
        each_record(
            bus,
            &topic,
            contract.lanes,
            Isolation::Committed,
            |record| {
                seen += 1;
                let at = format!("{topic} [{}] at {}", record.partition, record.offset);
                let Some(header) = record.delivery() else {
                    check.fault(format!("{at}: no delivery header"));
                    return;
                };
                let sequence = last.entry(record.partition).or_insert(0);
                if header.sequence != *sequence + 1 {
                    check.fault(format!(
                        "{at}: sequence {} after {sequence}",
                        header.sequence
                    ));
                }
                *sequence = header.sequence;
                let Some(entry) = audited.remove(&(header.audit_lane, header.audit_number)) else {
                    check.fault(format!("{at}: no audit entry of its own"));
                    return;
                };
                let same = entry.topic() == topic
                    && i32::from(entry.lane) == record.partition
                    && entry.output_sequence == header.sequence
                    && entry.agreement == header.agreement;
                if !same {
                    check.fault(format!(
                        "{at}: audit entry {} is about something else",
                        entry.id()
                    ));
                }
                if entry.kind == AuditKind::Withdrawn {
                    withdrawn += 1;
                }
                if let Some(fault) = not_as_audited(&record, entry) {
                    check.fault(format!("{at}: {fault}"));
                }
            },
        )?;
    }
    for entry in audited.values().take(3) {
        check.fault(format!("audit entry {} has no delivery", entry.id()));
    }
    check.equal("entries with an output", total as u64, seen);
    let backfilled = log
        .of(AuditKind::Delivered)
        .filter(|entry| entry.cause == AuditCause::Backfill)
        .count();
    check.figure = format!("{seen} ({backfilled} backfilled, {withdrawn} withdrawals)");
    Ok(check)
}

/// How a record's form contradicts what the log says it is.
fn not_as_audited(record: &Owned, entry: &Entry) -> Option<&'static str> {
    let withdrawal = record.header(WITHDRAWAL_HEADER).map(Withdrawal::decode);
    match (entry.kind, withdrawal) {
        (AuditKind::Withdrawn, Some(Ok(_))) if record.value.is_some() => {
            Some("a withdrawal with a value")
        }
        (AuditKind::Withdrawn, Some(Ok(withdrawal))) => {
            let same = entry.order == Some(withdrawal.order) && entry.rule == withdrawal.reason;
            (!same).then_some("another order or reason than the log's")
        }
        (AuditKind::Withdrawn, _) => Some("a withdrawal that the bus did not sign"),
        (_, Some(_)) => Some("a delivery with the header of a withdrawal"),
        (_, None) => None,
    }
}

/// Per agreement and dataset (or answer): matched = delivered + denied + out of scope, and these are
/// the deliveries, denials and source events that there really are. `decided`: per dataset, source
/// events that were not quarantined.
pub fn outcomes(contract: &Contract, log: &Log, decided: &BTreeMap<String, u64>) -> Check {
    #[derive(Default)]
    struct Sum {
        matched: u64,
        delivered: u64,
        denied: u64,
        out_of_scope: u64,
    }
    let mut check = Check::new("matched = delivered + denied + out of scope");
    let mut sums: BTreeMap<(String, String, bool), Sum> = BTreeMap::new();
    for entry in log.of(AuditKind::Summary) {
        if !entry.counts.balanced() {
            check.fault(format!("summary {} is not balanced", entry.id()));
        }
        let backfill = entry.cause == AuditCause::Backfill;
        let sum = sums
            .entry((entry.agreement.clone(), entry.dataset.clone(), backfill))
            .or_default();
        sum.matched += u64::from(entry.counts.matched);
        sum.delivered += u64::from(entry.counts.delivered);
        sum.denied += u64::from(entry.counts.denied);
        sum.out_of_scope += u64::from(entry.counts.out_of_scope);
    }
    let mut delivered: BTreeMap<(String, String, bool), u64> = BTreeMap::new();
    for entry in log.of(AuditKind::Delivered) {
        let backfill = entry.cause == AuditCause::Backfill;
        *delivered
            .entry((entry.agreement.clone(), entry.dataset.clone(), backfill))
            .or_default() += 1;
    }
    for (key, sum) in &sums {
        let what = format!("{} {} backfill={}", key.0, key.1, key.2);
        check.equal(
            &format!("{what}: delivered"),
            delivered.remove(key).unwrap_or(0),
            sum.delivered,
        );
        check.equal(
            &format!("{what}: sum"),
            sum.delivered + sum.denied + sum.out_of_scope,
            sum.matched,
        );
    }
    for (key, count) in &delivered {
        check.fault(format!(
            "{count} deliveries of {} {} in no summary",
            key.0, key.1
        ));
    }
    // Every event was decided once for every agreement that reads its dataset.
    for agreement in &contract.agreements {
        for section in &agreement.sections {
            let dataset = &contract.datasets[section.dataset_ix].id;
            let events = decided.get(dataset).copied().unwrap_or(0);
            let labels = std::iter::once(dataset.clone()).chain(
                section
                    .answers
                    .iter()
                    .map(|answer| format!("answer.{}.v{}", answer.name, answer.version)),
            );
            for label in labels {
                let matched = sums
                    .get(&(agreement.id.clone(), label.clone(), false))
                    .map_or(0, |sum| sum.matched);
                check.equal(
                    &format!("{} {label}: matched", agreement.id),
                    matched,
                    events,
                );
            }
        }
    }
    let denied: u64 = sums.values().map(|sum| sum.denied).sum();
    // The vault's denials are of questions, not of events.
    let explained: u64 = log
        .of(AuditKind::Denied)
        .filter(|entry| entry.writer == AuditWriter::Gateway)
        .map(|entry| u64::from(entry.counts.denied))
        .sum();
    check.equal("denials told one by one", explained, denied);
    let matched: u64 = sums.values().map(|sum| sum.matched).sum();
    let delivered: u64 = sums.values().map(|sum| sum.delivered).sum();
    let out: u64 = sums.values().map(|sum| sum.out_of_scope).sum();
    check.figure = format!("{matched} = {delivered} + {denied} + {out}");
    check
}

/// Entries of each kind are as many as what they are about: quarantine notes, answered look-ups,
/// cases, records that only readers of uncommitted data saw; and the kinds add up to the log.
pub fn kinds(
    bus: &BusOptions,
    contract: &Contract,
    log: &Log,
    answered: &[String],
) -> Result<Check, BusError> {
    let mut check = Check::new("audit kinds");
    // Rows that a connector refused are on the same topic; they were never on the bus.
    let mut notes = 0_u64;
    for department in &contract.departments {
        each_record(
            bus,
            &topics::quarantine(&department.id),
            1,
            Isolation::Committed,
            |record| {
                let note = record.value.as_deref().map(Quarantine::decode);
                if matches!(note, Some(Ok(note)) if note.topic.starts_with("src.")) {
                    notes += 1;
                }
            },
        )?;
    }
    check.equal("quarantine notes", log.count(AuditKind::Quarantined), notes);

    let lookups: HashSet<String> = log.of(AuditKind::Lookup).map(Entry::id).collect();
    for id in answered {
        if !lookups.contains(id) {
            check.fault(format!("look-up {id} was answered and is not in the log"));
        }
    }

    let opened: BTreeSet<GrantId> = log
        .of(AuditKind::CaseOpened)
        .filter_map(|entry| entry.grant)
        .collect();
    let grants = grants(bus, contract.lanes)?;
    let of = |kind: GrantKind, closed: bool| {
        let all = grants.values().filter(|grant| grant.kind == kind);
        all.filter(|grant| !closed || grant.status == GrantStatus::Closed)
            .count() as u64
    };
    let cases = of(GrantKind::Case, false);
    check.equal("cases opened", log.count(AuditKind::CaseOpened), cases);
    check.equal("cases opened, each once", opened.len() as u64, cases);
    check.equal(
        "cases closed",
        log.count(AuditKind::CaseClosed),
        of(GrantKind::Case, true),
    );
    check.equal(
        "consents given",
        log.count(AuditKind::ConsentGiven),
        of(GrantKind::Consent, false),
    );
    check.equal(
        "consents revoked",
        log.count(AuditKind::ConsentRevoked),
        of(GrantKind::Consent, true),
    );

    let exposed = exposed(bus, contract)?;
    check.equal("exposed", log.count(AuditKind::Exposed), exposed);

    let kinds = [
        ("delivered", AuditKind::Delivered),
        ("denied", AuditKind::Denied),
        ("summaries", AuditKind::Summary),
        ("look-ups", AuditKind::Lookup),
        ("quarantined", AuditKind::Quarantined),
        ("exposed", AuditKind::Exposed),
        ("opened", AuditKind::CaseOpened),
        ("closed", AuditKind::CaseClosed),
        ("withdrawn", AuditKind::Withdrawn),
        ("orders declined", AuditKind::OrderDeclined),
        ("superseded", AuditKind::Superseded),
        ("consents given", AuditKind::ConsentGiven),
        ("grants changed", AuditKind::GrantChanged),
        ("consents revoked", AuditKind::ConsentRevoked),
        ("contracts in force", AuditKind::ContractInForce),
        ("slots fenced", AuditKind::SlotFenced),
        ("erasures", AuditKind::Erased),
        ("hidings", AuditKind::Hiding),
        ("label keys", AuditKind::SubjectKey),
        ("people labelled", AuditKind::SubjectBound),
        ("batches accepted", AuditKind::BatchAccepted),
    ];
    let told: Vec<String> = kinds
        .iter()
        .map(|(name, kind)| (name, log.count(*kind)))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    check.figure = told.join(", ");
    let sum: u64 = kinds.iter().map(|(_, kind)| log.count(*kind)).sum();
    check.equal("all kinds", sum, log.entries.len() as u64);
    Ok(check)
}

/// Records on consumer topics that readers of uncommitted data see and others don't.
pub fn exposed(bus: &BusOptions, contract: &Contract) -> Result<u64, BusError> {
    let mut exposed = 0;
    for topic in outputs(contract) {
        let count = |isolation| -> Result<u64, BusError> {
            let mut count = 0;
            each_record(bus, &topic, contract.lanes, isolation, |_| count += 1)?;
            Ok(count)
        };
        exposed += count(Isolation::Uncommitted)? - count(Isolation::Committed)?;
    }
    Ok(exposed)
}

/// Everything on every consumer topic of one department, as readers of uncommitted data see it: the
/// widest view that this department can have.
pub fn everything_sent_to(
    bus: &BusOptions,
    contract: &Contract,
    consumer: &str,
) -> Result<Vec<Owned>, BusError> {
    let mut all = Vec::new();
    for topic in outputs(contract) {
        if topic.starts_with(&format!("to.{consumer}.")) {
            all.extend(read_topic(
                bus,
                &topic,
                contract.lanes,
                Isolation::Uncommitted,
            )?);
        }
    }
    Ok(all)
}
