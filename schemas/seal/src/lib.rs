//! Seal, redact and verify one event. No I/O, no clock.

pub mod avro;
mod datum;
mod layout;
mod project;
mod schema;
mod time;

pub use datum::{Datum, EncodeError, encode};
pub use layout::{
    FieldLayout, FieldType, Layout, LayoutError, MAX_DEPTH, MAX_FIELDS, MAX_ITEMS, Span, WalkError,
};
pub use project::project_schema;
pub use time::{date_text, timestamp_text};

/// A datum (bare Avro, without the 5 bytes of framing) has at most this many bytes.
pub const MAX_DATUM_BYTES: usize = 256 * 1024;
