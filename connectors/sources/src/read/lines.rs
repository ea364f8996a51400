//! Lines of bounded length from any reader: a line without end is skipped, never held.

use std::io::{BufRead, ErrorKind};

/// One line as it was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// In the buffer, without its line end.
    Whole,
    /// The last line, without a line end.
    Unended,
    /// Longer than the limit; the buffer holds its start, the rest was skipped.
    TooLong,
    End,
}

/// Reads the next line into `buffer`, which is cleared first. Counts the bytes taken into `taken`.
pub fn next(
    from: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    limit: usize,
    taken: &mut u64,
) -> std::io::Result<Line> {
    buffer.clear();
    let mut any = false;
    let mut too_long = false;
    loop {
        let available = match from.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(match (too_long, any) {
                (true, _) => Line::TooLong,
                (_, true) => Line::Unended,
                _ => Line::End,
            });
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if buffer.len() + part.len() > limit {
            too_long = true;
        }
        if !too_long {
            buffer.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        *taken += used as u64;
        if end.is_some() {
            if buffer.last() == Some(&b'\r') {
                buffer.pop();
            }
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}
