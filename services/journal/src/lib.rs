//! The records of the bus's own topics (audit, state, grants, fetch, facts): encode and decode,
//! no I/O. Bytes are Avro binary against `schemas/bus/*.avsc`, without a frame, always the same
//! for the same record.

mod audit;
mod backfill;
pub mod canonical;
mod chain;
mod codec;
mod contract;
mod delivery;
mod framing;
mod grant;
mod ledger;
mod malformed;
mod order;
mod receipt;
mod source;
mod state;
mod tags;
pub mod topics;
mod withdrawal;

pub use audit::{
    AUDIT_CAUSES, AUDIT_KINDS, AUDIT_VERSION, AUDIT_WRITERS, Audit, AuditCause, AuditCounts,
    AuditKind, AuditWriter, MAX_BITMAP_BYTES, bitmap_fields, field_bitmap,
};
pub use backfill::{FactBody, FactReply, Fence, Fetch, StoredFact};
pub use chain::{CHAIN_PREFIX, CHAIN_START, Chain, ChainBreak, extend as extend_chain};
pub use codec::{MAX_BLOB_BYTES, MAX_ITEMS, MAX_TEXT_BYTES, Record};
pub use contract::{ContractFile, ContractVersion, InForce, MAX_CONTRACT_FILES};
pub use delivery::{DELIVERY_HEADER, DeliveryHeader, Mark, SIGNATURE_BYTES};
pub use framing::{FRAME_BYTES, put_frame, unframe};
pub use grant::{Grant, GrantKind, GrantRef, GrantStatus};
pub use ledger::{LedgerPosition, LedgerState};
pub use malformed::Malformed;
pub use order::{Order, OrderAction, OrderCondition};
pub use receipt::{Receipt, ReceiptAction};
pub use source::{Quarantine, SourceStatus};
pub use state::{DeliveryPosition, OpenBackfill, Position, State, StreamSequence, Superseded};
pub use tags::{GrantId, OrderId, Pseudonym, RecordTag, SubjectTag, TAG_BYTES};
pub use withdrawal::{WITHDRAWAL_HEADER, Withdrawal};

/// SHA-256 (suite 1) or SM3 (suite 2).
pub type Digest = [u8; 32];
