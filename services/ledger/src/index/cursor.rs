//! Where a page ended, as opaque text. Nothing about a person is in it; whoever alters theirs fools
//! nobody else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{IndexError, MAX_CURSOR_BYTES, Page, PageRequest};

/// The place in a query's order that a page starts after; `None` for the first page.
pub(super) fn start<T: DeserializeOwned>(
    query: &str,
    request: &PageRequest,
) -> Result<Option<T>, IndexError> {
    let Some(text) = &request.cursor else {
        return Ok(None);
    };
    if text.len() > MAX_CURSOR_BYTES {
        return Err(IndexError::Cursor);
    }
    let bytes = BASE64.decode(text).map_err(|_| IndexError::Cursor)?;
    // PostgreSQL takes no NUL in a text, and JSON writes it so.
    if bytes.windows(6).any(|escape| escape == b"\\u0000") {
        return Err(IndexError::Cursor);
    }
    let (of, at): (String, T) = serde_json::from_slice(&bytes).map_err(|_| IndexError::Cursor)?;
    if of == query {
        Ok(Some(at))
    } else {
        Err(IndexError::Cursor)
    }
}

/// A page of rows of which one more than `limit` was asked for. `at` is a row's place.
pub(super) fn page<R, P: Serialize, T>(
    query: &str,
    limit: usize,
    mut rows: Vec<R>,
    at: impl Fn(&R) -> P,
    item: impl FnMut(R) -> T,
) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    // Numbers and texts always have a JSON form.
    let text = |row: &R| BASE64.encode(serde_json::to_vec(&(query, at(row))).unwrap_or_default());
    let cursor = rows.last().filter(|_| more).map(text);
    Page {
        items: rows.into_iter().map(item).collect(),
        cursor,
    }
}

/// What a query's LIMIT says: one more than the page takes.
pub(super) fn fetch(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
