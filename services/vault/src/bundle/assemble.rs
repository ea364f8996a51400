//! Puts a bundle together: from what is stored about one person to what the agreement lets the
//! department see, with a state for every need and an audit record for everything looked at.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_contract::{
    Agreement, BasisKind, Cardinality, Contract, Dataset, DatasetIx, FactNeed, IdNumber, Moment,
    Reasons, ScopeKind, Section, ServiceItem,
};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, GrantId, RecordTag, SubjectTag, field_bitmap,
};
use mz_policy::{Asks, Decision, GrantsIndex, Now, Rule, Standing, decide};
use mz_seal::timestamp_text;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value as Json, json};

use super::fields;
use super::model::{
    Bundle, FORMAT, FactEntry, FactState, OutcomeEntry, ReasonEntry, RecordEntry, SourceEntry,
    SubjectRef, Text,
};
use super::sign::hex;
use crate::freshness::Completeness;
use crate::keys::VaultKeys;
use crate::slot::ingest::Ingest;
use crate::store::FactRow;

/// The one code that comes with a time.
pub const SUPERSEDED: &str = "BUNDLE_FACT_SUPERSEDED";

/// How far the vault could vouch for one dataset when the bundle was made.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub completeness: Completeness,
    /// The vault holds everything that was published before the request.
    pub caught_up: bool,
}

/// One request, admitted.
pub struct Question<'a> {
    pub bundle_id: String,
    pub now_ms: i64,
    pub lane: u16,
    pub subject: SubjectTag,
    /// The grant in force; `None`: only needs that ask for none may be answered.
    pub grant: Option<GrantId>,
    pub operator: &'a str,
    pub reason: &'a str,
    pub sources: FxHashMap<DatasetIx, Source>,
}

/// A bundle that is neither recorded nor signed yet, and the records to be committed first.
pub struct Draft {
    pub bundle: Bundle,
    pub audits: Vec<Audit<'static>>,
}

pub struct Assembler<'a> {
    pub contract: &'a Contract,
    pub keys: &'a VaultKeys,
    pub ingest: &'a mut Ingest,
    pub grants: &'a GrantsIndex,
    pub asks: &'a Asks,
}

/// One stored record that may be shown.
struct Shown {
    entry: RecordEntry,
    row: Json,
    record: RecordTag,
    source_offset: i64,
    version: (u32, u64),
    event: [u8; 32],
}

/// What a stored record is to a need.
enum Found {
    Shown(Box<Shown>),
    /// Its newest version lies outside the agreement's rows. `since`: when that version was stated, if
    /// an earlier one may have been shown.
    Outside {
        since: Option<String>,
    },
}

/// What is known of one need.
struct Answer {
    state: FactState,
    code: &'static str,
    /// The grant under which it was looked up, or that bars it.
    grant: Option<GrantId>,
    shown: Vec<Shown>,
    /// When the version was stated that took the record out of the agreement's rows.
    as_of: Option<String>,
}

impl Assembler<'_> {
    /// Answers every need of `item` from `rows`, the stored facts of the person.
    pub fn assemble(
        &mut self,
        item: &ServiceItem,
        question: &Question<'_>,
        rows: &[FactRow],
    ) -> Draft {
        let agreement = &self.contract.agreements[item.agreement_ix];
        let mut pseudonym = None;
        let (mut facts, mut audits, mut known) = (Vec::new(), Vec::new(), Map::new());
        for need in &item.facts {
            let dataset = &self.contract.datasets[need.dataset_ix];
            let source = question.sources.get(&need.dataset_ix).copied();
            let source = source.unwrap_or(Source {
                completeness: Completeness::default(),
                caught_up: false,
            });
            let answer = self.answer(
                item,
                agreement,
                need,
                question,
                source,
                rows,
                &mut pseudonym,
            );
            audits.extend(self.audits(agreement, need, question, &answer));
            let given: Vec<&Json> = answer.shown.iter().map(|shown| &shown.row).collect();
            known.insert(
                need.name.clone(),
                json!({"state": answer.state, "rows": given}),
            );
            facts.extend(self.entries(need, dataset, question, source, answer));
        }
        let outcome = self.outcome(item, &Json::Object(known), Moment::at_ms(question.now_ms));
        let bundle = Bundle {
            format: FORMAT.to_owned(),
            bundle_id: question.bundle_id.clone(),
            bus: self.contract.bus_id.clone(),
            item: item.id.clone(),
            item_title: Text::from(&item.title),
            rules_version: item.version,
            issued_at: timestamp_text(question.now_ms),
            contract: hex(&self.contract.digest),
            agreement: agreement.id.clone(),
            consumer: agreement.consumer.clone(),
            consumer_title: department_title(self.contract, &agreement.consumer),
            purpose: agreement.purpose.clone(),
            purpose_title: Text::from(&agreement.title),
            subject: SubjectRef {
                case: question.grant.map(|grant| grant.hex()),
                pseudonym,
            },
            operator: question.operator.to_owned(),
            reason: question.reason.to_owned(),
            facts,
            sources: self.sources(item, question),
            outcome,
            audit_id: String::new(),
            audit_count: 0,
            signature: None,
        };
        Draft { bundle, audits }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one need with everything that bears on it"
    )]
    fn answer(
        &mut self,
        item: &ServiceItem,
        agreement: &Agreement,
        need: &FactNeed,
        question: &Question<'_>,
        source: Source,
        rows: &[FactRow],
        pseudonym: &mut Option<String>,
    ) -> Answer {
        let section = &agreement.sections[need.section];
        let now = Now::at_ms(question.now_ms);
        let mut answer = Answer {
            state: FactState::NotPermitted,
            code: "BUNDLE_FACT_NOT_PERMITTED",
            grant: question.grant,
            shown: Vec::new(),
            as_of: None,
        };
        if section.scope == ScopeKind::Case {
            match self.standing(section, question.subject, now) {
                Standing::InForce(grant) => answer.grant = Some(grant),
                Standing::Barred(grant, bar) => {
                    answer.code = Rule::from(bar).code();
                    answer.grant = Some(grant);
                    return answer;
                }
                Standing::Nothing => {
                    answer.code = match (question.grant, agreement.basis.kind) {
                        (Some(_), _) => "BUNDLE_FACT_NOT_COVERED",
                        (None, BasisKind::Consent) => "BUNDLE_FACT_NOT_CONSENTED",
                        (None, _) => "BUNDLE_FACT_NOT_PERMITTED",
                    };
                    return answer;
                }
            }
        }
        let dataset = &self.contract.datasets[need.dataset_ix];
        let mut trouble = None;
        let mut shown = Vec::new();
        let mut outside = None;
        for row in rows
            .iter()
            .filter(|row| row.dataset == dataset.schema_id && !row.withdrawn)
        {
            match self.show(agreement, section, dataset, row, now, pseudonym) {
                Ok(Found::Shown(record)) => shown.push(*record),
                Ok(Found::Outside { since }) => outside = outside.max(since),
                Err(code) => {
                    let (lane, offset) = (row.lane, row.source_offset);
                    tracing::error!(
                        dataset = dataset.id,
                        lane,
                        offset,
                        code,
                        "stored fact not usable"
                    );
                    trouble = Some(code);
                }
            }
        }
        // Newest first; the department's own version breaks a tie of the clock.
        shown.sort_by(|a, b| (&b.entry.as_of, b.version).cmp(&(&a.entry.as_of, a.version)));
        let mut fitting = fitting(item, need, shown, now.moment);
        if need.cardinality == Cardinality::One {
            fitting.truncate(1);
        }
        if !fitting.is_empty() {
            answer.state = FactState::Present;
            answer.code = "BUNDLE_FACT_PRESENT";
            answer.shown = fitting;
            return answer;
        }
        let stale = source
            .completeness
            .is_stale(dataset.stale_after_s, question.now_ms);
        let (state, code) = match trouble {
            Some(_) => (FactState::SourceUnavailable, "BUNDLE_FACT_UNUSABLE"),
            None if stale => (FactState::SourceUnavailable, "BUNDLE_SOURCE_UNAVAILABLE"),
            None if !source.caught_up => (FactState::SourceUnavailable, "BUNDLE_VAULT_BEHIND"),
            None if outside.is_some() => (FactState::None, SUPERSEDED),
            None if source.completeness.rejected > 0 => {
                (FactState::None, "BUNDLE_FACT_NONE_UNCERTAIN")
            }
            None => (FactState::None, "BUNDLE_FACT_NONE"),
        };
        answer.state = state;
        answer.code = code;
        answer.as_of = outside.filter(|_| code == SUPERSEDED);
        answer
    }

    /// What the person's grants say to one section.
    fn standing(&self, section: &Section, subject: SubjectTag, now: Now) -> Standing {
        self.asks.section(section).map_or(Standing::Nothing, |ask| {
            self.grants.standing(subject, ask, now.ms)
        })
    }

    /// One stored fact as the agreement shows it.
    /// Only a permit of the policy, the same that deliveries need, can be projected.
    fn show(
        &mut self,
        agreement: &Agreement,
        section: &Section,
        dataset: &Dataset,
        row: &FactRow,
        now: Now,
        pseudonym: &mut Option<String>,
    ) -> Result<Found, &'static str> {
        // What lies in the database is believed no more than what came over the wire.
        let event = self
            .ingest
            .verify(dataset, row.lane, &row.value, &row.seal)
            .map_err(|f| f.code())?;
        let id: IdNumber = self
            .ingest
            .identity(dataset, row.lane, &event)
            .map_err(|fault| fault.code())?;
        if self.keys.subject.tag(&id) != row.subject || event.meta.withdrawn {
            return Err("BUNDLE_FACT_UNUSABLE");
        }
        let ask = self.asks.section(section);
        let permit = match decide(
            agreement,
            section,
            &event,
            row.subject,
            ask,
            self.grants,
            now,
        ) {
            Decision::Permit(permit) => permit,
            // Somebody has asked: it is the row filter that leaves it out.
            Decision::OutOfScope(_) => {
                let later = event.meta.epoch > 1 || event.meta.counter > 1;
                let since = later.then(|| event.meta.ce_time_text());
                self.ingest.recycle(event);
                return Ok(Found::Outside { since });
            }
            Decision::Denied(denial) => return Err(denial.rule.code()),
        };
        if pseudonym.is_none() {
            let (consumer, purpose) = (&agreement.consumer, &agreement.purpose);
            let known_as = self
                .keys
                .pseudonym
                .pseudonym(consumer, purpose, row.subject);
            *pseudonym = Some(known_as.hex());
        }
        let mut answers = Map::new();
        for answer in &section.answers {
            let value = permit.answer(answer).map_err(|_| "FILTER_FAILED")?;
            answers.insert(answer.name.clone(), fields::answer(&value));
        }
        let (mut value, mut seal) = (Vec::new(), Vec::new());
        permit.value_into(&mut value);
        permit.seal_into(&mut seal);
        let (schema_id, datum) = mz_seal::unframe(&value).map_err(|fault| fault.code())?;
        let decoded =
            fields::decode(&section.projected_layout, datum).map_err(|_| "BUNDLE_FACT_UNUSABLE")?;
        let row = Shown {
            row: json!({"fields": decoded.ruled, "answers": answers}),
            entry: RecordEntry {
                titles: fields::titles(dataset, section, &decoded.shown),
                fields: decoded.shown,
                answers,
                as_of: event.meta.ce_time_text(),
                stream: event.meta.stream.to_owned(),
                version_epoch: event.meta.epoch,
                version_counter: event.meta.counter,
                event: hex(&event.event_digest),
                schema_id,
                datum: BASE64.encode(datum),
                seal: BASE64.encode(&seal),
            },
            record: self.keys.audit.record_tag(&dataset.id, event.record),
            source_offset: row.source_offset,
            version: (event.meta.epoch, event.meta.counter),
            event: event.event_digest,
        };
        self.ingest.recycle(event);
        Ok(Found::Shown(Box::new(row)))
    }

    /// One record per fact shown; one for a need that was answered otherwise: that there is
    /// nothing is information too.
    fn audits(
        &self,
        agreement: &Agreement,
        need: &FactNeed,
        question: &Question<'_>,
        answer: &Answer,
    ) -> Vec<Audit<'static>> {
        let section = &agreement.sections[need.section];
        let kind = match answer.state {
            FactState::NotPermitted => AuditKind::Denied,
            _ => AuditKind::Lookup,
        };
        let blank = || {
            let mut audit = request_audit(self.contract, question, kind);
            audit.agreement = Cow::Owned(agreement.id.clone());
            audit.consumer = Cow::Owned(agreement.consumer.clone());
            audit.purpose = Cow::Owned(agreement.purpose.clone());
            audit.dataset = Cow::Owned(self.contract.datasets[need.dataset_ix].id.clone());
            audit.rule = Cow::Borrowed(answer.code);
            audit.grant = answer.grant;
            if kind == AuditKind::Denied {
                audit.counts.denied = 1;
            }
            audit
        };
        if answer.shown.is_empty() {
            return vec![blank()];
        }
        let of = |shown: &Shown| {
            let mut audit = blank();
            audit.record = shown.record;
            audit.fields = Cow::Owned(field_bitmap(&section.fields));
            audit.event = shown.event;
            (audit.version_epoch, audit.version_counter) = shown.version;
            audit.source_offset = shown.source_offset;
            audit
        };
        answer.shown.iter().map(of).collect()
    }

    fn entries(
        &self,
        need: &FactNeed,
        dataset: &Dataset,
        question: &Question<'_>,
        source: Source,
        answer: Answer,
    ) -> Vec<FactEntry> {
        let stale = source
            .completeness
            .is_stale(dataset.stale_after_s, question.now_ms);
        let complete_to = time(source.completeness.complete_to_ms);
        let permitted = answer.state != FactState::NotPermitted;
        let blank = FactEntry {
            need: need.name.clone(),
            need_title: Text::from(&need.title),
            dataset: dataset.id.clone(),
            dataset_title: Text::from(&dataset.title),
            department: dataset.department.clone(),
            department_title: department_title(self.contract, &dataset.department),
            state: answer.state,
            reason: (answer.state != FactState::Present)
                .then(|| reason(&self.contract.reasons, answer.code)),
            complete_to: complete_to.clone().filter(|_| permitted),
            since: complete_to.filter(|_| permitted && (stale || !source.caught_up)),
            as_of: answer.as_of.clone(),
            record: None,
        };
        if answer.shown.is_empty() {
            return vec![blank];
        }
        let of = |shown: Shown| FactEntry {
            record: Some(shown.entry),
            ..blank.clone()
        };
        answer.shown.into_iter().map(of).collect()
    }

    fn sources(&self, item: &ServiceItem, question: &Question<'_>) -> Vec<SourceEntry> {
        let mut named = Vec::new();
        let mut sources = Vec::new();
        for need in &item.facts {
            if named.contains(&need.dataset_ix) {
                continue;
            }
            named.push(need.dataset_ix);
            let dataset = &self.contract.datasets[need.dataset_ix];
            let Some(source) = question.sources.get(&need.dataset_ix) else {
                continue;
            };
            let stale = source
                .completeness
                .is_stale(dataset.stale_after_s, question.now_ms);
            let available = source.caught_up && !stale;
            let complete_to = time(source.completeness.complete_to_ms);
            sources.push(SourceEntry {
                dataset: dataset.id.clone(),
                department: dataset.department.clone(),
                available,
                since: complete_to.clone().filter(|_| !available),
                complete_to,
                unreadable_rows: source.completeness.rejected,
            });
        }
        sources
    }

    fn outcome(&self, item: &ServiceItem, known: &Json, now: Moment) -> OutcomeEntry {
        outcome_entry(item, known, now, &self.contract.reasons)
    }
}

/// What the rules of `item` propose for these facts.
pub fn outcome_entry(
    item: &ServiceItem,
    known: &Json,
    now: Moment,
    reasons: &Reasons,
) -> OutcomeEntry {
    let outcome = item.decide(known, now);
    let code = format!(
        "OUTCOME_{}",
        outcome.kind.to_ascii_uppercase().replace('-', "_")
    );
    let title = reasons.get(&code).map_or_else(
        || Text {
            zh: outcome.kind.clone(),
            en: outcome.kind.clone(),
        },
        |found| Text::from(&found.text),
    );
    OutcomeEntry {
        kind: outcome.kind,
        title,
        working_days: outcome.working_days,
        reasons: outcome
            .reasons
            .iter()
            .map(|code| reason(reasons, code))
            .collect(),
    }
}

/// An audit record of this request about this person, with nothing looked at yet.
pub fn request_audit(
    contract: &Contract,
    question: &Question<'_>,
    kind: AuditKind,
) -> Audit<'static> {
    let mut audit = Audit::empty(
        AuditWriter::Vault,
        question.lane,
        question.now_ms,
        kind,
        AuditCause::Request,
    );
    audit.contract = contract.digest;
    audit.subject = question.subject;
    audit.grant = question.grant;
    audit.operator = Cow::Owned(question.operator.to_owned());
    audit.reason = Cow::Owned(question.reason.to_owned());
    audit
}

/// The records that meet the need's own rule.
fn fitting(item: &ServiceItem, need: &FactNeed, shown: Vec<Shown>, now: Moment) -> Vec<Shown> {
    shown
        .into_iter()
        .filter(|record| {
            !item
                .fitting(need, std::slice::from_ref(&record.row), now)
                .is_empty()
        })
        .collect()
}

pub fn reason(reasons: &Reasons, code: &str) -> ReasonEntry {
    let text = reasons.get(code).map_or_else(
        || Text {
            zh: code.to_owned(),
            en: code.to_owned(),
        },
        |found| Text::from(&found.text),
    );
    ReasonEntry {
        code: code.to_owned(),
        zh: text.zh,
        en: text.en,
    }
}

fn department_title(contract: &Contract, id: &str) -> Text {
    contract
        .departments
        .iter()
        .find(|department| department.id == id)
        .map_or_else(
            || Text {
                zh: id.to_owned(),
                en: id.to_owned(),
            },
            |d| Text::from(&d.name),
        )
}

fn time(ms: i64) -> Option<String> {
    (ms > 0).then(|| timestamp_text(ms))
}
