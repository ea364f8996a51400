//! Every way in which an event can fail verification, each with its stable code.
//! The codes have zh and en texts in `schemas/reasons.yaml`. No fault carries a value.

use crate::avro::AvroFault;
use crate::layout::WalkError;

/// Why an event or delivery is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    #[error("the event has no seal")]
    NoSeal,
    #[error("the seal's bytes are malformed")]
    Malformed,
    #[error("bytes follow the value or the seal")]
    TrailingBytes,
    #[error("the seal names a cryptographic suite that is not supported")]
    SuiteUnknown,
    #[error("the value, the seal or a part of it is larger than the limit")]
    TooLarge,
    #[error("a header appears twice")]
    HeaderDuplicate,
    #[error("a required header is missing")]
    HeaderMissing,
    #[error("a header says something else than the sealed meta")]
    MetaContradicts,
    #[error("the value has no framing or an unknown one")]
    FramingInvalid,
    #[error("the event was made for another bus")]
    BusForeign,
    #[error("the department or stream does not own this dataset")]
    StreamForeign,
    #[error("the event stands in another lane than its meta says")]
    LaneWrong,
    #[error("the event was sealed under another schema")]
    SchemaMismatch,
    #[error("the value does not fit its schema: {0}")]
    DatumMalformed(WalkError),
    #[error("the inclusion path does not fit the index and size of its batch")]
    PathInvalid,
    #[error("the department has no key of this id")]
    KeyUnknown,
    #[error("the key was revoked before this batch")]
    KeyRevoked,
    #[error("the key is of small order or not canonical")]
    SmallOrderKey,
    #[error("the signature does not cover this event")]
    SignatureInvalid,
    #[error("the delivery discloses other fields than the agreement keeps")]
    DisclosureMismatch,
}

impl SealFault {
    /// Stable code, a key of `schemas/reasons.yaml`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSeal => "NO_SEAL",
            Self::Malformed => "SEAL_MALFORMED",
            Self::TrailingBytes => "TRAILING_BYTES",
            Self::SuiteUnknown => "SUITE_UNKNOWN",
            Self::TooLarge => "TOO_LARGE",
            Self::HeaderDuplicate => "HEADER_DUPLICATE",
            Self::HeaderMissing => "HEADER_MISSING",
            Self::MetaContradicts => "META_CONTRADICTS",
            Self::FramingInvalid => "FRAMING_INVALID",
            Self::BusForeign => "BUS_FOREIGN",
            Self::StreamForeign => "STREAM_FOREIGN",
            Self::LaneWrong => "LANE_WRONG",
            Self::SchemaMismatch => "SCHEMA_MISMATCH",
            Self::DatumMalformed(_) => "DATUM_MALFORMED",
            Self::PathInvalid => "PATH_INVALID",
            Self::KeyUnknown => "KEY_UNKNOWN",
            Self::KeyRevoked => "KEY_REVOKED",
            Self::SmallOrderKey => "SMALL_ORDER_KEY",
            Self::SignatureInvalid => "SIGNATURE_INVALID",
            Self::DisclosureMismatch => "DISCLOSURE_MISMATCH",
        }
    }

    /// Every code, for the test that holds them against `reasons.yaml`.
    pub const CODES: [&'static str; 20] = [
        "NO_SEAL",
        "SEAL_MALFORMED",
        "TRAILING_BYTES",
        "SUITE_UNKNOWN",
        "TOO_LARGE",
        "HEADER_DUPLICATE",
        "HEADER_MISSING",
        "META_CONTRADICTS",
        "FRAMING_INVALID",
        "BUS_FOREIGN",
        "STREAM_FOREIGN",
        "LANE_WRONG",
        "SCHEMA_MISMATCH",
        "DATUM_MALFORMED",
        "PATH_INVALID",
        "KEY_UNKNOWN",
        "KEY_REVOKED",
        "SMALL_ORDER_KEY",
        "SIGNATURE_INVALID",
        "DISCLOSURE_MISMATCH",
    ];
}

impl From<WalkError> for SealFault {
    fn from(error: WalkError) -> Self {
        match error.fault {
            AvroFault::TrailingBytes if error.field.is_none() => Self::TrailingBytes,
            AvroFault::TooLarge => Self::TooLarge,
            _ => Self::DatumMalformed(error),
        }
    }
}
