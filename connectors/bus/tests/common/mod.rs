//! The shared stack as this crate's options, and topics made for one test.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test file uses a part; tests"
)]

use mz_bus::admin::Topic;
use mz_bus::{Admin, BusOptions, TlsFiles};
use mz_stack::testing;
use std::collections::BTreeMap;
use std::time::Duration;

pub const WAIT: Duration = Duration::from_secs(20);

/// A principal on the shared stack, under the test's own prefix.
pub fn bus(principal: &str, prefix: &str) -> BusOptions {
    let parts = testing::shared().bus(principal);
    BusOptions {
        bootstrap: parts.bootstrap,
        prefix: prefix.to_owned(),
        tls: Some(TlsFiles {
            ca: parts.ca,
            cert: parts.cert,
            key: parts.key,
        }),
        client_id: principal.to_owned(),
    }
}

/// Creates topics (logical names) and returns the administrator's options.
pub fn topics(names: &[(&str, u32)]) -> BusOptions {
    let bus = bus("bus.admin", &testing::prefix());
    let topics: Vec<(String, Topic)> = names
        .iter()
        .map(|(name, partitions)| {
            let topic = Topic {
                partitions: *partitions,
                replication: None,
                settings: BTreeMap::new(),
            };
            (format!("{}{name}", bus.prefix), topic)
        })
        .collect();
    Admin::connect(&bus)
        .unwrap()
        .create_topics(&topics)
        .unwrap();
    bus
}
