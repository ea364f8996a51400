//! The bytes of the `mz-seal` header: exact, bounded, no byte more or less. Numbers
//! are big-endian. `docs/wire-format.md` states the same for other implementers.

use crate::fault::SealFault;
use crate::hash::{DIGEST_BYTES, LEADING_LEAVES, SALT_BYTES, Salt, Seed};
use crate::keys::Suite;
use crate::meta::{MAX_META_BYTES, MetaRef, is_name};
use crate::schema::MAX_FIELDS;
use crate::tree::{MAX_BATCH, path_length};

/// Bytes of a whole seal.
pub const MAX_SEAL_BYTES: usize = 16 * 1024;
/// Bytes of a record id and of a subject inside a seal.
pub const MAX_ID_BYTES: usize = 512;

pub(crate) const FORM_SOURCE: u8 = 1;
pub(crate) const FORM_DELIVERY: u8 = 2;

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], SealFault> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(SealFault::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], SealFault> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(SealFault::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, SealFault> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, SealFault> {
        Ok(u16::from_be_bytes(*self.array()?))
    }

    fn text(&mut self, length: usize, limit: usize) -> Result<&'a str, SealFault> {
        if length > limit {
            return Err(SealFault::TooLarge);
        }
        std::str::from_utf8(self.take(length)?).map_err(|_| SealFault::Malformed)
    }

    fn finish(&self) -> Result<(), SealFault> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(SealFault::TrailingBytes)
        }
    }
}

/// Key id, batch number, size, index, inclusion path and signature: the same bytes in
/// a source event and in every delivery made from it.
#[derive(Debug, Clone, Copy)]
pub struct BatchPart<'a> {
    pub(crate) raw: &'a [u8],
    pub key_id: &'a str,
    pub number: u64,
    pub count: u32,
    pub index: u32,
    /// Whole hashes of 32 bytes, bottom up.
    pub path: &'a [u8],
    pub signature: &'a [u8; 64],
}

impl<'a> BatchPart<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, SealFault> {
        let raw = cursor.bytes;
        let key_length = cursor.u8()?;
        let key_id = cursor.text(key_length.into(), crate::meta::MAX_NAME_BYTES)?;
        if !is_name(key_id) {
            return Err(SealFault::Malformed);
        }
        let number = u64::from_be_bytes(*cursor.array()?);
        let count = u32::from_be_bytes(*cursor.array()?);
        let index = u32::from_be_bytes(*cursor.array()?);
        let hashes = usize::from(cursor.u8()?);
        if number == 0 {
            return Err(SealFault::Malformed);
        }
        if count > MAX_BATCH {
            return Err(SealFault::TooLarge);
        }
        if index >= count || hashes != path_length(index, count) {
            return Err(SealFault::PathInvalid);
        }
        let path = cursor.take(hashes * DIGEST_BYTES)?;
        let signature = cursor.array()?;
        let raw = &raw[..raw.len() - cursor.bytes.len()];
        Ok(Self {
            raw,
            key_id,
            number,
            count,
            index,
            path,
            signature,
        })
    }
}

fn head<'a>(
    seal: &'a [u8],
    form: u8,
) -> Result<(Cursor<'a>, Suite, &'a [u8], MetaRef<'a>), SealFault> {
    if seal.len() > MAX_SEAL_BYTES {
        return Err(SealFault::TooLarge);
    }
    let mut cursor = Cursor { bytes: seal };
    let suite = Suite::from_byte(cursor.u8()?)?;
    if cursor.u8()? != form {
        return Err(SealFault::Malformed);
    }
    let length = usize::from(cursor.u16()?);
    if length > MAX_META_BYTES {
        return Err(SealFault::TooLarge);
    }
    let meta_bytes = cursor.take(length)?;
    let meta = MetaRef::parse(meta_bytes)?;
    if usize::from(meta.field_count) > MAX_FIELDS {
        return Err(SealFault::TooLarge);
    }
    Ok((cursor, suite, meta_bytes, meta))
}

/// A source event's seal as read; nothing in it is verified.
#[derive(Debug, Clone)]
pub struct SourceSeal<'a> {
    pub suite: Suite,
    pub meta_bytes: &'a [u8],
    pub meta: MetaRef<'a>,
    pub seed: &'a Seed,
    pub record: &'a str,
    pub batch: BatchPart<'a>,
}

impl<'a> SourceSeal<'a> {
    pub fn parse(seal: &'a [u8]) -> Result<Self, SealFault> {
        let (mut cursor, suite, meta_bytes, meta) = head(seal, FORM_SOURCE)?;
        let seed = cursor.array()?;
        let record_length = usize::from(cursor.u16()?);
        let record = cursor.text(record_length, MAX_ID_BYTES)?;
        let batch = BatchPart::read(&mut cursor)?;
        cursor.finish()?;
        Ok(Self {
            suite,
            meta_bytes,
            meta,
            seed,
            record,
            batch,
        })
    }
}

/// A delivery's seal as read; nothing in it is verified.
#[derive(Debug, Clone)]
pub struct DeliverySeal<'a> {
    pub suite: Suite,
    pub meta_bytes: &'a [u8],
    pub meta: MetaRef<'a>,
    /// All leaves, meta included: `field_count + 3`.
    pub leaf_count: u16,
    bitmap: &'a [u8],
    leaves: &'a [u8],
    pub subject: Option<&'a str>,
    pub record: Option<&'a str>,
    pub batch: BatchPart<'a>,
}

/// What a delivery tells about one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafPart<'a> {
    /// The value is at hand; this is its salt.
    Disclosed(&'a Salt),
    /// The value is withheld; this is its leaf hash.
    Withheld(&'a [u8; DIGEST_BYTES]),
}

impl<'a> DeliverySeal<'a> {
    pub fn parse(seal: &'a [u8]) -> Result<Self, SealFault> {
        let (mut cursor, suite, meta_bytes, meta) = head(seal, FORM_DELIVERY)?;
        let leaf_count = cursor.u16()?;
        if usize::from(leaf_count) != usize::from(meta.field_count) + LEADING_LEAVES {
            return Err(SealFault::Malformed);
        }
        let salted = usize::from(leaf_count) - 1;
        let bitmap = cursor.take(salted.div_ceil(8))?;
        // Bits past the last leaf are zero, or one delivery would have two encodings.
        if salted % 8 != 0
            && bitmap
                .last()
                .is_some_and(|last| last & (0xff >> (salted % 8)) != 0)
        {
            return Err(SealFault::Malformed);
        }
        let disclosed: usize = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        let leaves = cursor.take(disclosed * SALT_BYTES + (salted - disclosed) * DIGEST_BYTES)?;
        let mut seal = Self {
            suite,
            meta_bytes,
            meta,
            leaf_count,
            bitmap,
            leaves,
            subject: None,
            record: None,
            batch: BatchPart {
                raw: &[],
                key_id: "",
                number: 0,
                count: 0,
                index: 0,
                path: &[],
                signature: &[0; 64],
            },
        };
        if seal.discloses(crate::hash::SUBJECT_LEAF) {
            let length = usize::from(cursor.u16()?);
            seal.subject = Some(cursor.text(length, MAX_ID_BYTES)?);
        }
        if seal.discloses(crate::hash::RECORD_LEAF) {
            let length = usize::from(cursor.u16()?);
            seal.record = Some(cursor.text(length, MAX_ID_BYTES)?);
        }
        seal.batch = BatchPart::read(&mut cursor)?;
        cursor.finish()?;
        Ok(seal)
    }

    /// Whether leaf `index` (1 and up) comes with its salt. Bit 7 of byte 0 is leaf 1.
    pub fn discloses(&self, index: u16) -> bool {
        let bit = usize::from(index).wrapping_sub(1);
        self.bitmap
            .get(bit / 8)
            .is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
    }

    /// Leaves 1, 2, … in order.
    pub fn leaves(&self) -> impl Iterator<Item = (u16, LeafPart<'a>)> {
        let bitmap = self.bitmap;
        let mut rest = self.leaves;
        (1..self.leaf_count).map_while(move |index| {
            let bit = usize::from(index) - 1;
            if bitmap[bit / 8] & (0x80 >> (bit % 8)) != 0 {
                let (salt, tail) = rest.split_first_chunk()?;
                rest = tail;
                Some((index, LeafPart::Disclosed(salt)))
            } else {
                let (hash, tail) = rest.split_first_chunk()?;
                rest = tail;
                Some((index, LeafPart::Withheld(hash)))
            }
        })
    }
}

pub(crate) fn write_head(suite: Suite, form: u8, meta: &[u8], out: &mut Vec<u8>) {
    out.push(suite.byte());
    out.push(form);
    out.extend_from_slice(&(meta.len() as u16).to_be_bytes());
    out.extend_from_slice(meta);
}

/// `u16 length ‖ UTF-8`; the caller has held `text` against [`MAX_ID_BYTES`].
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
