//! How a Kafka value names its schema: 0x00, the schema id in four bytes big-endian, then the
//! Avro datum (Confluent's wire format, which stock deserializers read).

use crate::malformed::Malformed;

/// Bytes before the datum.
pub const FRAME_BYTES: usize = 5;

/// Appends the frame; the datum follows.
pub fn put_frame(out: &mut Vec<u8>, schema_id: u32) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// Schema id and datum of a framed value.
pub fn unframe(value: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (frame, datum) = value
        .split_first_chunk::<FRAME_BYTES>()
        .ok_or(Malformed::Frame)?;
    let [magic, id @ ..] = *frame;
    if magic != 0 {
        return Err(Malformed::Frame);
    }
    Ok((u32::from_be_bytes(id), datum))
}
