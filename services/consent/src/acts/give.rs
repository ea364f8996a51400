//! A person gives consent: themselves in the app, at a counter, or by a representative.

use std::time::{Duration, Instant};

use chrono::Datelike as _;
use mz_contract::{
    Agreement, ConsentTerms, Contract, IdNumber, Representation as Kind, parse_date,
};
use mz_journal::{AuditCause, AuditKind, Grant, GrantId, GrantKind, GrantStatus, SubjectTag};
use mz_keys::evidence::{Act, GiveAct, give_act, verify};
use mz_policy::Now;
use mz_seal::timestamp_text;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::{DAY_MS, Deed, end_of_day, note_of, operator_of, usable};
use crate::barrier::Awaited;
use crate::handle::{Caller, Handle, check_request_id, digest_of, parse_id, pending, wait_of};
use crate::model::{EnforcementState, Evidence, Give, Given, Representation};
use crate::record::{ConsentRecord, Covered, RepresentationRecord, SCHEMA_VERSION, Text, receipt};
use crate::refusal::Refusal;
use crate::shared::now_ms;
use crate::store::Repeat;

/// How long a change is waited for by its grant before the store is asked where it lies.
const LOOK_AGAIN: Duration = Duration::from_millis(1_500);
/// First byte of what a consent's id hashes.
const CONSENT_ID_PREFIX: u8 = 0x24;

impl Handle {
    /// Gives consent and waits until it is in force everywhere, at most as long as asked. The same
    /// request again gets the same consent.
    pub async fn give(&self, caller: &Caller, give: Give) -> Result<Given, Refusal> {
        check_request_id(&give.request_id)?;
        let in_force = self.in_force();
        let contract = &*in_force.contract;
        let now = now_ms();
        let id = parse_id(&give.id)?;
        let (lane, subject) = self.place(&id);
        let digest = digest_of("give", &give)?;
        let principal = caller.name();

        let mut step = self.shared.store.step().await?;
        let mut given: Given = match step.repeated(&principal, &give.request_id, &digest).await? {
            Repeat::Done(given) => {
                // Shown anew, so looked at anew: the answer holds the person's receipt.
                self.check_evidence(contract, &give, &id)?;
                given
            }
            Repeat::Other => return Err(Refusal::RequestIdReused),
            Repeat::New => {
                let agreement = usable(contract, &give.agreement, now)?;
                let terms = agreement.consent.as_ref().ok_or(Refusal::NotByConsent)?;
                may_give(caller, agreement, &give)?;
                let data = covered(contract, agreement, &give)?;
                let expires_ms = validity(agreement, terms, &give, now)?;
                if give.notice_version != terms.notice_version {
                    return Err(Refusal::NoticeOutdated);
                }
                self.check_evidence(contract, &give, &id)?;
                let representation = self.representation(terms, &give, &id, now)?;

                let grant = Grant {
                    id: consent_id(&principal, &give.request_id, subject),
                    kind: GrantKind::Consent,
                    subject,
                    agreement: agreement.id.clone(),
                    datasets: match give.datasets.is_empty() {
                        true => Vec::new(),
                        false => data.iter().map(|one| one.dataset.clone()).collect(),
                    },
                    status: GrantStatus::Open,
                    counter: 1,
                    opened_ms: now,
                    expires_ms,
                    closed_ms: None,
                    cause: format!("act:{}", give.request_id),
                    reason: "CONSENT_GIVEN".to_owned(),
                    subject_sealed: None,
                };
                let record = record_of(contract, agreement, &give, &grant, data, representation)?;
                let operator = match &give.evidence {
                    Evidence::Counter { operator, .. } => operator.clone(),
                    Evidence::App { .. } => String::new(),
                };
                let salt = random()?;
                let receipt = receipt(
                    &contract.bus_id,
                    salt,
                    id.as_str(),
                    record.clone(),
                    &*self.shared.keys.signer,
                )
                .map_err(|fault| {
                    tracing::error!(error = %fault, "receipt not signed");
                    Refusal::Unavailable
                })?;
                let deed = Deed {
                    action: "given",
                    kind: AuditKind::ConsentGiven,
                    cause: AuditCause::Subject,
                    rule: "CONSENT_GIVEN",
                    principal: &principal,
                    operator: &operator,
                    reason: "",
                    evidence: serde_json::to_string(&give.evidence).ok(),
                    at_ms: now,
                };
                deed.record(&mut step, lane, &grant, Some(&record)).await?;
                let given = Given {
                    consent: record,
                    receipt,
                    enforcement: pending(lane),
                };
                step.remember(&principal, &give.request_id, &digest, &given, now)
                    .await?;
                given
            }
        };
        let grant = GrantId::from_hex(&given.consent.record_id).ok_or(Refusal::Unavailable)?;
        given.enforcement = self
            .commit_and_wait(step, lane, grant, 1, wait_of(give.wait_ms))
            .await?;
        Ok(given)
    }

    /// Commits a change of a grant, wakes the publisher, and waits until the change holds.
    pub(super) async fn commit_and_wait(
        &self,
        step: crate::store::Step,
        lane: u16,
        grant: GrantId,
        counter: u64,
        wait: Duration,
    ) -> Result<crate::model::Enforcement, Refusal> {
        // Watched before it can be read back, so that it is not missed.
        let watched = Watched::new(self, lane, grant, counter);
        step.commit().await?;
        self.shared.wake.ring();
        self.await_watched(watched, counter, wait).await
    }

    /// Waits until a change that was committed holds.
    pub(super) async fn await_grant(
        &self,
        lane: u16,
        grant: GrantId,
        counter: u64,
        wait: Duration,
    ) -> Result<crate::model::Enforcement, Refusal> {
        let watched = Watched::new(self, lane, grant, counter);
        self.await_watched(watched, counter, wait).await
    }

    async fn await_watched(
        &self,
        watched: Watched<'_>,
        counter: u64,
        wait: Duration,
    ) -> Result<crate::model::Enforcement, Refusal> {
        let (lane, grant) = (watched.1, watched.2);
        let started = Instant::now();
        let enforcement = loop {
            let row = self.shared.store.grant(grant).await?;
            let awaited = match row.filter(|row| row.grant.counter >= counter) {
                // It was read back before anybody watched: a repeated request, a question.
                Some(row) if row.offset_seen.is_some() => {
                    Awaited::Offset(row.offset_seen.unwrap_or_default())
                }
                _ => Awaited::Grant { id: grant, counter },
            };
            let rest = wait.saturating_sub(started.elapsed());
            let part = match awaited {
                Awaited::Grant { .. } => rest.min(LOOK_AGAIN),
                _ => rest,
            };
            let mut found = self.await_since(started, lane, awaited, part).await;
            let enforced = found.state == EnforcementState::Enforced;
            // Once its place is known, the rest of the wait is about that place.
            if enforced || rest.is_zero() || part == rest {
                found.waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                break found;
            }
        };
        drop(watched);
        Ok(enforcement)
    }

    fn check_evidence(
        &self,
        contract: &Contract,
        give: &Give,
        id: &IdNumber,
    ) -> Result<(), Refusal> {
        match &give.evidence {
            Evidence::Counter {
                operator,
                at,
                document,
            } => {
                operator_of(operator)?;
                note_of(document).map_err(|_| Refusal::EvidenceInvalid)?;
                moment(at).map(drop)
            }
            Evidence::App {
                session,
                at,
                key_id,
                signature,
            } => {
                note_of(session).map_err(|_| Refusal::EvidenceInvalid)?;
                moment(at)?;
                let act = give_act(&GiveAct {
                    agreement: &give.agreement,
                    datasets: &give.datasets,
                    separate: &give.separate,
                    notice_version: give.notice_version,
                    valid_until: &give.valid_until,
                    by: Act {
                        request_id: &give.request_id,
                        at,
                        session,
                        person: id,
                    },
                })
                .map_err(|_| Refusal::EvidenceInvalid)?;
                match verify(contract, key_id, &act, signature) {
                    true => Ok(()),
                    false => Err(Refusal::EvidenceInvalid),
                }
            }
        }
    }

    /// Who acts for the person, if anybody does; a child needs a guardian.
    fn representation(
        &self,
        terms: &ConsentTerms,
        give: &Give,
        id: &IdNumber,
        now_ms: i64,
    ) -> Result<Option<RepresentationRecord>, Refusal> {
        let minor = age(id, now_ms).is_none_or(|age| age < i32::from(terms.minor_age));
        let Some(given) = &give.representation else {
            return match minor {
                true => Err(Refusal::GuardianMissing),
                false => Ok(None),
            };
        };
        let kind = kind_of(given)?;
        if minor && kind != Kind::Guardian {
            return Err(Refusal::GuardianMissing);
        }
        let other = parse_id(&given.id)?;
        let until_ms = end_of_day(&given.valid_until)?;
        let fits = terms.accepts(kind) && until_ms > now_ms && other != *id;
        if !fits || note_of(&given.document).is_err() {
            return Err(Refusal::RepresentationInvalid);
        }
        let (_, representative) = self.place(&other);
        Ok(Some(RepresentationRecord {
            kind: kind.as_str().to_owned(),
            representative: representative.hex(),
            document: given.document.clone(),
            valid_until: given.valid_until.clone(),
        }))
    }
}

/// Forgets a watched grant when the wait ends, however it ends.
struct Watched<'h>(&'h Handle, u16, GrantId);

impl<'h> Watched<'h> {
    fn new(handle: &'h Handle, lane: u16, grant: GrantId, counter: u64) -> Self {
        handle.shared.barrier.watch(lane, grant, counter);
        Self(handle, lane, grant)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.shared.barrier.unwatch(self.1, self.2);
    }
}

fn may_give(caller: &Caller, agreement: &Agreement, give: &Give) -> Result<(), Refusal> {
    // The portal speaks for whoever signed in there, a counter for whoever stands at it.
    let app = matches!(give.evidence, Evidence::App { .. });
    let fits = match app {
        true => caller.is_portal(),
        false => caller.is_window_of(&agreement.consumer),
    };
    match fits {
        true => Ok(()),
        false => Err(Refusal::RoleForbidden),
    }
}

fn kind_of(given: &Representation) -> Result<Kind, Refusal> {
    [Kind::Guardian, Kind::Heir, Kind::Agent]
        .into_iter()
        .find(|kind| kind.as_str() == given.kind)
        .ok_or(Refusal::RepresentationInvalid)
}

/// What the consent covers, with the sensitive fields that were consented to separately: all of them,
/// or the dataset is not covered.
fn covered(
    contract: &Contract,
    agreement: &Agreement,
    give: &Give,
) -> Result<Vec<Covered>, Refusal> {
    let dataset_of = |section: &mz_contract::Section| &contract.datasets[section.dataset_ix];
    for wanted in &give.datasets {
        let known = agreement
            .sections
            .iter()
            .any(|section| dataset_of(section).id == *wanted);
        if !known {
            return Err(Refusal::DatasetUnknown);
        }
    }
    let mut all = Vec::new();
    let mut separate_used = 0;
    for section in &agreement.sections {
        let dataset = dataset_of(section);
        if !give.datasets.is_empty() && !give.datasets.contains(&dataset.id) {
            continue;
        }
        let name = |field: &u16| dataset.fields[usize::from(*field)].name.clone();
        let separate: Vec<String> = section.sensitive.iter().map(name).collect();
        for field in &separate {
            let said = format!("{}#{field}", dataset.id);
            if !give.separate.contains(&said) {
                return Err(Refusal::SeparateConsentMissing);
            }
            separate_used += 1;
        }
        all.push(Covered {
            dataset: dataset.id.clone(),
            title: Text::from(&dataset.title),
            provider: dataset.department.clone(),
            fields: section.fields.iter().map(name).collect(),
            separate,
        });
    }
    // A separate consent to something else would be one that nobody reads.
    if separate_used != give.separate.len() || all.is_empty() {
        return Err(Refusal::DatasetUnknown);
    }
    Ok(all)
}

/// When the consent ends: not after what the agreement allows, the agreement's own term, or the
/// representative's right.
fn validity(
    agreement: &Agreement,
    terms: &ConsentTerms,
    give: &Give,
    now_ms: i64,
) -> Result<i64, Refusal> {
    let expires_ms = end_of_day(&give.valid_until)?;
    let longest = now_ms.saturating_add((i64::from(terms.max_days) + 1) * DAY_MS);
    let last = parse_date(&give.valid_until).ok_or(Refusal::PeriodInvalid)?;
    if expires_ms <= now_ms || expires_ms > longest || last > agreement.valid_until {
        return Err(Refusal::PeriodInvalid);
    }
    if let Some(representation) = &give.representation
        && end_of_day(&representation.valid_until)? < expires_ms
    {
        return Err(Refusal::RepresentationInvalid);
    }
    Ok(expires_ms)
}

fn record_of(
    contract: &Contract,
    agreement: &Agreement,
    give: &Give,
    grant: &Grant,
    data: Vec<Covered>,
    representation: Option<RepresentationRecord>,
) -> Result<ConsentRecord, Refusal> {
    let terms = agreement.consent.as_ref().ok_or(Refusal::NotByConsent)?;
    let notice = agreement.notice.as_ref();
    let notice = notice.map_or("", |notice| notice.text.zh.as_str());
    let title = contract.department(&agreement.consumer);
    Ok(ConsentRecord {
        schema_version: SCHEMA_VERSION.to_owned(),
        record_id: grant.id.hex(),
        pii_principal_id: grant.subject.hex(),
        jurisdiction: "CN".to_owned(),
        recipient: agreement.consumer.clone(),
        recipient_title: title.map(|one| Text::from(&one.name)).unwrap_or_default(),
        purpose: agreement.purpose.clone(),
        purpose_title: Text::from(&agreement.title),
        lawful_basis: "consent (PIPL Art. 13(1))".to_owned(),
        data,
        notice_version: give.notice_version,
        notice_digest: hex::encode(Sha256::digest(notice)),
        given_at: timestamp_text(grant.opened_ms),
        valid_until: give.valid_until.clone(),
        withdrawal: Text::from(&terms.withdrawal),
        evidence: give.evidence.clone(),
        representation,
        retention_days: agreement.retention_days,
        contract: hex::encode(contract.digest),
    })
}

/// The same request gives the same consent, whatever crashes in between.
fn consent_id(principal: &str, request_id: &str, subject: SubjectTag) -> GrantId {
    let mut hash = Sha256::new();
    hash.update([CONSENT_ID_PREFIX]);
    for part in [principal, request_id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(subject.0);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    GrantId(id)
}

/// Full years in Beijing; `None` for a number without a birth date of the calendar.
fn age(id: &IdNumber, now_ms: i64) -> Option<i32> {
    let today = Now::at_ms(now_ms).moment.day()?;
    let born = id.birth_date()?;
    let before = (today.month(), today.day()) < (born.month(), born.day());
    Some(today.year() - born.year() - i32::from(before))
}

/// A moment in RFC 3339.
pub(super) fn moment(text: &str) -> Result<i64, Refusal> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|at| at.timestamp_millis())
        .map_err(|_| Refusal::EvidenceInvalid)
}

fn random() -> Result<[u8; 16], Refusal> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Refusal::Unavailable)?;
    Ok(bytes)
}
