//! Seal, redact and verify one event. No I/O, no clock.
//!
//! A connector builds a datum ([`encode`]), finds its fields ([`Layout::spans`]) and
//! seals a transaction's events at once ([`seal_batch`]). The gateway verifies each
//! ([`Verifier::verify_source`]) and makes deliveries ([`Verified::project`],
//! [`Verified::redact`]). A consumer verifies those offline
//! ([`Verifier::verify_delivery`]). `docs/wire-format.md` states every byte.

pub mod avro;
mod cache;
mod datum;
mod fault;
mod framing;
mod hash;
pub mod headers;
mod keys;
mod layout;
mod meta;
mod project;
mod redact;
mod schema;
mod sealing;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod tree;
mod verify;
mod wire;

pub use datum::{Datum, EncodeError, encode};
pub use fault::SealFault;
pub use framing::{FRAMING_BYTES, frame, frame_into, unframe};
pub use hash::{DIGEST_BYTES, Digest, SALT_BYTES, Seed, schema_digest};
pub use headers::Headers;
pub use keys::{
    BatchStatement, KeyInfo, KeySource, KeyStatus, LastBatch, SEAL_CONTEXT, SignError, Signer,
    Suite, check_public_key, verify_signature,
};
pub use layout::{
    FieldLayout, FieldType, Layout, LayoutError, MAX_DEPTH, MAX_FIELDS, MAX_ITEMS, Span, WalkError,
};
pub use meta::{MAX_META_BYTES, MAX_NAME_BYTES, META_AVSC, Meta, MetaRef, Version, uuid_text};
pub use project::project_schema;
pub use redact::FieldSet;
pub use sealing::{Draft, SealError, SealedEvent, seal_batch};
pub use time::{date_text, timestamp_text};
pub use tree::MAX_BATCH;
pub use verify::{BatchRef, Expect, ExpectDelivery, Verified, VerifiedDelivery, Verifier};
pub use wire::{BatchPart, DeliverySeal, LeafPart, MAX_ID_BYTES, MAX_SEAL_BYTES, SourceSeal};

/// A datum (bare Avro, without the 5 bytes of framing) has at most this many bytes.
pub const MAX_DATUM_BYTES: usize = 256 * 1024;
