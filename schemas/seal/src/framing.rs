//! Confluent framing of a Kafka value: 0x00, four bytes of schema id (big-endian),
//! then the Avro datum.

use crate::MAX_DATUM_BYTES;
use crate::fault::SealFault;

pub const FRAMING_BYTES: usize = 5;

/// Splits a Kafka value into schema id and bare datum.
pub fn unframe(value: &[u8]) -> Result<(u32, &[u8]), SealFault> {
    if value.len() > MAX_DATUM_BYTES + FRAMING_BYTES {
        return Err(SealFault::TooLarge);
    }
    match value {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(SealFault::FramingInvalid),
    }
}

/// Appends the five bytes that stand before a datum.
pub fn frame_into(schema_id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// A framed copy of a datum.
pub fn frame(schema_id: u32, datum: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAMING_BYTES + datum.len());
    frame_into(schema_id, &mut out);
    out.extend_from_slice(datum);
    out
}
