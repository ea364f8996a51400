//! What a topic *is*, beside its name: a topic that was deleted and made again has another id, and its
//! offsets mean something else.

use super::wire::{Answer, Connection, Writer};
use super::{UNKNOWN_TOPIC_OR_PARTITION, refuse};
use crate::error::BusError;
use crate::options::BusOptions;

/// Kafka's id of a topic (KIP-516).
pub type TopicId = [u8; 16];

const OPERATION: &str = "read a topic's id";
const METADATA: i16 = 3;
/// The first version that doesn't ask for rights on the cluster besides; Kafka 3.1 and newer know it.
const VERSION: i16 = 12;

/// The id of a topic, as anybody who may read or write it.
///
/// # Errors
/// No such topic, no right, no answer, an answer that is none.
pub fn topic_id(bus: &BusOptions, topic: &str) -> Result<TopicId, BusError> {
    let physical = bus.physical(topic);
    let mut request = Writer::default();
    request.compact_count(1);
    request.id(&[0; 16]);
    request.compact_text(&physical);
    request.no_tags();
    // Neither made by asking, nor with what one may do with it.
    request.bool(false);
    request.bool(false);
    request.no_tags();
    let mut connection = Connection::open(bus)?;
    let answer = connection.call_flexible(OPERATION, METADATA, VERSION, &request)?;
    let mut answer = Answer::new(OPERATION, &answer);
    answer.i32()?;
    for _ in 0..answer.compact_count()? {
        answer.i32()?;
        answer.compact_text()?;
        answer.i32()?;
        answer.compact_text()?;
        answer.skip_tags()?;
    }
    answer.compact_text()?;
    answer.i32()?;
    let topics = answer.compact_count()?;
    let malformed = |detail: &str| BusError::Protocol {
        operation: OPERATION,
        detail: detail.to_owned(),
    };
    if topics != 1 {
        return Err(malformed("it is about another number of topics"));
    }
    let code = answer.i16()?;
    let name = answer.compact_text()?;
    let id = answer.id()?;
    if code == UNKNOWN_TOPIC_OR_PARTITION {
        return Err(BusError::TopicMissing {
            topic: topic.to_owned(),
        });
    }
    refuse(OPERATION, topic, code, None)?;
    if name.as_deref() != Some(&*physical) || id == [0; 16] {
        return Err(malformed("it is about another topic"));
    }
    Ok(id)
}
