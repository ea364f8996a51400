use mz_database::DatabaseError;

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Schema(#[from] DatabaseError),
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// The batch starts after the leaves that are indexed: what lies between must come first.
    #[error("the index holds {size} leaves, the batch starts at {first_leaf}")]
    Gap { size: u64, first_leaf: u64 },
    /// More entries than one transaction may hold.
    #[error("more than {most} entries in a batch")]
    Batch { most: usize },
    /// A value that no column can hold.
    #[error("leaf {leaf}: {column} can't be stored")]
    Unfit { leaf: u64, column: &'static str },
    /// Rows that this program can't have written.
    #[error("stored row is damaged: {0}")]
    Damaged(&'static str),
    #[error("not a cursor of this query")]
    Cursor,
    #[error("more than {most} agreed sections in a question")]
    Question { most: usize },
    #[error("no such request waits")]
    NoHide,
    #[error("a use is hidden for {days} days at most, from now on")]
    HideTerm { days: u16 },
    #[error("the requester can't approve their own request")]
    OnePerson,
    /// The log went on, or was not counted to its end.
    #[error("the index holds {size} leaves, {counted} were counted")]
    Recount { size: u64, counted: u64 },
    /// An operator's text is missing.
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("the end of a period is not after its start")]
    Period,
    #[error("entries are kept for {years} years at least")]
    TooYoung { years: u32 },
}
