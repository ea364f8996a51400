//! The evidence bundle (证明材料包): its shape, how it is put together, signed and checked.

pub mod assemble;
pub mod fields;
mod model;
pub mod sign;
pub mod verify;

pub use model::{
    Bundle, BundleRequest, FORMAT, FactEntry, FactState, FieldTitle, OutcomeEntry, ReasonEntry,
    RecordEntry, SignatureEntry, SourceEntry, SubjectQuery, SubjectRef, Text,
};
