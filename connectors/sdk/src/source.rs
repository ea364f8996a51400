//! What an integrator implements: a register that is read in passes, chunk by chunk.
//!
//! A source knows nothing of Kafka, keys, sequences or signatures. It says what stands in the
//! register now; the connector works out what is new.

use mz_seal::Datum;
use std::fmt;

/// Where a pass got to, in the source's own words (a watermark, a file offset). Opaque to the
/// connector, committed in the same transaction as the events before it. At most
/// [`crate::limits::MAX_POSITION_BYTES`]; no personal data: it stays in the checkpoint.
pub type Position = Vec<u8>;

/// What a pass over the register covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Every record of the register. What does not appear has disappeared.
    Snapshot,
    /// Only what changed after the position. What does not appear is as it was.
    Changes,
    /// The register is as it was at the end of the last pass: nothing to read.
    Unchanged,
}

/// How a pass ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassEnd {
    /// The register's state up to this moment has been read (Unix milliseconds): the moment the
    /// snapshot was taken or the export was written, not the moment the reading ended.
    pub complete_to_ms: i64,
    /// Everything there was could be read. `false` (a truncated file, an unreadable sheet) means
    /// that a record that did not appear may still exist: nothing is withdrawn.
    pub complete: bool,
}

/// A register.
pub trait Source {
    /// Starts a pass. `after` is the last committed position, `None` before the first pass and
    /// after the stream began a new epoch. A pass that was not read to its end is started again.
    fn begin(&mut self, after: Option<&[u8]>) -> Result<Pass, SourceError>;

    /// Puts the next rows into `chunk`, which is empty. `Ok(false)` ends the pass. A chunk should
    /// hold some hundreds of rows: it is the unit that memory is bounded by.
    fn read(&mut self, chunk: &mut Chunk) -> Result<bool, SourceError>;

    /// Called once after `read` said `false`.
    fn end(&mut self) -> Result<PassEnd, SourceError>;

    /// How much there is to read in this pass and how much has been read, in the source's own
    /// unit, for the progress bar. `None` when it can't be known.
    fn progress(&self) -> Option<(u64, u64)> {
        None
    }
}

/// One state of one record about one person.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Dataset id, `hrss.insurance.status.v1`; one of those the stream may publish.
    pub dataset: String,
    /// The fields in schema order.
    pub fields: Vec<Datum>,
    /// When it became so, if the register knows (Unix milliseconds); else the time of publishing.
    pub occurred_ms: Option<i64>,
    /// The register itself says that the record is void. The fields are its last ones.
    pub withdrawn: bool,
    /// Row the event came from, for rejects: 1-based, as a person would count.
    pub row: u64,
}

/// Why a row publishes nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Reject {
    /// Row (line, record) in the register's export, 1-based; 0 when it is about the whole input.
    pub row: u64,
    /// Column of the register, or empty.
    pub column: String,
    /// Field of the dataset that could not be made, or empty.
    pub field: String,
    /// Reason code, a key of `schemas/reasons.yaml`.
    pub code: &'static str,
    /// The row's values by column. They go to the rejects file (0600) and nowhere else.
    pub values: Vec<(String, String)>,
    /// The record the row is about, when that much could be read: `(dataset id, record id)`.
    /// The connector then knows that the record still exists and does not withdraw it.
    pub record: Option<(String, String)>,
}

impl fmt::Debug for Reject {
    /// Without values and record: both hold personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reject")
            .field("row", &self.row)
            .field("column", &self.column)
            .field("field", &self.field)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

/// One thing a source read.
#[derive(Clone, Debug)]
pub enum Item {
    Event(Event),
    Reject(Reject),
    /// Everything before this is covered by the position.
    Reached(Position),
    /// A row that the mapping leaves out on purpose.
    Skipped,
}

/// What one `read` yields. The connector empties it and hands it back.
#[derive(Debug, Default)]
pub struct Chunk {
    pub(crate) items: Vec<Item>,
}

impl Chunk {
    pub fn event(&mut self, event: Event) {
        self.items.push(Item::Event(event));
    }

    pub fn reject(&mut self, reject: Reject) {
        self.items.push(Item::Reject(reject));
    }

    pub fn reached(&mut self, position: Position) {
        self.items.push(Item::Reached(position));
    }

    pub fn skipped(&mut self) {
        self.items.push(Item::Skipped);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What was read, for tests of a source.
    pub fn drain(&mut self) -> impl Iterator<Item = Item> + '_ {
        self.items.drain(..)
    }
}

/// The register can't be read. Never carries a value of a row.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct SourceError {
    /// Reason code, a key of `schemas/reasons.yaml`.
    pub code: &'static str,
    /// What else the text needs: a path, a sheet, the database's words.
    pub detail: String,
    pub kind: SourceErrorKind,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What to do about a [`SourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// The input itself is bad: reported as rejected, tried again when it changes.
    Input,
    /// The environment failed (database away, disk): tried again.
    Environment,
    /// The configuration or mapping is wrong: the connector stops.
    Configuration,
}

impl SourceError {
    #[must_use]
    pub fn input(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Input, code, detail)
    }

    #[must_use]
    pub fn environment(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Environment, code, detail)
    }

    #[must_use]
    pub fn configuration(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Configuration, code, detail)
    }

    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    fn new(kind: SourceErrorKind, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            kind,
            source: None,
        }
    }
}
