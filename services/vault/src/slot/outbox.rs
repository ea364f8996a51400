//! Everything a slot's turn writes to the bus: collected first, then committed as one transaction
//! together with the state of every lane it touches.

use std::collections::{BTreeMap, BTreeSet};

use mz_bus::{TxError, TxProducer};
use mz_journal::topics::{self, SlotKind};
use mz_journal::{Audit, AuditWriter, FactReply, Grant, Record as _};
use mz_keys::AuditKey;

use super::books::LaneBook;

struct Message {
    topic: &'static str,
    lane: u16,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Default)]
pub struct Outbox {
    messages: Vec<Message>,
    touched: BTreeSet<u16>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// The lane's state is to be written even if nothing else is.
    pub fn touch(&mut self, lane: u16) {
        self.touched.insert(lane);
    }

    /// Numbers, blinds, links and queues one audit record; returns its number.
    pub fn audit(&mut self, book: &mut LaneBook, key: &AuditKey, audit: &mut Audit<'_>) -> u64 {
        audit.nonce = key.nonce(AuditWriter::Vault, book.lane, book.chain.number() + 1);
        let (key, value) = book.write_audit(audit);
        self.push(topics::AUDIT, book.lane, key.to_vec(), value);
        audit.number
    }

    pub fn grant(&mut self, lane: u16, grant: &Grant) {
        let key = topics::grant_key(grant.subject, grant.id).to_vec();
        self.push(topics::GRANTS, lane, key, grant.encode());
    }

    pub fn reply(&mut self, lane: u16, reply: &FactReply) {
        self.push(
            topics::FACTS,
            lane,
            reply.subject.0.to_vec(),
            reply.encode(),
        );
    }

    fn push(&mut self, topic: &'static str, lane: u16, key: Vec<u8>, value: Vec<u8>) {
        self.messages.push(Message {
            topic,
            lane,
            key,
            value,
        });
        self.touched.insert(lane);
    }

    /// Commits everything, or nothing of it.
    ///
    /// # Errors
    /// After any error the slot starts over from committed state.
    pub fn commit(
        self,
        producer: &mut TxProducer,
        books: &mut BTreeMap<u16, LaneBook>,
        contract: [u8; 32],
        now_ms: i64,
    ) -> Result<(), TxError> {
        if self.is_empty() {
            return Ok(());
        }
        producer.begin()?;
        let sent = self.send(producer, books, contract, now_ms);
        if let Err(error) = sent.and_then(|()| producer.commit()) {
            if matches!(error, TxError::Abort(_) | TxError::Retriable(_)) {
                // The successor's `init_transactions` would end it too, only later.
                if let Err(second) = producer.abort() {
                    tracing::debug!(error = %second, "abort failed");
                }
            }
            return Err(error);
        }
        for lane in &self.touched {
            if let Some(book) = books.get_mut(lane) {
                book.is_committed();
            }
        }
        Ok(())
    }

    fn send(
        &self,
        producer: &mut TxProducer,
        books: &BTreeMap<u16, LaneBook>,
        contract: [u8; 32],
        now_ms: i64,
    ) -> Result<(), TxError> {
        for message in &self.messages {
            let lane = i32::from(message.lane);
            producer.send(message.topic, lane, &message.key, Some(&message.value), &[])?;
        }
        for book in self.touched.iter().filter_map(|lane| books.get(lane)) {
            // One thread reads grants and decides: what is read now was read before it decided,
            // and nothing was read since the transaction began.
            let state = book.state(contract, now_ms);
            let key = topics::state_key(SlotKind::Vault, book.lane);
            producer.send(
                topics::STATE,
                i32::from(book.lane),
                &key,
                Some(&state.encode()),
                &[],
            )?;
        }
        Ok(())
    }
}
