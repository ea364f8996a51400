//! What is asked of the consent service and what it answers: the bodies of its HTTP API.
//!
//! An identity number appears in requests only; answers and everything that is stored name people by
//! tags, or not at all.

use serde::{Deserialize, Serialize};

use crate::record::{ConsentRecord, Receipt};

/// Longest wait for enforcement that a caller may ask for, milliseconds.
pub const MAX_WAIT_MS: u64 = 30_000;
/// Wait when the caller says nothing, milliseconds.
pub const DEFAULT_WAIT_MS: u64 = 3_000;

/// Evidence of the person's own act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// In the citizen's app: signed by the portal with its evidence key.
    App {
        /// The app's own name for the sign-in session; never a number of the person.
        session: String,
        /// RFC 3339, when the person acted.
        at: String,
        key_id: String,
        /// Base64, over `mianzheng/evidence/v1\n` and the canonical JSON of the act (see
        /// docs/consent.md).
        signature: String,
    },
    /// At a counter: the operator saw the person and what they signed.
    Counter {
        operator: String,
        at: String,
        /// Where the signed form is filed.
        document: String,
    },
}

/// Somebody who acts for the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Representation {
    /// `guardian`, `heir` or `agent`.
    pub kind: String,
    /// The representative's identity number.
    pub id: String,
    /// The document that shows it: certificate, court order, power of attorney.
    pub document: String,
    /// Last day, `2027-01-31`.
    pub valid_until: String,
}

/// Gives consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Give {
    pub request_id: String,
    pub id: String,
    /// `<consumer>/<purpose>`.
    pub agreement: String,
    /// Dataset ids; empty: all of the agreement.
    #[serde(default)]
    pub datasets: Vec<String>,
    /// Sensitive fields consented to separately (PIPL Art. 29), `<dataset>#<field>`.
    #[serde(default)]
    pub separate: Vec<String>,
    /// Last day, `2027-11-25`.
    pub valid_until: String,
    pub notice_version: u32,
    pub evidence: Evidence,
    #[serde(default)]
    pub representation: Option<Representation>,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// The answer to [`Give`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub consent: ConsentRecord,
    /// For the person: verifies offline.
    pub receipt: Receipt,
    pub enforcement: Enforcement,
}

/// What is done to a grant that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Revoke,
    Pause,
    Resume,
    Extend,
    /// Closes a case; of consents, [`Self::Revoke`] is the word.
    Close,
}

/// Changes a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub request_id: String,
    /// 32 hexadecimal digits.
    pub grant: String,
    /// The person; needed when the portal acts, so that nobody changes another's by its id.
    #[serde(default)]
    pub id: Option<String>,
    /// Why, in the operator's or the person's words. No identity number.
    pub reason: String,
    #[serde(default)]
    pub operator: Option<String>,
    /// For an extension: the new last day.
    #[serde(default)]
    pub valid_until: Option<String>,
    /// For resuming and extending a consent: the person's act.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Opens a case for some people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenCase {
    pub request_id: String,
    pub agreement: String,
    /// The applicant first, then those whose facts the case needs too (dependents, household, owners).
    pub subjects: Vec<String>,
    /// Not more than the agreement allows; its own number when absent.
    #[serde(default)]
    pub days: Option<u32>,
    /// The application's number at the consumer.
    pub application: String,
    pub operator: String,
    pub reason: String,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// The answer to [`OpenCase`]: one grant a person, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub grants: Vec<GrantView>,
    pub enforcement: Vec<Enforcement>,
}

/// The answer to [`Change`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub grant: GrantView,
    pub enforcement: Enforcement,
}

/// A grant, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    pub id: String,
    /// `consent` or `case`.
    pub kind: String,
    pub agreement: String,
    pub consumer: String,
    pub purpose: String,
    pub title_zh: String,
    pub title_en: String,
    /// Empty: all of the agreement.
    pub datasets: Vec<String>,
    /// `open`, `paused`, `closed` or `expired`.
    pub status: String,
    pub counter: u64,
    pub opened_at: String,
    pub expires_at: String,
    pub closed_at: Option<String>,
    pub cause: String,
    pub reason: String,
    pub record: Option<ConsentRecord>,
}

/// Whether a change holds everywhere (docs/consent.md, "Enforced").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    pub state: EnforcementState,
    /// When this was known, RFC 3339; of `enforced` alone.
    pub at: Option<String>,
    pub lane: u16,
    /// Offset of the change in `bus.grants`, partition `lane`; -1 while it isn't written yet.
    pub position: i64,
    /// Slots that have not shown it yet, `gw-1`.
    pub missing: Vec<String>,
    /// Slots whose owner was shut out so that it holds.
    pub fenced: Vec<String>,
    pub waited_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementState {
    Enforced,
    Pending,
}

/// Asks about one person's grants, or about one grant's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub id: String,
    #[serde(default)]
    pub operator: Option<String>,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub grants: Vec<GrantView>,
    pub history: Vec<HistoryEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub grant: String,
    pub at: String,
    /// `given`, `opened`, `revoked`, `paused`, `resumed`, `extended`, `closed`, `refetched`.
    pub action: String,
    pub counter: u64,
    /// Who did it: `police.window`, `bus.portal`, `bus` (by rule or event).
    pub principal: String,
    pub operator: String,
    pub reason: String,
}

/// Whether a change of a grant holds by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskEnforcement {
    pub grant: String,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Why a consumer gets, or doesn't get, each field about a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    pub id: String,
    pub consumer: String,
    pub purpose: String,
    #[serde(default)]
    pub operator: Option<String>,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    pub agreement: String,
    /// Digest of the contract that was looked at, hex, and its version (0: none put in force yet).
    pub contract: String,
    pub contract_version: u64,
    pub basis: String,
    pub in_term: bool,
    pub suspended: bool,
    pub terminated: bool,
    pub sections: Vec<BecauseSection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BecauseSection {
    pub dataset: String,
    pub title_zh: String,
    pub title_en: String,
    /// `population`, `matching` or `case`.
    pub scope: String,
    /// The row filter as the agreement writes it; what it says of this person's rows is not told.
    pub filter: Option<String>,
    /// New events about this person are delivered (those that the row filter lets through).
    pub flows: bool,
    /// The rule that decides: a reason code.
    pub rule: String,
    pub rule_zh: String,
    pub rule_en: String,
    /// The grant that carries it, or that bars it.
    pub grant: Option<String>,
    pub fields: Vec<BecauseField>,
    /// What would change the answer, by reason code with its texts.
    pub change_zh: String,
    pub change_en: String,
    /// Records that the consumer holds now, and since when the newest.
    pub held: u64,
    pub held_since: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BecauseField {
    pub name: String,
    pub title_zh: String,
    pub title_en: String,
    pub allowed: bool,
    /// FIELD_AGREED, FIELD_NOT_AGREED, or the section's rule.
    pub rule: String,
}

/// Suspends, resumes or ends an agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementAct {
    pub request_id: String,
    pub agreement: String,
    /// Why, for the file and for those concerned.
    pub reason: String,
    pub operator: String,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementActKind {
    Suspend,
    Resume,
    Terminate,
}

/// Puts a contract in force: its files, path below the contract root → text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    pub request_id: String,
    pub files: std::collections::BTreeMap<String, String>,
    pub operator: String,
    pub reason: String,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// The answer to [`AgreementAct`] and [`Activate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForceView {
    pub version: u64,
    pub digest: String,
    /// One for each lane.
    pub enforcement: Vec<Enforcement>,
    /// People whose facts are sent once more.
    pub refetched: u64,
    /// Records whose withdrawal was ordered or is due.
    pub withdrawals: u64,
}

/// Every version that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    pub version: u64,
    pub digest: String,
    /// `start`, `activate`, `suspend`, `resume`, `terminate`.
    pub act: String,
    pub agreement: String,
    pub principal: String,
    pub operator: String,
    pub reason: String,
    pub at: String,
}

/// Lists withdrawals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskWithdrawals {
    pub agreement: Option<String>,
    /// Only those without a receipt.
    pub open_only: bool,
    /// Where the page before ended.
    pub cursor: Option<String>,
    pub limit: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawals {
    pub withdrawals: Vec<WithdrawalView>,
    pub cursor: Option<String>,
    /// Ordered and without a receipt, over all pages.
    pub open: u64,
    /// Age of the oldest of them, seconds.
    pub oldest_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawalView {
    pub order: String,
    pub agreement: String,
    pub dataset: String,
    pub reason: String,
    pub ordered_at: String,
    /// When the consumer's topic said it.
    pub executed_at: Option<String>,
    pub sequence: Option<u64>,
    /// Why a slot did not carry it out: it no longer held.
    pub declined: Option<String>,
    pub receipt_at: Option<String>,
    /// `deleted`, `frozen`, `marked` or `absent`.
    pub action: Option<String>,
    /// Seconds since it was ordered, while no receipt came.
    pub age_s: Option<u64>,
}

/// Erases a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    pub request_id: String,
    pub id: String,
    pub operator: String,
    pub reason: String,
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// What was erased, and what remains where until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Asks again with the same request id for progress.
    pub request_id: String,
    pub grants_closed: u64,
    pub enforcement: Vec<Enforcement>,
    pub withdrawals: u64,
    pub withdrawals_open: u64,
    /// The vault's audit record of the destroyed key, `vault-3-17`; null until it was done.
    pub key_destroyed: Option<String>,
    pub key_destroyed_at: Option<String>,
    pub remains: Vec<Remains>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// A topic, a table or a log.
    pub place: String,
    pub what_zh: String,
    pub what_en: String,
    /// RFC 3339; null: for as long as the log is kept.
    pub until: Option<String>,
}
