//! What an event says about itself: Avro, `schemas/bus/meta.v1.avsc`, by hand
//! because it is read for every event.

use crate::avro::{AvroFault, Reader, Writer};
use crate::fault::SealFault;
use crate::hash::Digest;

/// Bytes of an encoded meta.
pub const MAX_META_BYTES: usize = 1024;
/// Bytes of a name inside meta (bus, department, stream, dataset) and of a key id.
pub const MAX_NAME_BYTES: usize = 128;
/// 9999-12-31T23:59:59.999Z: later times have no RFC 3339 text.
pub const MAX_TIME_MS: i64 = 253_402_300_799_999;

/// The schema of [`Meta`], as committed.
pub const META_AVSC: &str = include_str!("../../bus/meta.v1.avsc");

/// Meta of one event. Names are borrowed from the seal (`MetaRef`) or owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta<S = String> {
    /// Id of the installation.
    pub bus: S,
    pub department: S,
    pub stream: S,
    /// `<department>.<dataset>.v<N>`
    pub dataset: S,
    pub lane: u16,
    /// Per stream, dataset and lane, from 1, gapless within the epoch.
    pub sequence: u64,
    /// UUIDv7.
    pub ce_id: [u8; 16],
    pub ce_time_ms: i64,
    /// SHA-256 of the committed source schema.
    pub schema: Digest,
    pub field_count: u16,
    /// Stream epoch, from 1.
    pub epoch: u32,
    /// Version within the epoch, from 1.
    pub counter: u64,
    /// The register deleted or cancelled this record.
    pub withdrawn: bool,
}

/// Meta that borrows its names from the seal it was read from.
pub type MetaRef<'a> = Meta<&'a str>;

/// A version of a record: stream epoch, then counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub epoch: u32,
    pub counter: u64,
}

impl<S: AsRef<str>> Meta<S> {
    pub fn version(&self) -> Version {
        Version {
            epoch: self.epoch,
            counter: self.counter,
        }
    }

    /// `/<department>/<stream>`
    pub fn ce_source(&self) -> String {
        format!("/{}/{}", self.department.as_ref(), self.stream.as_ref())
    }

    /// The dataset's id.
    pub fn ce_type(&self) -> &str {
        self.dataset.as_ref()
    }

    /// Lower-case hyphenated UUID.
    pub fn ce_id_text(&self) -> String {
        String::from_utf8_lossy(&uuid_text(&self.ce_id)).into_owned()
    }

    /// RFC 3339, UTC, milliseconds.
    pub fn ce_time_text(&self) -> String {
        crate::time::timestamp_text(self.ce_time_ms)
    }

    pub fn to_owned(&self) -> Meta {
        Meta {
            bus: self.bus.as_ref().to_owned(),
            department: self.department.as_ref().to_owned(),
            stream: self.stream.as_ref().to_owned(),
            dataset: self.dataset.as_ref().to_owned(),
            lane: self.lane,
            sequence: self.sequence,
            ce_id: self.ce_id,
            ce_time_ms: self.ce_time_ms,
            schema: self.schema,
            field_count: self.field_count,
            epoch: self.epoch,
            counter: self.counter,
            withdrawn: self.withdrawn,
        }
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        for name in [&self.bus, &self.department, &self.stream, &self.dataset] {
            writer.string(name.as_ref());
        }
        writer.int(i32::from(self.lane));
        writer.unsigned(self.sequence);
        writer.fixed(&self.ce_id);
        writer.long(self.ce_time_ms);
        writer.fixed(&self.schema);
        writer.int(i32::from(self.field_count));
        writer.long(i64::from(self.epoch));
        writer.unsigned(self.counter);
        writer.boolean(self.withdrawn);
    }

    /// Holds names and numbers against the limits of the format.
    pub(crate) fn check(&self) -> Result<(), SealFault> {
        let names = [&self.bus, &self.department, &self.stream, &self.dataset];
        if !names.iter().all(|name| is_name(name.as_ref())) {
            return Err(SealFault::Malformed);
        }
        let numbers = [self.sequence, self.counter, u64::from(self.epoch)];
        let numbered = numbers
            .iter()
            .all(|number| (1..=i64::MAX as u64).contains(number));
        if !numbered || !(0..=MAX_TIME_MS).contains(&self.ce_time_ms) {
            return Err(SealFault::Malformed);
        }
        Ok(())
    }
}

/// `[A-Za-z0-9._-]`, 1 to 128 bytes: nothing that could break a topic, a header or a path.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl<'a> MetaRef<'a> {
    /// Reads an encoded meta, all of it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SealFault> {
        if bytes.len() > MAX_META_BYTES {
            return Err(SealFault::TooLarge);
        }
        let meta = Self::read(bytes).map_err(|_| SealFault::Malformed)?;
        meta.check()?;
        Ok(meta)
    }

    fn read(bytes: &'a [u8]) -> Result<Self, AvroFault> {
        let mut reader = Reader::new(bytes);
        let unsigned = |number: i64| u64::try_from(number).map_err(|_| AvroFault::OutOfRange);
        let meta = Self {
            bus: reader.string()?,
            department: reader.string()?,
            stream: reader.string()?,
            dataset: reader.string()?,
            lane: u16::try_from(reader.int()?).map_err(|_| AvroFault::OutOfRange)?,
            sequence: unsigned(reader.long()?)?,
            ce_id: reader.fixed()?,
            ce_time_ms: reader.long()?,
            schema: reader.fixed()?,
            field_count: u16::try_from(reader.int()?).map_err(|_| AvroFault::OutOfRange)?,
            epoch: u32::try_from(reader.long()?).map_err(|_| AvroFault::OutOfRange)?,
            counter: unsigned(reader.long()?)?,
            withdrawn: reader.boolean()?,
        };
        reader.finish()?;
        Ok(meta)
    }
}

/// Lower-case hyphenated UUID, 36 ASCII bytes.
pub fn uuid_text(id: &[u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out
}
