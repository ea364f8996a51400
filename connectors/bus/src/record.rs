//! A record as it lies in the client's memory: nothing is copied until somebody wants to.

use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Most headers that one record may have.
pub const MAX_HEADERS: usize = 64;

/// One record. Borrowed from the reader until the callback returns.
pub struct Record<'a> {
    /// Logical name: without the installation's prefix.
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; 0 when the record has none.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub(crate) message: &'a BorrowedMessage<'a>,
}

/// One header: name and value.
pub type HeaderPair<'a> = (&'a str, Option<&'a [u8]>);

/// The record's headers can't be used: more than [`MAX_HEADERS`], or a name that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record's headers can't be read")]
pub struct UnreadableHeaders;

impl<'a> Record<'a> {
    pub(crate) fn new(topic: &'a str, message: &'a BorrowedMessage<'a>) -> Self {
        Self {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key(),
            value: message.payload(),
            message,
        }
    }

    /// All headers in order, duplicates included, into `out` (cleared first). Header names come
    /// from whoever wrote the record, so nothing about them is taken for granted.
    pub fn headers_into(&self, out: &mut Vec<HeaderPair<'a>>) -> Result<(), UnreadableHeaders> {
        out.clear();
        let Some(headers) = self.message.headers() else {
            return Ok(());
        };
        if headers.count() > MAX_HEADERS {
            return Err(UnreadableHeaders);
        }
        // rust-rdkafka panics on a header name that is not UTF-8.
        catch_unwind(AssertUnwindSafe(|| collect(headers, out))).map_err(|_| {
            out.clear();
            UnreadableHeaders
        })
    }

    /// All headers in order, duplicates included.
    pub fn headers(&self) -> Result<Vec<HeaderPair<'a>>, UnreadableHeaders> {
        let mut headers = Vec::new();
        self.headers_into(&mut headers)?;
        Ok(headers)
    }
}

fn collect<'a>(headers: &'a BorrowedHeaders, out: &mut Vec<HeaderPair<'a>>) {
    out.extend(headers.iter().map(|header| (header.key, header.value)));
}

/// What [`crate::Reader::poll`] hands over.
pub enum Polled<'a> {
    Record(Record<'a>),
    /// Everything that was in the partition is read (for a committed reader: up to the first open
    /// transaction). Comes again whenever the reader catches up again.
    Eof {
        topic: &'a str,
        partition: i32,
        /// The position to go on from: past control records too.
        next_offset: i64,
    },
}
