//! Why a request got no bundle: typed, with a code that `schemas/reasons.yaml` explains.

use mz_policy::Rule;

/// How a refusal maps to what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong: mend it.
    Invalid,
    /// A rule says no. Recorded in the audit log.
    Denied,
    /// There is no such item or case.
    Unknown,
    /// Another vault process owns this person's lane: ask there.
    Elsewhere,
    /// Ask again in a moment.
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no service item with this id")]
    ItemUnknown,
    #[error("the subject is not a valid identity number")]
    SubjectInvalid(&'static str),
    #[error("the subject is not a valid case id")]
    CaseInvalid,
    #[error("no such case")]
    CaseUnknown,
    #[error("an operator id is 1 to 64 letters, digits, dots, hyphens or underscores")]
    OperatorInvalid,
    #[error("a reason has 1 to 256 bytes and no control characters")]
    ReasonInvalid,
    #[error("a reason must not hold an identity number")]
    ReasonHoldsNumber,
    #[error("the item belongs to another department")]
    ConsumerForeign,
    /// A rule of the agreement or of the person's case.
    #[error("a rule says no: {}", .0.code())]
    Denied(Rule),
    #[error("no case is open for this person")]
    CaseNone,
    /// Only the person can open what is asked about.
    #[error("the person has given no consent")]
    ConsentNone,
    #[error("the person's lane is served elsewhere")]
    LaneElsewhere,
    #[error("too many requests are waiting")]
    Busy,
    /// No audit record, no answer.
    #[error("the vault can't record the answer now")]
    Unavailable,
}

impl Refusal {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ItemUnknown => "BUNDLE_ITEM_UNKNOWN",
            Self::SubjectInvalid(code) => code,
            Self::CaseInvalid => "BUNDLE_CASE_INVALID",
            Self::CaseUnknown => "BUNDLE_CASE_UNKNOWN",
            Self::OperatorInvalid => "BUNDLE_OPERATOR_INVALID",
            Self::ReasonInvalid => "BUNDLE_REASON_INVALID",
            Self::ReasonHoldsNumber => "BUNDLE_REASON_HOLDS_NUMBER",
            Self::ConsumerForeign => "BUNDLE_CONSUMER_FOREIGN",
            Self::Denied(rule) => rule.code(),
            Self::CaseNone => "BUNDLE_CASE_NONE",
            Self::ConsentNone => "BUNDLE_CONSENT_NONE",
            Self::LaneElsewhere => "VAULT_LANE_ELSEWHERE",
            Self::Busy => "VAULT_BUSY",
            Self::Unavailable => "VAULT_UNAVAILABLE",
        }
    }

    pub const fn kind(self) -> RefusalKind {
        match self {
            Self::SubjectInvalid(_)
            | Self::CaseInvalid
            | Self::OperatorInvalid
            | Self::ReasonInvalid
            | Self::ReasonHoldsNumber => RefusalKind::Invalid,
            Self::ConsumerForeign | Self::Denied(_) | Self::CaseNone | Self::ConsentNone => {
                RefusalKind::Denied
            }
            Self::ItemUnknown | Self::CaseUnknown => RefusalKind::Unknown,
            Self::LaneElsewhere => RefusalKind::Elsewhere,
            Self::Busy | Self::Unavailable => RefusalKind::Unavailable,
        }
    }
}
