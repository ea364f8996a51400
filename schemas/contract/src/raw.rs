//! The shapes of the YAML files as they stand on disk. Nothing here is checked beyond its type;
//! the modules named after each thing check it and build what the rest of the system uses.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::agreement::{BasisKind, Representation, ScopeKind};
use crate::dataset::{Availability, Classification, Sharing, UpdateFrequency, Way};
use crate::department::Kind;
use crate::item::Cardinality;
use crate::keys::KeyUse;
use crate::status::AgreementState;
use crate::yaml::Located;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawText {
    pub(crate) zh: String,
    pub(crate) en: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReason {
    pub(crate) zh: Option<String>,
    pub(crate) en: Option<String>,
    pub(crate) fix: Option<RawText>,
}

// installation.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawInstallation {
    pub(crate) bus: RawBus,
    pub(crate) lanes: Located<u16>,
    pub(crate) jurisdiction: RawJurisdiction,
    pub(crate) calendar: Located<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBus {
    pub(crate) id: Located<String>,
    pub(crate) name: RawText,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawJurisdiction {
    pub(crate) region: Located<String>,
    pub(crate) name: RawText,
}

// departments/<id>.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDepartment {
    pub(crate) name: RawText,
    pub(crate) kind: Kind,
    pub(crate) uscc: Located<String>,
}

// departments/<id>.keys.yaml and bus.keys.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKeys {
    pub(crate) keys: Vec<Located<RawKey>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKey {
    pub(crate) id: Located<String>,
    #[serde(rename = "use")]
    pub(crate) usage: KeyUse,
    pub(crate) suite: Located<String>,
    pub(crate) public: Located<String>,
    pub(crate) status: RawKeyStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawKeyStatus {
    Active,
    Revoked(RawRevocation),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRevocation {
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) last_batch: BTreeMap<String, RawBatch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBatch {
    pub(crate) epoch: u32,
    pub(crate) batch: u64,
}

// catalogue/<dept>/<name>.v<N>.yaml. The nine attributes of Order 809 Art. 13 are options here, so
// that lint can name each one that is missing instead of stopping at the first.

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDataset {
    // the nine
    pub(crate) title: Option<Located<RawText>>,
    pub(crate) fields: Option<Located<BTreeMap<String, Located<RawField>>>>,
    pub(crate) provider: Option<Located<String>>,
    pub(crate) format: Option<Located<String>>,
    pub(crate) update_frequency: Option<Located<UpdateFrequency>>,
    pub(crate) sharing: Option<Located<Sharing>>,
    pub(crate) ways: Option<Located<Vec<Way>>>,
    pub(crate) conditions: Option<Located<RawConditions>>,
    pub(crate) classification: Option<Located<RawClassification>>,
    // what the bus needs besides
    pub(crate) summary: RawText,
    pub(crate) code: Located<String>,
    pub(crate) published: RawPublished,
    pub(crate) subject: Located<String>,
    pub(crate) record: Located<Vec<Located<String>>>,
    pub(crate) streams: Located<Vec<Located<String>>>,
    pub(crate) availability: Availability,
    pub(crate) stale_after: Located<String>,
    pub(crate) retention: Located<String>,
    pub(crate) limits: RawLimits,
    pub(crate) breaking_change: Option<RawText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawField {
    pub(crate) zh: String,
    pub(crate) en: String,
    pub(crate) class: Classification,
    #[serde(default)]
    pub(crate) share: RawShare,
    #[serde(default)]
    pub(crate) symbols: BTreeMap<String, Located<RawText>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawShare {
    #[default]
    Allowed,
    AnswerOnly,
    Never,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConditions {
    pub(crate) scope: Option<RawText>,
    pub(crate) uses: Option<RawText>,
    pub(crate) law: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClassification {
    pub(crate) category: RawText,
    pub(crate) level: Located<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPublished {
    pub(crate) secrecy_review: String,
    pub(crate) impact_assessment: String,
    pub(crate) approved_by: String,
    pub(crate) approved_on: Located<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    pub(crate) bases: Vec<BasisKind>,
    pub(crate) max_case_days: Located<u32>,
    pub(crate) until: Located<String>,
}

// agreements/<consumer>/<purpose>.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAgreement {
    pub(crate) title: RawText,
    pub(crate) basis: RawBasis,
    pub(crate) application: RawApplication,
    pub(crate) valid: RawValidity,
    pub(crate) suspended: Option<Located<RawSuspension>>,
    pub(crate) notice: Option<Located<RawNotice>>,
    pub(crate) consent: Option<Located<RawConsent>>,
    pub(crate) retention: Located<String>,
    pub(crate) sections: Located<Vec<Located<RawSection>>>,
    pub(crate) cases: Option<Located<RawCases>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBasis {
    pub(crate) kind: Located<BasisKind>,
    pub(crate) law: Located<Vec<RawCitation>>,
    pub(crate) duty: RawText,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCitation {
    pub(crate) title: RawText,
    pub(crate) article: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawApplication {
    pub(crate) number: Located<String>,
    pub(crate) applied_on: Located<String>,
    pub(crate) basis: RawText,
    pub(crate) scene: RawText,
    pub(crate) scope: RawText,
    pub(crate) mode: Way,
    pub(crate) until: Located<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawValidity {
    pub(crate) from: Located<String>,
    pub(crate) until: Located<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSuspension {
    pub(crate) since: Located<String>,
    pub(crate) reason: RawText,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNotice {
    pub(crate) given: RawText,
    pub(crate) text: RawText,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConsent {
    pub(crate) notice_version: Located<u32>,
    pub(crate) max: Located<String>,
    pub(crate) withdrawal: Located<RawText>,
    pub(crate) representation: Vec<Located<Representation>>,
    pub(crate) minor_age: Located<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSection {
    pub(crate) dataset: Located<String>,
    pub(crate) scope: Located<ScopeKind>,
    pub(crate) filter: Option<Located<String>>,
    pub(crate) fields: Located<Vec<Located<String>>>,
    #[serde(default)]
    pub(crate) answers: Vec<Located<RawAnswer>>,
    pub(crate) frequency: Option<RawFrequency>,
    pub(crate) approval: RawApproval,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFrequency {
    pub(crate) per_day: Located<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAnswer {
    pub(crate) name: Located<String>,
    pub(crate) version: Located<u16>,
    pub(crate) title: RawText,
    pub(crate) expr: Located<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawApproval {
    pub(crate) approver: String,
    pub(crate) date: Located<String>,
    pub(crate) document: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCases {
    pub(crate) on_request: Option<RawOnRequest>,
    #[serde(default)]
    pub(crate) opens: Vec<Located<RawOpen>>,
    #[serde(default)]
    pub(crate) closes: Vec<Located<RawClose>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOnRequest {
    pub(crate) days: Located<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOpen {
    pub(crate) dataset: Located<String>,
    pub(crate) when: Located<String>,
    pub(crate) subjects: Located<Vec<Located<String>>>,
    pub(crate) days: Located<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClose {
    pub(crate) dataset: Located<String>,
    pub(crate) when: Located<String>,
}

// agreements/<consumer>/<purpose>.approvals/<provider>.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawApprovals {
    pub(crate) approvals: Vec<Located<RawSignature>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSignature {
    pub(crate) dataset: Located<String>,
    pub(crate) key: Located<String>,
    pub(crate) digest: Located<String>,
    pub(crate) signature: Located<String>,
}

// agreement-status.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStatusFile {
    pub(crate) agreements: BTreeMap<String, Located<RawStatus>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStatus {
    pub(crate) state: AgreementState,
    pub(crate) since: Located<String>,
    pub(crate) reason: RawText,
    pub(crate) by: String,
}

// items/<item>.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawItem {
    pub(crate) title: RawText,
    pub(crate) version: Located<u32>,
    pub(crate) consumer: Located<String>,
    pub(crate) purpose: Located<String>,
    pub(crate) facts: Located<Vec<Located<RawFact>>>,
    pub(crate) outcomes: Located<Vec<Located<RawOutcome>>>,
    #[serde(default)]
    pub(crate) notes: Vec<Located<RawNote>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFact {
    pub(crate) name: Located<String>,
    pub(crate) title: RawText,
    pub(crate) dataset: Located<String>,
    pub(crate) cardinality: Cardinality,
    pub(crate) required: bool,
    #[serde(rename = "where")]
    pub(crate) filter: Option<Located<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOutcome {
    pub(crate) when: Located<String>,
    pub(crate) kind: Located<String>,
    pub(crate) working_days: Located<u32>,
    pub(crate) reasons: Vec<Located<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNote {
    pub(crate) when: Located<String>,
    pub(crate) reasons: Vec<Located<String>>,
}

// calendars/<name>.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCalendar {
    pub(crate) name: RawText,
    pub(crate) years: BTreeMap<String, Located<RawYear>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawYear {
    /// Who compared the year with the State Council's notice, and which notice; absent = not yet.
    pub(crate) verified: Option<RawVerified>,
    pub(crate) holidays: Vec<RawHoliday>,
    pub(crate) work: Vec<Located<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVerified {
    pub(crate) by: String,
    pub(crate) on: Located<String>,
    pub(crate) notice: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHoliday {
    pub(crate) name: RawText,
    pub(crate) from: Located<String>,
    pub(crate) to: Located<String>,
}

// schema-ids.yaml

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSchemaIds {
    pub(crate) ids: Vec<Located<RawSchemaId>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSchemaId {
    pub(crate) id: Located<u32>,
    pub(crate) schema: RawSchemaKind,
    pub(crate) digest: Located<String>,
}

/// What an id stands for: enough to build the schema again, so that records written under an older
/// agreement stay readable until they age out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawSchemaKind {
    Source(RawSourceId),
    Projected(RawProjectedId),
    Answer(RawAnswerId),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSourceId {
    pub(crate) dataset: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawProjectedId {
    pub(crate) agreement: String,
    pub(crate) dataset: String,
    pub(crate) fields: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAnswerId {
    pub(crate) agreement: String,
    pub(crate) name: String,
    pub(crate) version: u16,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}
