//! Why a request was not carried out: typed, with a code that `schemas/reasons.yaml` explains.

/// How a refusal maps to what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong: mend it.
    Invalid,
    /// A rule says no.
    Denied,
    /// There is no such grant, agreement or version.
    Unknown,
    /// It contradicts what is: another state, another request under the same id.
    Conflict,
    /// Ask again in a moment.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request id must be 1 to 64 letters, digits, dots, hyphens or underscores")]
    RequestIdInvalid,
    #[error("this request id was used for another request")]
    RequestIdReused,
    #[error("the subject is not a valid identity number")]
    SubjectInvalid(&'static str),
    #[error("a date is not a day of the calendar, or the period is too long")]
    PeriodInvalid,
    #[error("an operator id is 1 to 64 letters, digits, dots, hyphens or underscores")]
    OperatorInvalid,
    #[error("a reason has 1 to 256 bytes, no control characters and no identity number")]
    ReasonInvalid,
    #[error("no such agreement")]
    AgreementUnknown,
    #[error("the agreement asks for no consent")]
    NotByConsent,
    #[error("the agreement opens no case on request")]
    NotByCase,
    #[error("the agreement is suspended, ended or out of its term")]
    AgreementClosed,
    #[error("a dataset is not in the agreement")]
    DatasetUnknown,
    #[error("sensitive fields need a separate consent")]
    SeparateConsentMissing,
    #[error("the notice has another version by now")]
    NoticeOutdated,
    #[error("the evidence does not show the person's act")]
    EvidenceInvalid,
    #[error("a child under the agreement's age needs a guardian's consent")]
    GuardianMissing,
    #[error("this representation is not accepted or has ended")]
    RepresentationInvalid,
    #[error("the caller's role may not do this")]
    RoleForbidden,
    #[error("no such grant")]
    GrantUnknown,
    #[error("the grant has ended")]
    GrantClosed,
    #[error("the grant is of another kind")]
    GrantKind,
    #[error("the contract has faults")]
    ContractInvalid(Vec<String>),
    #[error("the contract is one of another bus, or has another number of lanes")]
    ContractForeign,
    #[error("an agreement is gone from it that was not terminated first")]
    AgreementDropped,
    #[error("a consumer still holds records of what the contract no longer knows")]
    StillHeld,
    #[error("topics of the contract are missing: bring the cluster in line first")]
    TopicsMissing,
    #[error("the cursor is not one of this service")]
    CursorInvalid,
    #[error("too many people in one case")]
    SubjectsTooMany,
    #[error("the service can't record the change now")]
    Unavailable,
}

impl Refusal {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RequestIdInvalid => "CONSENT_REQUEST_ID_INVALID",
            Self::RequestIdReused => "CONSENT_REQUEST_ID_REUSED",
            Self::SubjectInvalid(code) => code,
            Self::PeriodInvalid => "CONSENT_PERIOD_INVALID",
            Self::OperatorInvalid => "BUNDLE_OPERATOR_INVALID",
            Self::ReasonInvalid => "BUNDLE_REASON_INVALID",
            Self::AgreementUnknown => "CONSENT_AGREEMENT_UNKNOWN",
            Self::NotByConsent => "CONSENT_NOT_BY_CONSENT",
            Self::NotByCase => "CONSENT_NOT_BY_CASE",
            Self::AgreementClosed => "CONSENT_AGREEMENT_CLOSED",
            Self::DatasetUnknown => "CONSENT_DATASET_UNKNOWN",
            Self::SeparateConsentMissing => "CONSENT_SEPARATE_MISSING",
            Self::NoticeOutdated => "CONSENT_NOTICE_OUTDATED",
            Self::EvidenceInvalid => "CONSENT_EVIDENCE_INVALID",
            Self::GuardianMissing => "CONSENT_GUARDIAN_MISSING",
            Self::RepresentationInvalid => "CONSENT_REPRESENTATION_INVALID",
            Self::RoleForbidden => "HTTP_ROLE_FORBIDDEN",
            Self::GrantUnknown => "CONSENT_GRANT_UNKNOWN",
            Self::GrantClosed => "CONSENT_GRANT_CLOSED",
            Self::GrantKind => "CONSENT_GRANT_KIND",
            Self::ContractInvalid(_) => "CONSENT_CONTRACT_INVALID",
            Self::ContractForeign => "CONSENT_CONTRACT_FOREIGN",
            Self::AgreementDropped => "CONSENT_AGREEMENT_DROPPED",
            Self::StillHeld => "CONSENT_STILL_HELD",
            Self::TopicsMissing => "CONSENT_TOPICS_MISSING",
            Self::CursorInvalid => "CONSENT_CURSOR_INVALID",
            Self::SubjectsTooMany => "CASE_SUBJECTS_TOO_MANY",
            Self::Unavailable => "CONSENT_UNAVAILABLE",
        }
    }

    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::RequestIdInvalid
            | Self::SubjectInvalid(_)
            | Self::PeriodInvalid
            | Self::OperatorInvalid
            | Self::ReasonInvalid
            | Self::DatasetUnknown
            | Self::SeparateConsentMissing
            | Self::EvidenceInvalid
            | Self::GuardianMissing
            | Self::RepresentationInvalid
            | Self::ContractInvalid(_)
            | Self::ContractForeign
            | Self::CursorInvalid
            | Self::SubjectsTooMany => RefusalKind::Invalid,
            Self::RoleForbidden | Self::NotByConsent | Self::NotByCase => RefusalKind::Denied,
            Self::AgreementUnknown | Self::GrantUnknown => RefusalKind::Unknown,
            Self::RequestIdReused
            | Self::AgreementClosed
            | Self::NoticeOutdated
            | Self::GrantClosed
            | Self::GrantKind
            | Self::AgreementDropped
            | Self::StillHeld
            | Self::TopicsMissing => RefusalKind::Conflict,
            Self::Unavailable => RefusalKind::Unavailable,
        }
    }
}
