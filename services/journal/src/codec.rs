//! How every record here becomes bytes: Avro binary in schema order, written by hand, so that the
//! same record always gives the same bytes (the audit chain hashes them). Decoding is bounded by
//! the limits below and by the input's own length, never by a number found in the input.

use crate::malformed::Malformed;
use mz_seal::avro::{AvroFault, Reader, Writer};
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

#[inline]
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    Writer(out).long(value);
}

/// Counters are u64 in code and `long` in Avro; two's complement carries all 64 bits.
#[inline]
pub(crate) fn put_count(out: &mut Vec<u8>, value: u64) {
    Writer(out).unsigned(value);
}

#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    Writer(out).bytes(value);
}

#[inline]
pub(crate) fn put_text(out: &mut Vec<u8>, value: &str) {
    Writer(out).string(value);
}

pub(crate) fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    Writer(out).array(items.iter(), |writer, item| put(writer.0, item));
}

/// Avro `["null", T]`.
pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    Writer(out).option(value, |writer, value| put(writer.0, value));
}

/// A cursor over one record; every read names its field, so that an error can.
pub(crate) struct Decoder<'a> {
    from: Reader<'a>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            from: Reader::new(bytes),
        }
    }

    /// Nothing is left: a record of before a field was added at its end.
    pub(crate) fn is_done(&self) -> bool {
        self.from.remaining() == 0
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        match self.from.remaining() {
            0 => Ok(()),
            count => Err(Malformed::Trailing { count }),
        }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, AvroFault>,
    ) -> Result<T, Malformed> {
        read(&mut self.from).map_err(|source| Malformed::Avro { field, source })
    }

    pub(crate) fn long(&mut self, field: &'static str) -> Result<i64, Malformed> {
        self.read(field, Reader::long)
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
        self.read(field, Reader::fixed)
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], Malformed> {
        let bytes = self.read(field, Reader::bytes)?;
        if bytes.len() > limit {
            return Err(Malformed::TooLong { field, limit });
        }
        Ok(bytes)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, Malformed> {
        let text = self.read(field, Reader::string)?;
        if text.len() > MAX_TEXT_BYTES {
            let limit = MAX_TEXT_BYTES;
            return Err(Malformed::TooLong { field, limit });
        }
        Ok(text)
    }

    pub(crate) fn owned_text(&mut self, field: &'static str) -> Result<String, Malformed> {
        self.text(field).map(str::to_owned)
    }

    pub(crate) fn cow_text(&mut self, field: &'static str) -> Result<Cow<'a, str>, Malformed> {
        self.text(field).map(Cow::Borrowed)
    }

    /// Branch of a union or symbol of an enum, below `limit`.
    pub(crate) fn branch(&mut self, field: &'static str, limit: usize) -> Result<usize, Malformed> {
        self.read(field, |from| from.symbol(limit))
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
        while let Some(block) = self.read(field, Reader::block)? {
            for _ in 0..block.count {
                if items.len() == MAX_ITEMS {
                    let limit = MAX_ITEMS;
                    return Err(Malformed::TooLong { field, limit });
                }
                items.push(read(self)?);
            }
            self.read(field, |from| block.check(from))?;
        }
        Ok(items)
    }
}
