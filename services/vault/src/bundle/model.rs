//! An evidence bundle (证明材料包) as JSON: what a service item needs to know about one person,
//! from whom, how fresh, and what the rules propose. docs/bundle-format.md is this file in prose.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names this layout; a verifier refuses others.
pub const FORMAT: &str = "mianzheng/bundle/v1";

/// A text for people in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub zh: String,
    pub en: String,
}

impl From<&mz_contract::Text> for Text {
    fn from(text: &mz_contract::Text) -> Self {
        Self {
            zh: text.zh.clone(),
            en: text.en.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: String,
    /// UUID, version 7.
    pub bundle_id: String,
    /// Id of the bus that issued it.
    pub bus: String,
    /// Service item (办事项).
    pub item: String,
    pub item_title: Text,
    /// Version of the item's rules that proposed the outcome.
    pub rules_version: u32,
    /// RFC 3339, UTC, milliseconds.
    pub issued_at: String,
    /// Digest of the contract in force, hex.
    pub contract: String,
    /// `<consumer>/<purpose>`.
    pub agreement: String,
    pub consumer: String,
    pub consumer_title: Text,
    pub purpose: String,
    pub purpose_title: Text,
    pub subject: SubjectRef,
    /// Who asked, by the department's own operator id.
    pub operator: String,
    /// Why, as the operator wrote it; also in the audit record.
    pub reason: String,
    pub facts: Vec<FactEntry>,
    pub sources: Vec<SourceEntry>,
    pub outcome: OutcomeEntry,
    /// First audit record of this bundle: `vault-<lane>-<number>`.
    pub audit_id: String,
    /// How many consecutive audit records belong to it.
    pub audit_count: u32,
    /// Absent only while the bundle is being signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureEntry>,
}

/// Whose facts these are, without the identity number. (A fact whose agreement discloses the
/// number carries it in its own fields, under its department's seal.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectRef {
    /// The case under which the facts were read, hex. Absent when no need is case-scoped.
    pub case: Option<String>,
    /// The consumer's own pseudonym of the person, hex: the first half of its `to.*` keys.
    pub pseudonym: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactState {
    /// A verified record, in the agreement's scope.
    Present,
    /// No such record within the agreement's scope; the source is complete to `complete_to`.
    None,
    /// Nobody can say: the source is behind or down since `since`. Never a reason to ask for paper.
    SourceUnavailable,
    /// The agreement doesn't cover this.
    NotPermitted,
}

/// One record, or the absence of one, for one need of the item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactEntry {
    /// Name of the need in the service item.
    pub need: String,
    pub need_title: Text,
    pub dataset: String,
    pub dataset_title: Text,
    /// Issuing department.
    pub department: String,
    pub department_title: Text,
    pub state: FactState,
    /// A code of schemas/reasons.yaml where the state isn't `present`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonEntry>,
    /// The source was complete to this time, RFC 3339.
    pub complete_to: Option<String>,
    /// `source_unavailable`, or a present fact whose source has since fallen behind: since when.
    pub since: Option<String>,
    /// With `BUNDLE_FACT_SUPERSEDED` only: when the register stated the version that took the record
    /// out of what the agreement shows, RFC 3339. The version itself is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Present facts only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordEntry>,
}

/// A present fact: readable, and as its department sealed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordEntry {
    /// The agreed fields, decoded from `datum`. Dates and decimals are strings.
    pub fields: Value,
    /// Titles of the agreed fields, in the same order as the datum.
    pub titles: Vec<FieldTitle>,
    /// Answers derived from the record by the agreement's rules: attested by the bus only.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub answers: Map<String, Value>,
    /// When the register stated this, RFC 3339 (the sealed `ce_time`).
    pub as_of: String,
    pub stream: String,
    pub version_epoch: u32,
    pub version_counter: u64,
    /// Digest of the sealed event, hex.
    pub event: String,
    /// Schema id of the projected record at the schema endpoint.
    pub schema_id: u32,
    /// The projected Avro record, base64.
    pub datum: String,
    /// The delivery seal over it (docs/wire-format.md), base64.
    pub seal: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldTitle {
    pub name: String,
    pub zh: String,
    pub en: String,
    /// What a code value means, where the field is an enumeration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
}

/// How complete each asked source was when the bundle was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    pub dataset: String,
    pub department: String,
    pub available: bool,
    /// RFC 3339. Absent when the source never said.
    pub complete_to: Option<String>,
    /// Unavailable since, RFC 3339. Absent when available, or when the source never spoke.
    pub since: Option<String>,
    /// Rows of the register that its connector could not read: while there are any, a person
    /// without a record may be one of them.
    pub unreadable_rows: u64,
}

/// What the rules propose. The clerk decides (PIPL Art. 24).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeEntry {
    pub kind: String,
    pub title: Text,
    /// 0: the same visit.
    pub working_days: u32,
    pub reasons: Vec<ReasonEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonEntry {
    pub code: String,
    pub zh: String,
    pub en: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureEntry {
    /// Key of the bus, as in `bus.keys.yaml`.
    pub key_id: String,
    /// `ed25519-sha256`.
    pub suite: String,
    /// SHA-256 of the signed bytes, hex; also in the sheet's QR code.
    pub digest: String,
    /// 64 bytes, base64.
    pub value: String,
}

/// `POST /v1/bundles`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleRequest {
    pub item: String,
    pub subject: SubjectQuery,
    pub operator: String,
    pub reason: String,
}

/// Who is asked about.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum SubjectQuery {
    /// Identity number (GB 11643).
    Id(String),
    /// A case the department was told of, 32 hex digits.
    Case(String),
}

impl std::fmt::Debug for BundleRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the subject nor free text belongs in a log.
        f.debug_struct("BundleRequest")
            .field("item", &self.item)
            .finish_non_exhaustive()
    }
}
