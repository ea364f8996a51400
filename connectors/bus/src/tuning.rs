//! Every setting that differs from librdkafka's default, each with its reason. The pass-through
//! of the benchmark runs on the same ones.

use crate::options::{BusOptions, reader_group};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use std::time::Duration;

/// One hanging transaction stops every reader of committed data on its partitions for this long.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call to the cluster may take before it counts as failed.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A member of a slot group that is silent for this long loses its slots. The brokers' default
/// minimum is 6 s.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Largest record, in bytes: matches `max.message.bytes` of the lane topics.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Records that a reader takes from one partition before it turns to the next: long enough that
/// neighbours of one batch are verified together, short enough to be fair.
pub const LANE_BURST: usize = 256;

/// What every client has: where, as whom, how patient.
pub(crate) fn common(bus: &BusOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &bus.bootstrap)
        .set("client.id", &bus.client_id)
        // A topic that is not in the plan must be an error, not a new topic.
        .set("allow.auto.create.topics", "false")
        // How long an unknown topic may be one that is just being made. Default 30 s.
        .set("topic.metadata.propagation.max.ms", "5000")
        // After a broker's restart, be back in a second, not in ten.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // Small transactions are many small requests: don't let Nagle hold them.
        .set("socket.nagle.disable", "true")
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Warning);
    if let Some(tls) = &bus.tls {
        config
            .set("security.protocol", "ssl")
            .set("ssl.ca.location", tls.ca.to_string_lossy())
            .set("ssl.certificate.location", tls.cert.to_string_lossy())
            .set("ssl.key.location", tls.key.to_string_lossy());
    }
    config
}

/// A reader with explicit positions.
pub(crate) fn reader(bus: &BusOptions, committed: bool) -> ClientConfig {
    let mut config = common(bus);
    config
        .set("group.id", bus.physical(&reader_group(&bus.client_id)))
        // Positions live in the owner's own state, in the transaction of the output.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A position that the topic no longer has is a loss to report, not to jump over.
        .set("auto.offset.reset", "error")
        .set(
            "isolation.level",
            if committed {
                "read_committed"
            } else {
                "read_uncommitted"
            },
        )
        // "Caught up" is this event, never an offset compared with a record.
        .set("enable.partition.eof", "true")
        // Default 1000: a reader whose queue was full would sleep for a second.
        .set("fetch.queue.backoff.ms", "1")
        .set("fetch.error.backoff.ms", "20")
        // One record is reason enough to answer: latency. Large answers come by themselves
        // when there is a backlog.
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.message.max.bytes", "4194304")
        .set("fetch.max.bytes", "33554432")
        // Enough for the next transaction while this one commits; bounds memory.
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "65536")
        // Checked by the broker and by the event's own digest.
        .set("check.crcs", "false")
        .set("receive.message.max.bytes", "104857600");
    config
}

/// The transactional producer of a slot or stream.
pub(crate) fn producer(
    bus: &BusOptions,
    transactional_id: &str,
    timeout: Duration,
) -> ClientConfig {
    let mut config = common(bus);
    config
        .set("transactional.id", bus.physical(transactional_id))
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        // librdkafka's default partitioner is not Java's; a lane topic never needs either.
        .set("partitioner", "murmur2_random")
        // The transaction after a commit is told CONCURRENT_TRANSACTIONS until the markers are
        // written: ask again at once, not after 100 ms.
        .set("retry.backoff.ms", "1")
        .set("retry.backoff.max.ms", "50")
        // Few, large requests: at 2,500 records each the broker needs a third of the CPU. A slot
        // writes to every lane of several topics, so a short linger means many small requests:
        // from 5 to 10 ms the broker's CPU fell by a fifth; 20 ms cost more latency than it gave.
        .set("linger.ms", "10")
        .set("batch.num.messages", "10000")
        .set("batch.size", "1000000")
        .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
        .set("queue.buffering.max.messages", "500000")
        .set("queue.buffering.max.kbytes", "524288")
        // Not longer than the transaction they belong to.
        .set("message.timeout.ms", timeout.as_millis().to_string())
        .set("request.timeout.ms", timeout.as_millis().to_string());
    config
}

/// A producer without transactions, for latency: nothing waits for company for long.
pub(crate) fn plain_producer(bus: &BusOptions) -> ClientConfig {
    let mut config = common(bus);
    config
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "1")
        .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string());
    config
}

/// A member of a slot group.
pub(crate) fn slot_member(
    bus: &BusOptions,
    group: &str,
    instance: Option<&str>,
    session: Duration,
) -> ClientConfig {
    // A member that comes or goes moves only the slots that must move. Not where members keep a name: a slot
    // is then given up in one round and given on in the next, which whoever gave it up asks for; if that
    // one is killed in between and comes back under its name, nothing changes for the group, nobody asks,
    // and nobody has the slot. Then all slots are handed out in one round.
    let strategy = match instance {
        Some(_) => "range",
        None => "cooperative-sticky",
    };
    let mut config = common(bus);
    config
        .set("group.id", bus.physical(group))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Nothing is ever in the topic; its offsets mean nothing.
        .set("auto.offset.reset", "latest")
        .set("partition.assignment.strategy", strategy)
        .set("session.timeout.ms", session.as_millis().to_string())
        .set(
            "heartbeat.interval.ms",
            (session.as_millis() / 3).to_string(),
        )
        .set(
            "max.poll.interval.ms",
            (session * 5).as_millis().max(30_000).to_string(),
        )
        .set("fetch.wait.max.ms", "500");
    if let Some(instance) = instance {
        // A restart within the session timeout moves nothing.
        config.set("group.instance.id", bus.physical(instance));
    }
    config
}
