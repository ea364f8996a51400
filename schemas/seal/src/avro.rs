//! Avro binary primitives over borrowed bytes. The reader is strict and bounded:
//! it never allocates, never reads past its input, and refuses encodings that
//! stock readers disagree about (non-minimal varints, booleans other than 0 and 1).

use std::str;

/// A varint of an `i64` takes at most this many bytes.
const MAX_VARINT_BYTES: usize = 10;

/// Why bytes are not the Avro value they should be. Carries no data of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AvroFault {
    #[error("the input ends inside a value")]
    Truncated,
    #[error("a number takes more bytes than its type allows")]
    VarintTooLong,
    #[error("a number is not in its shortest form")]
    VarintNotMinimal,
    #[error("a number is outside the range of its type")]
    OutOfRange,
    #[error("a length or count is negative")]
    NegativeLength,
    #[error("a boolean is neither 0 nor 1")]
    NotABoolean,
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("a union index names no branch")]
    NoSuchBranch,
    #[error("an enum index names no symbol")]
    NoSuchSymbol,
    #[error("a block's stated size is not its real size")]
    BlockSize,
    #[error("a decimal has more digits than its schema allows")]
    DecimalPrecision,
    #[error("values nest deeper than the limit")]
    TooDeep,
    #[error("arrays and maps hold more items than the limit")]
    TooManyItems,
    #[error("the value is larger than the limit")]
    TooLarge,
    #[error("bytes follow the value")]
    TrailingBytes,
}

/// Reads Avro binary from a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    #[inline]
    pub fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at == self.input.len()
    }

    /// Ends reading: anything left is a fault.
    pub fn finish(&self) -> Result<(), AvroFault> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(AvroFault::TrailingBytes)
        }
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, AvroFault> {
        let byte = *self.input.get(self.at).ok_or(AvroFault::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], AvroFault> {
        let end = self.at.checked_add(length).ok_or(AvroFault::Truncated)?;
        let taken = self.input.get(self.at..end).ok_or(AvroFault::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// A fixed of `N` bytes.
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], AvroFault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64, AvroFault> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(i64::from(first >> 1) ^ -i64::from(first & 1));
        }
        self.long_tail(first)
    }

    fn long_tail(&mut self, first: u8) -> Result<i64, AvroFault> {
        let mut raw = u64::from(first & 0x7f);
        for index in 1..MAX_VARINT_BYTES {
            let byte = self.byte()?;
            // The tenth byte holds the one bit that is left of 64.
            if index == MAX_VARINT_BYTES - 1 && byte > 1 {
                return Err(AvroFault::VarintTooLong);
            }
            raw |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if byte == 0 {
                    return Err(AvroFault::VarintNotMinimal);
                }
                return Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64));
            }
        }
        Err(AvroFault::VarintTooLong)
    }

    #[inline]
    pub fn int(&mut self) -> Result<i32, AvroFault> {
        i32::try_from(self.long()?).map_err(|_| AvroFault::OutOfRange)
    }

    #[inline]
    pub fn boolean(&mut self) -> Result<bool, AvroFault> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(AvroFault::NotABoolean),
        }
    }

    pub fn float(&mut self) -> Result<f32, AvroFault> {
        Ok(f32::from_le_bytes(self.fixed()?))
    }

    pub fn double(&mut self) -> Result<f64, AvroFault> {
        Ok(f64::from_le_bytes(self.fixed()?))
    }

    /// A length that the rest of the input can hold.
    #[inline]
    fn length(&mut self) -> Result<usize, AvroFault> {
        let length = self.long()?;
        if length < 0 {
            return Err(AvroFault::NegativeLength);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.remaining() => Ok(length),
            _ => Err(AvroFault::Truncated),
        }
    }

    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], AvroFault> {
        let length = self.length()?;
        self.take(length)
    }

    #[inline]
    pub fn string(&mut self) -> Result<&'a str, AvroFault> {
        str::from_utf8(self.bytes()?).map_err(|_| AvroFault::NotUtf8)
    }

    /// The index of a union branch or enum symbol, below `choices`.
    #[inline]
    fn choice(&mut self, choices: usize, fault: AvroFault) -> Result<usize, AvroFault> {
        match usize::try_from(self.int()?) {
            Ok(index) if index < choices => Ok(index),
            _ => Err(fault),
        }
    }

    pub fn union(&mut self, branches: usize) -> Result<usize, AvroFault> {
        self.choice(branches, AvroFault::NoSuchBranch)
    }

    pub fn symbol(&mut self, symbols: usize) -> Result<usize, AvroFault> {
        self.choice(symbols, AvroFault::NoSuchSymbol)
    }

    /// The head of an array or map block: `None` ends the series. A block written
    /// with a negative count states its size; hold it against [`Block::check`].
    pub fn block(&mut self) -> Result<Option<Block>, AvroFault> {
        let count = self.long()?;
        if count == 0 {
            return Ok(None);
        }
        let (count, size) = if count < 0 {
            let count = count.checked_neg().ok_or(AvroFault::OutOfRange)?;
            (count, Some(self.length()?))
        } else {
            (count, None)
        };
        let count = u64::try_from(count).map_err(|_| AvroFault::NegativeLength)?;
        Ok(Some(Block {
            count,
            start: self.at,
            size,
        }))
    }
}

/// One block of an array or map.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Items in the block; untrusted, so bound it before looping or allocating.
    pub count: u64,
    start: usize,
    size: Option<usize>,
}

impl Block {
    /// After the items: the stated size, where there is one, must be the real one.
    pub fn check(&self, reader: &Reader<'_>) -> Result<(), AvroFault> {
        match self.size {
            Some(size) if reader.position() - self.start != size => Err(AvroFault::BlockSize),
            _ => Ok(()),
        }
    }
}

/// Appends Avro binary to a buffer.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    #[inline]
    pub fn long(&mut self, value: i64) {
        let mut raw = ((value << 1) ^ (value >> 63)) as u64;
        while raw >= 0x80 {
            self.0.push((raw as u8) | 0x80);
            raw >>= 7;
        }
        self.0.push(raw as u8);
    }

    #[inline]
    pub fn int(&mut self, value: i32) {
        self.long(i64::from(value));
    }

    /// An unsigned number as an Avro long; its two's complement above `i64::MAX`.
    #[inline]
    pub fn unsigned(&mut self, value: u64) {
        self.long(value as i64);
    }

    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub fn float(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn double(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.long(value.len() as i64);
        self.0.extend_from_slice(value);
    }

    #[inline]
    pub fn string(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// A fixed: its bytes, no length.
    #[inline]
    pub fn fixed(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// The index of a union branch or enum symbol.
    #[inline]
    pub fn index(&mut self, value: usize) {
        self.long(value as i64);
    }

    /// `["null", T]`: branch 0 for `None`, else branch 1 and the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.index(0),
            Some(value) => {
                self.index(1);
                write(self, value);
            }
        }
    }

    /// One array block and the end mark; an empty array is the end mark alone.
    pub fn array<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let count = items.len();
        if count > 0 {
            self.long(count as i64);
            for item in items {
                write(self, item);
            }
        }
        self.long(0);
    }
}
