//! An agreement (共享协议): one consumer, one purpose, and per dataset what may be delivered about whom.

use std::num::NonZeroU32;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use chrono::NaiveDate;
use mz_seal::{Datum, FieldSet, Layout};
use serde::Deserialize;

use crate::dataset::{DatasetIx, Way};
use crate::expr::Expr;
use crate::reasons::Text;

/// Index of an agreement in `Contract::agreements`.
pub type AgreementIx = usize;

/// 法律依据 (PIPL Art. 13): consent, a statutory duty, or an emergency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasisKind {
    StatutoryDuty,
    Consent,
    Emergency,
}

impl BasisKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StatutoryDuty => "statutory_duty",
            Self::Consent => "consent",
            Self::Emergency => "emergency",
        }
    }
}

/// One law and article.
#[derive(Clone, Debug)]
pub struct Citation {
    pub title: Text,
    pub article: String,
}

#[derive(Clone, Debug)]
pub struct Basis {
    pub kind: BasisKind,
    pub law: Vec<Citation>,
    /// The duty, in a sentence.
    pub duty: Text,
}

/// The application (Order 809 Art. 20): 使用依据, 使用场景, 使用范围, 共享方式, 使用时限.
#[derive(Clone, Debug)]
pub struct Application {
    pub number: String,
    pub applied_on: NaiveDate,
    pub basis: Text,
    pub scene: Text,
    pub scope: Text,
    pub mode: Way,
    pub until: NaiveDate,
}

/// How people are told (PIPL Art. 17 and 35).
#[derive(Clone, Debug)]
pub struct Notice {
    pub given: Text,
    pub text: Text,
}

#[derive(Clone, Debug)]
pub struct Suspension {
    pub since: NaiveDate,
    pub reason: Text,
}

/// 终止: the agreement has ended before its term (Order 809 Art. 27).
#[derive(Clone, Debug)]
pub struct Termination {
    pub since: NaiveDate,
    pub reason: Text,
    /// Who decided.
    pub by: String,
}

/// Who may consent for somebody: a guardian (PIPL Art. 31), an heir (Art. 49), an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Representation {
    Guardian,
    Heir,
    Agent,
}

impl Representation {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guardian => "guardian",
            Self::Heir => "heir",
            Self::Agent => "agent",
        }
    }
}

/// Longest validity of one consent, in days: three years. A purpose that lasts longer asks again.
pub const CONSENT_MAX_DAYS: u32 = 1095;

/// What `minor_age` may be, in years: the law's 14 (PIPL Art. 31) up to full age (民法典 Art. 17).
pub const MINOR_AGES: RangeInclusive<u8> = 14..=18;

/// What a consent under this agreement must be. There exactly when the basis is consent.
#[derive(Clone, Debug)]
pub struct ConsentTerms {
    /// Version of the notice that the person agrees to, from 1. It rises with each change of the text:
    /// a change of purpose, way or kinds of data needs a new consent (PIPL Art. 14).
    pub notice_version: u32,
    /// Longest validity of one consent, in days.
    pub max_days: u32,
    /// How to withdraw it (PIPL Art. 15).
    pub withdrawal: Text,
    /// Which representatives are accepted, each once; empty: the person alone.
    pub representation: Vec<Representation>,
    /// Below this age, in years, a guardian consents (PIPL Art. 31).
    pub minor_age: u8,
}

impl ConsentTerms {
    #[must_use]
    pub fn accepts(&self, representation: Representation) -> bool {
        self.representation.contains(&representation)
    }
}

/// About whom a section delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// Everybody in the register.
    Population,
    /// The rows that the filter lets through.
    Matching,
    /// People with an open case (or consent).
    Case,
}

/// The name other crates use.
pub type Scope = ScopeKind;

impl ScopeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Population => "population",
            Self::Matching => "matching",
            Self::Case => "case",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Agreement {
    pub ix: AgreementIx,
    /// `police/talent-settlement`
    pub id: String,
    pub consumer: String,
    pub purpose: String,
    pub title: Text,
    pub basis: Basis,
    pub application: Application,
    /// First day in force, Beijing time.
    pub valid_from: NaiveDate,
    /// Last day in force, Beijing time.
    pub valid_until: NaiveDate,
    pub suspension: Option<Suspension>,
    pub ended: Option<Termination>,
    /// `Some` exactly when the basis is consent.
    pub consent: Option<ConsentTerms>,
    pub notice: Option<Notice>,
    /// How long the consumer may keep what it was sent, in days.
    pub retention_days: u32,
    pub sections: Vec<Section>,
    pub cases: Option<CaseRules>,
}

impl Agreement {
    /// Whether nothing may be delivered: suspended, or ended, which is more. Who asks only this never
    /// lets an ended agreement through.
    #[must_use]
    pub const fn suspended(&self) -> bool {
        self.suspension.is_some() || self.ended.is_some()
    }

    /// Whether it was terminated: it permits nothing, and what was delivered under it is withdrawn.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the day lies in the agreement's term. Suspension is a matter of its own.
    #[must_use]
    pub fn in_term(&self, day: NaiveDate) -> bool {
        self.valid_from <= day && day <= self.valid_until
    }
}

/// What one agreement reads of one dataset.
#[derive(Clone, Debug)]
pub struct Section {
    /// Unique over all agreements of the contract.
    pub ix: u32,
    pub agreement_ix: AgreementIx,
    pub dataset_ix: DatasetIx,
    pub scope: ScopeKind,
    pub filter: Option<Expr>,
    /// Indices of the delivered fields in the source schema, ascending.
    pub fields: Vec<u16>,
    pub field_set: FieldSet,
    /// Indices of the sensitive fields (PIPL Art. 28) that the consumer learns something from, ascending:
    /// delivered ones, and those that an answer or the row filter reads. Where the basis is consent, each
    /// needs a separate one (Art. 29).
    pub sensitive: Vec<u16>,
    /// Whether the subject leaf is disclosed: the subject field is among the delivered ones.
    pub disclose_subject: bool,
    /// Whether the record leaf is disclosed: all record fields are among the delivered ones.
    pub disclose_record: bool,
    /// `to.police.talent-settlement.hrss.insurance.status.v1`
    pub out_topic: String,
    /// 0 until `schema-ids.yaml` has one (drafts only).
    pub schema_id: u32,
    pub projected_avsc: String,
    pub projected_layout: Arc<Layout>,
    pub answers: Vec<Answer>,
    /// How many records a day (UTC) the provider agreed to, delivered and looked up; `None`: no number
    /// was agreed. Nothing is held back at it: an auditor's question shows the days above it.
    pub per_day: Option<NonZeroU32>,
    pub approval: Approval,
}

/// The provider's approval of one section, and its signature once there is one.
#[derive(Clone, Debug)]
pub struct Approval {
    pub approver: String,
    pub date: NaiveDate,
    pub document: String,
    /// What the provider signs; see `approval::section_digest`.
    pub digest: [u8; 32],
    /// The id of the key whose signature was found valid.
    pub signed_by: Option<String>,
}

/// A derived answer: computed by the gateway from the source event, attested by the bus only.
#[derive(Clone, Debug)]
pub struct Answer {
    pub name: String,
    pub version: u16,
    pub title: Text,
    pub expr: Expr,
    /// `to.police.talent-settlement.answer.insured6of12.v1`
    pub out_topic: String,
    /// 0 until `schema-ids.yaml` has one (drafts only).
    pub schema_id: u32,
    pub avsc: String,
    pub layout: Arc<Layout>,
}

/// When cases open and close. An open case is what `ScopeKind::Case` asks for.
#[derive(Clone, Debug, Default)]
pub struct CaseRules {
    pub opens: Vec<OpenRule>,
    /// Days a case lives that the first bundle request opens; `None`: a request opens none.
    pub on_request_days: Option<u32>,
    pub closes: Vec<CloseRule>,
}

#[derive(Clone, Debug)]
pub struct OpenRule {
    pub dataset: DatasetIx,
    pub when: Expr,
    pub subjects: Vec<SubjectPath>,
    pub days: u32,
}

#[derive(Clone, Debug)]
pub struct CloseRule {
    pub dataset: DatasetIx,
    pub when: Expr,
}

/// Where in an event people are named: a top-level string field, or one string in each item of an
/// array of records, written `dependents[].idNo`.
#[derive(Clone, Debug)]
pub struct SubjectPath {
    /// As written in the agreement.
    pub source: String,
    pub field: usize,
    /// The member of each item; `None` for a plain field.
    pub member: Option<String>,
    pub(crate) layout: Arc<Layout>,
}

/// A path could not be read; the datum does not have the schema's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event does not have the shape of its schema")]
pub struct PathFault;

impl SubjectPath {
    /// The texts at this path. They are not yet identity numbers: parse each with `IdNumber::parse`.
    /// An absent value is left out.
    pub fn read(&self, datum: &[u8], spans: &[Range<u32>]) -> Result<Vec<String>, PathFault> {
        let bytes = spans
            .get(self.field)
            .and_then(|span| datum.get(span.start as usize..span.end as usize))
            .ok_or(PathFault)?;
        let datum = self
            .layout
            .decode(self.field, bytes)
            .map_err(|_| PathFault)?;
        match (&self.member, datum) {
            (_, Datum::Null) => Ok(Vec::new()),
            (None, Datum::Str(text)) => Ok(vec![text]),
            (Some(member), Datum::Array(items)) => items
                .into_iter()
                .filter_map(|item| member_text(item, member).transpose())
                .collect(),
            _ => Err(PathFault),
        }
    }
}

fn member_text(item: Datum, member: &str) -> Result<Option<String>, PathFault> {
    let Datum::Record(members) = item else {
        return Err(PathFault);
    };
    match members.into_iter().find(|(name, _)| name == member) {
        Some((_, Datum::Str(text))) => Ok(Some(text)),
        Some((_, Datum::Null)) => Ok(None),
        _ => Err(PathFault),
    }
}
