//! The outbox on its way to Kafka: what was changed, in the order of the changes, with its audit
//! records and the place reached, in one transaction each. After any failure it starts over from what
//! Kafka has: nothing is lost, doubled or sent in another order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mz_bus::{Isolation, Reader, Stretch, TxError, TxProducer, read_stretches};
use mz_journal::topics::{self, SlotKind};
use mz_journal::{Audit, AuditWriter, Chain, Position, Record as _, State};

use crate::error::ConsentError;
use crate::limits::{MAX_PUBLISH, PUBLISH_POLL, STATE_LOOK_BACK};
use crate::shared::{Shared, now_ms};
use crate::store::OutboxRow;

/// Reading back the own state makes progress at least this often, or fails.
/// Name of the outbox among the positions of a state record.
const OUTBOX: &str = "outbox";

/// What was sent: the last row, and each lane's audit chain.
struct Sent {
    last: i64,
    chains: BTreeMap<u16, Chain>,
}

pub(crate) struct Publisher {
    shared: Arc<Shared>,
    producer: TxProducer,
    sent: Sent,
}

impl Publisher {
    /// `producer` has been initialised: the predecessor is shut out, and what it had committed is all
    /// that there will be of it.
    pub fn new(shared: Arc<Shared>, producer: TxProducer) -> Result<Self, ConsentError> {
        let sent = read_sent(&shared)?;
        Ok(Self {
            shared,
            producer,
            sent,
        })
    }

    /// Sends until `stop`.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), ConsentError> {
        while !stop.load(Ordering::Acquire) {
            let shared = Arc::clone(&self.shared);
            let rows = shared
                .runtime
                .block_on(shared.store.outbox_after(self.sent.last, MAX_PUBLISH))?;
            if rows.is_empty() {
                shared.wake.wait(PUBLISH_POLL);
                continue;
            }
            self.send(&rows)?;
            shared
                .runtime
                .block_on(shared.store.outbox_sent(self.sent.last))?;
        }
        Ok(())
    }

    fn send(&mut self, rows: &[OutboxRow]) -> Result<(), ConsentError> {
        // An abort leaves the chains where they were.
        let mut chains = self.sent.chains.clone();
        self.producer.begin()?;
        let written = self
            .write(rows, &mut chains)
            .and_then(|last| Ok(self.producer.commit().map(|()| last)?));
        match written {
            Ok(last) => {
                self.sent = Sent { last, chains };
                Ok(())
            }
            Err(error) => {
                if matches!(
                    &error,
                    ConsentError::Tx(TxError::Abort(_) | TxError::Retriable(_))
                ) && let Err(second) = self.producer.abort()
                {
                    tracing::debug!(error = %second, "abort failed");
                }
                Err(error)
            }
        }
    }

    fn write(
        &mut self,
        rows: &[OutboxRow],
        chains: &mut BTreeMap<u16, Chain>,
    ) -> Result<i64, ConsentError> {
        let mut last = self.sent.last;
        let mut bytes = Vec::new();
        let contract = self.shared.in_force().contract.digest;
        for row in rows {
            let lane = i32::from(row.lane);
            if let Some(topic) = &row.topic {
                self.producer
                    .send(topic, lane, &row.key, Some(&row.value), &[])?;
            }
            // A state for every lane that anything was sent to: the place reached must be in it.
            let chain = chains
                .entry(row.lane)
                .or_insert_with(|| Chain::new(AuditWriter::Consent, row.lane));
            if let Some(audit) = &row.audit {
                let mut audit = Audit::read(audit).map_err(|source| ConsentError::Journal {
                    topic: topics::AUDIT,
                    lane: row.lane,
                    offset: row.id,
                    source,
                })?;
                let number = chain.number() + 1;
                let key = &self.shared.keys.audit;
                audit.nonce = key.nonce(AuditWriter::Consent, row.lane, number);
                if audit.contract == [0; 32] {
                    audit.contract = contract;
                }
                bytes.clear();
                chain.append(&mut audit, &mut bytes);
                let key = topics::audit_key(AuditWriter::Consent, row.lane, number);
                self.producer
                    .send(topics::AUDIT, lane, &key, Some(&bytes), &[])?;
            }
            last = row.id;
        }
        let mut touched: Vec<u16> = rows.iter().map(|row| row.lane).collect();
        touched.sort_unstable();
        touched.dedup();
        for lane in touched {
            let Some(chain) = chains.get(&lane) else {
                continue;
            };
            let state = State {
                lane,
                positions: vec![Position {
                    topic: OUTBOX.to_owned(),
                    next_offset: last + 1,
                }],
                audit_number: chain.number(),
                audit_chain: *chain.digest(),
                contract,
                at_ms: now_ms(),
                ..State::default()
            };
            let key = topics::state_key(SlotKind::Consent, lane);
            self.producer.send(
                topics::STATE,
                i32::from(lane),
                &key,
                Some(&state.encode()),
                &[],
            )?;
        }
        Ok(last)
    }
}

/// What Kafka has: the newest `consent|<lane>` of each lane, also behind a slot's open transaction.
fn read_sent(shared: &Shared) -> Result<Sent, ConsentError> {
    let mut reader = Reader::open(&shared.bus, Isolation::Committed)?;
    let heads = Reader::open(&shared.bus, Isolation::Uncommitted)?;
    let mut sent = Sent {
        last: 0,
        chains: BTreeMap::new(),
    };
    // First what is recent; a lane that has none there is looked for from its beginning.
    for look_back in [STATE_LOOK_BACK, i64::MAX] {
        let mut stretches = Vec::new();
        for lane in (0..shared.lanes).filter(|lane| !sent.chains.contains_key(lane)) {
            let (low, high) = heads.watermarks(topics::STATE, i32::from(lane))?;
            stretches.push(Stretch {
                topic: topics::STATE,
                lane,
                from: high.saturating_sub(look_back).max(low),
                to: high,
            });
        }
        let mut fault = None;
        read_stretches(&mut reader, &stretches, |record| {
            let Some((SlotKind::Consent, lane)) = record.key.and_then(topics::parse_state_key)
            else {
                return;
            };
            let Some(value) = record.value else { return };
            match State::decode(value) {
                Ok(state) => {
                    let next = state.position(OUTBOX).unwrap_or(1);
                    sent.last = sent.last.max(next - 1);
                    let (number, digest) = (state.audit_number, state.audit_chain);
                    let chain = Chain::resume(AuditWriter::Consent, lane, number, digest);
                    sent.chains.insert(lane, chain);
                }
                Err(source) => {
                    fault = Some(ConsentError::Journal {
                        topic: topics::STATE,
                        lane,
                        offset: record.offset,
                        source,
                    });
                }
            }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(sent)
}
