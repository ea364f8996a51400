//! How every record here becomes bytes: Avro binary in schema order, written by hand, so that the
//! same record always gives the same bytes (the audit chain hashes them). Decoding is bounded by
//! the limits below and by the input's own length, never by a number found in the input.

use crate::malformed::Malformed;
use std::borrow::Cow;

/// Longest text (ids, codes, topic names), in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;
/// Longest embedded Kafka value or seal, in bytes.
pub const MAX_BLOB_BYTES: usize = 4 << 20;
/// Most elements of one list.
pub const MAX_ITEMS: usize = 65_536;

/// A record of one of the bus's own topics.
pub trait Record: Sized {
    /// The committed Avro schema that other readers use.
    const SCHEMA: &'static str;

    /// Appends the record's bytes.
    fn encode_into(&self, out: &mut Vec<u8>);

    /// Reads one record; bytes after it are an error.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.encode_into(&mut out);
        out
    }
}

/// Avro `long` and `int`: zigzag, then base 128, least significant first.
#[inline]
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest > 0x7f {
        out.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Counters are u64 in code and `long` in Avro; two's complement carries all 64 bits.
#[inline]
pub(crate) fn put_count(out: &mut Vec<u8>, value: u64) {
    put_long(out, value.cast_signed());
}

#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_count(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[inline]
pub(crate) fn put_text(out: &mut Vec<u8>, value: &str) {
    put_bytes(out, value.as_bytes());
}

/// Avro array: one block with all elements, then the empty block.
pub(crate) fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        put_count(out, items.len() as u64);
        for item in items {
            put(out, item);
        }
    }
    out.push(0);
}

/// Avro `["null", T]`.
pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    mut put: impl FnMut(&mut Vec<u8>, &T),
) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            put(out, value);
        }
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// A cursor over one record; every read names its field, so that an error can.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(Malformed::Trailing { count }),
        }
    }

    pub(crate) fn long(&mut self, field: &'static str) -> Result<i64, Malformed> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self
                .rest
                .split_first()
                .ok_or(Malformed::Truncated { field })?;
            self.rest = rest;
            let digit = u64::from(byte & 0x7f);
            if shift == 63 && digit > 1 {
                break;
            }
            value |= digit << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Malformed::Invalid { field })
    }

    pub(crate) fn count(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(self.long(field)?.cast_unsigned())
    }

    /// An Avro number in a narrower Rust type.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, field: &'static str) -> Result<T, Malformed> {
        T::try_from(self.long(field)?).map_err(|_| Malformed::Range { field })
    }

    pub(crate) fn fixed<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], Malformed> {
        let (value, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed::Truncated { field })?;
        self.rest = rest;
        Ok(*value)
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], Malformed> {
        let length: usize = self.number(field)?;
        if length > limit {
            return Err(Malformed::TooLong { field, limit });
        }
        let (value, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Truncated { field })?;
        self.rest = rest;
        Ok(value)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(field, MAX_TEXT_BYTES)?)
            .map_err(|_| Malformed::Invalid { field })
    }

    pub(crate) fn owned_text(&mut self, field: &'static str) -> Result<String, Malformed> {
        self.text(field).map(str::to_owned)
    }

    pub(crate) fn cow_text(&mut self, field: &'static str) -> Result<Cow<'a, str>, Malformed> {
        self.text(field).map(Cow::Borrowed)
    }

    /// Branch of a union or symbol of an enum, below `limit`.
    pub(crate) fn branch(&mut self, field: &'static str, limit: usize) -> Result<usize, Malformed> {
        let branch: usize = self.number(field)?;
        if branch >= limit {
            return Err(Malformed::Range { field });
        }
        Ok(branch)
    }

    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.branch(field, 2)? {
            0 => Ok(None),
            _ => read(self).map(Some),
        }
    }

    /// Any Avro array, blocks with byte counts included. Every element is at least a byte long,
    /// so a hostile count ends at the end of the input.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut items = Vec::new();
        loop {
            let announced = self.long(field)?;
            if announced == 0 {
                return Ok(items);
            }
            if announced < 0 {
                self.long(field)?;
            }
            for _ in 0..announced.unsigned_abs() {
                if items.len() == MAX_ITEMS {
                    return Err(Malformed::TooLong {
                        field,
                        limit: MAX_ITEMS,
                    });
                }
                items.push(read(self)?);
            }
        }
    }
}
