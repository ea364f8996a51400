//! Hands out slots: a consumer group on `bus.slots`, one partition for each slot, or a fixed
//! list. The group only says who should run a slot; who may commit is decided by the slot's
//! transactional id alone.

use crate::client::log;
use crate::error::{BusError, means_transient};
use crate::options::BusOptions;
use crate::tuning::{self, SESSION_TIMEOUT};
use mz_journal::topics::{self, SlotKind};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How to take part in a slot group.
#[derive(Clone, Debug)]
pub struct SlotOptions {
    pub kind: SlotKind,
    /// Static membership: a name that a restarted process keeps, so that a restart within the
    /// session timeout moves nothing.
    pub instance: Option<String>,
    pub session_timeout: Duration,
}

impl SlotOptions {
    pub const fn new(kind: SlotKind) -> Self {
        Self {
            kind,
            instance: None,
            session_timeout: SESSION_TIMEOUT,
        }
    }
}

/// The group of a slot kind: `mz-gw-slots`, `mz-vault-slots`.
pub fn slot_group(kind: SlotKind) -> String {
    format!("mz-{}-slots", kind.name())
}

/// The lanes of a slot: lane `l` belongs to slot `l % slots`.
pub fn lanes_of(slot: u32, slots: u32, lanes: u16) -> impl Iterator<Item = u16> {
    (0..lanes).filter(move |lane| u32::from(*lane) % slots.max(1) == slot)
}

type OnRevoke = Box<dyn FnMut(&[u32]) + Send>;

struct Membership {
    owned: Mutex<BTreeSet<u32>>,
    on_revoke: Mutex<OnRevoke>,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ConsumerContext for Membership {
    /// Runs inside `poll`. A revoked slot is wound up before the group may give it away.
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let slots: Vec<u32> = list
                .elements()
                .iter()
                .filter_map(|element| u32::try_from(element.partition()).ok())
                .collect();
            if slots.is_empty() {
                return;
            }
            let mut wind_up = self
                .on_revoke
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            wind_up(&slots);
            let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
            owned.retain(|slot| !slots.contains(slot));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
            owned.extend(
                list.elements()
                    .iter()
                    .filter_map(|element| u32::try_from(element.partition()).ok()),
            );
        }
    }
}

enum Source {
    Group(Box<BaseConsumer<Membership>>),
    Fixed(BTreeSet<u32>),
}

/// A share of the slots.
pub struct SlotGroup {
    source: Source,
    client_id: String,
}

impl SlotGroup {
    /// Joins the group of `options.kind`. `on_revoke` runs inside [`Self::poll`] (and on drop)
    /// with slots that are being taken away, before another member can get them: it should stop
    /// their threads and return soon. Its calls may also come after the session was lost: then
    /// another owner may be running already, and whatever is left will be fenced.
    pub fn join(
        bus: &BusOptions,
        options: &SlotOptions,
        on_revoke: impl FnMut(&[u32]) + Send + 'static,
    ) -> Result<Self, BusError> {
        let membership = Membership {
            owned: Mutex::default(),
            on_revoke: Mutex::new(Box::new(on_revoke)),
        };
        let consumer: BaseConsumer<Membership> = tuning::slot_member(
            bus,
            &slot_group(options.kind),
            options.instance.as_deref(),
            options.session_timeout,
        )
        .create_with_context(membership)
        .map_err(BusError::Settings)?;
        consumer
            .subscribe(&[&bus.physical(topics::SLOTS)])
            .map_err(|source| BusError::Cluster {
                operation: "join the slot group",
                source,
            })?;
        Ok(Self {
            source: Source::Group(Box::new(consumer)),
            client_id: bus.client_id.clone(),
        })
    }

    /// These slots, always: configuration instead of a group.
    pub fn fixed(slots: impl IntoIterator<Item = u32>) -> Self {
        Self {
            source: Source::Fixed(slots.into_iter().collect()),
            client_id: String::new(),
        }
    }

    /// Takes part in the group for up to `timeout` and returns the slots owned then. Must be
    /// called at least every few seconds. Returns early when the share changed.
    pub fn poll(&mut self, timeout: Duration) -> Result<BTreeSet<u32>, BusError> {
        let consumer = match &self.source {
            Source::Fixed(slots) => return Ok(slots.clone()),
            Source::Group(consumer) => consumer,
        };
        let before = owned(consumer.context());
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(Err(error)) = consumer.poll(left.min(Duration::from_millis(100))) {
                match error.rdkafka_error_code() {
                    Some(code) if means_transient(code) => {
                        tracing::debug!(client = self.client_id, %error, "slot group not reachable");
                    }
                    _ => {
                        return Err(BusError::Cluster {
                            operation: "take part in the slot group",
                            source: error,
                        });
                    }
                }
            }
            let now = owned(consumer.context());
            if now != before || left.is_zero() {
                return Ok(now);
            }
        }
    }
}

fn owned(membership: &Arc<Membership>) -> BTreeSet<u32> {
    membership
        .owned
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}
