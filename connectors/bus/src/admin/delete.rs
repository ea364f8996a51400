//! Deletes the oldest records of a topic. They are gone for good: who calls this knows who needed them.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, Offset};

use crate::client::Context;
use crate::error::BusError;
use crate::options::BusOptions;
use crate::reader::call_fault;
use crate::tuning::{self, CALL_TIMEOUT};

const OPERATION: &str = "delete records";

/// Deletes what lies below these offsets, as `bus.admin`; answers each partition's first offset after it.
/// Partitions that are not named stay as they are.
///
/// # Errors
/// The cluster refused, in one partition at least. Others may be done by then: ask again.
pub async fn delete_records(
    bus: &BusOptions,
    topic: &str,
    below: &[(i32, i64)],
) -> Result<Vec<(i32, i64)>, BusError> {
    if below.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |source| call_fault(OPERATION, topic, source);
    let config: ClientConfig = tuning::common(bus);
    let admin: AdminClient<Context> = config
        .create_with_context(Context)
        .map_err(BusError::Settings)?;
    let physical = bus.physical(topic);
    let mut list = TopicPartitionList::with_capacity(below.len());
    for (partition, offset) in below {
        list.add_partition_offset(&physical, *partition, Offset::Offset(*offset))
            .map_err(failed)?;
    }
    let options = AdminOptions::new()
        .request_timeout(Some(CALL_TIMEOUT))
        .operation_timeout(Some(CALL_TIMEOUT));
    let done = admin
        .delete_records(&list, &options)
        .await
        .map_err(failed)?;
    let mut first = Vec::new();
    for element in done.elements() {
        element.error().map_err(failed)?;
        if let Offset::Offset(offset) = element.offset() {
            first.push((element.partition(), offset));
        }
    }
    Ok(first)
}
