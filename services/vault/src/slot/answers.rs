//! Admitted requests: kept until the store holds what was published before they came, assembled,
//! and answered once their audit records are committed.

use std::sync::Arc;
use std::time::Instant;

use mz_contract::DatasetIx;
use mz_journal::{AuditWriter, SubjectTag};
use mz_policy::{Now, Standing};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;

use super::command::{BundleAsk, Recorded};
use super::error::SlotError;
use super::outbox::Outbox;
use super::{Slot, now_ms};
use crate::bundle::Bundle;
use crate::bundle::assemble::{Assembler, Question, Source};
use crate::bundle::sign::sign;
use crate::freshness::Completeness;
use crate::limits::MAX_FACTS_PER_SUBJECT;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::{FactRow, StoreError, Wanted};
use crate::telemetry;

/// An admitted request.
pub(super) struct Waiting {
    pub ask: BundleAsk,
    pub awaited: Vec<Awaited>,
    pub deadline: Instant,
}

/// A source that the request needs, as it was when the request came.
pub(super) struct Awaited {
    pub dataset: DatasetIx,
    /// What was written by then, open transactions included: whatever a source's status had
    /// vouched for lies below.
    pub head: i64,
    /// Read before `head`.
    pub said: Completeness,
}

/// Answers that may leave once the turn's transaction is committed.
#[derive(Default)]
pub(super) struct Answers(pub Vec<Answer>);

pub(super) enum Answer {
    Bundle {
        bundle: Box<Bundle>,
        received: Instant,
        reply: oneshot::Sender<Result<Bundle, Refusal>>,
    },
    Refused {
        refusal: Refusal,
        received: Instant,
        reply: oneshot::Sender<Result<Bundle, Refusal>>,
    },
    Recorded {
        recorded: Recorded,
        reply: oneshot::Sender<Result<Recorded, Refusal>>,
    },
}

impl Answers {
    /// A receiver that is gone has given up waiting: the record of the look-up stays.
    pub(super) fn deliver(self, shared: &Shared) {
        for answer in self.0 {
            match answer {
                Answer::Bundle {
                    mut bundle,
                    received,
                    reply,
                } => {
                    let signed = sign(&mut bundle, &*shared.keys.signer);
                    let result = match signed {
                        Ok(()) => Ok(*bundle),
                        Err(fault) => {
                            tracing::error!(error = %fault, "bundle not signed");
                            Err(Refusal::Unavailable)
                        }
                    };
                    telemetry::bundle("issued", received.elapsed());
                    let _ = reply.send(result);
                }
                Answer::Refused {
                    refusal,
                    received,
                    reply,
                } => {
                    telemetry::bundle("refused", received.elapsed());
                    let _ = reply.send(Err(refusal));
                }
                Answer::Recorded { recorded, reply } => {
                    let _ = reply.send(Ok(recorded));
                }
            }
        }
    }
}

/// `None` for a person with more facts than a bundle may hold.
type RowsByPerson = FxHashMap<(u16, SubjectTag), Option<Vec<FactRow>>>;

impl Slot {
    /// Whether some request could be answered without waiting any longer.
    pub(super) fn any_ready(&self) -> bool {
        let now = Instant::now();
        self.waiting
            .iter()
            .any(|waiting| self.is_ready(waiting, now))
    }

    fn is_ready(&self, waiting: &Waiting, now: Instant) -> bool {
        now >= waiting.deadline
            || waiting
                .awaited
                .iter()
                .all(|source| self.holds(source, waiting.ask.lane))
    }

    /// Whether everything that was published before the request is in the store.
    fn holds(&self, source: &Awaited, lane: u16) -> bool {
        self.reached
            .get(&(source.dataset, lane))
            .copied()
            .unwrap_or(0)
            >= source.head
    }

    /// Answers the requests whose sources are in the store, or whose time is up.
    pub(super) fn answer_ready(
        &mut self,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) -> Result<(), SlotError> {
        let now = Instant::now();
        let all = std::mem::take(&mut self.waiting);
        let (ready, waiting) = all
            .into_iter()
            .partition(|w: &Waiting| self.is_ready(w, now));
        self.waiting = waiting;
        let ready: Vec<Waiting> = ready;
        if ready.is_empty() {
            return Ok(());
        }
        let rows = self.rows_of(&ready)?;
        for waiting in ready {
            let found = rows.get(&(waiting.ask.lane, waiting.ask.subject));
            self.answer(waiting, found, outbox, answers);
        }
        Ok(())
    }

    fn answer(
        &mut self,
        waiting: Waiting,
        rows: Option<&Option<Vec<FactRow>>>,
        outbox: &mut Outbox,
        answers: &mut Answers,
    ) {
        let Waiting {
            mut ask, awaited, ..
        } = waiting;
        let shared = Arc::clone(&self.shared);
        let contract = self.contract();
        // Admitted under this contract: a change admits anew.
        let Some(item) = contract.item(&ask.item) else {
            let _ = ask.reply.send(Err(Refusal::ItemUnknown));
            return;
        };
        let now = Now::at_ms(now_ms());
        // Up to two seconds have passed: what has been revoked since is revoked.
        if let Err(refusal) = self.admissible(item, &ask, now) {
            self.refuse(item, ask, refusal, now.ms, outbox, answers);
            return;
        }
        let rows = match rows {
            Some(Some(rows)) => rows.as_slice(),
            None => &[],
            Some(None) => {
                tracing::error!(
                    lane = ask.lane,
                    "more facts about one person than a bundle may hold"
                );
                let _ = ask.reply.send(Err(Refusal::Unavailable));
                return;
            }
        };
        let grant = match self.standing(item, ask.subject, now) {
            Standing::InForce(grant) => Some(grant),
            _ => None,
        };
        let sources = awaited
            .iter()
            .map(|s| (s.dataset, self.source(s, ask.lane)))
            .collect();
        let question = Question {
            bundle_id: std::mem::take(&mut ask.bundle_id),
            now_ms: now.ms,
            lane: ask.lane,
            subject: ask.subject,
            grant,
            operator: &ask.operator,
            reason: &ask.reason,
            sources,
        };
        let mut assembler = Assembler {
            contract: &contract,
            keys: &shared.keys,
            ingest: &mut self.ingest,
            grants: &self.grants,
            asks: &self.asks,
        };
        let mut draft = assembler.assemble(item, &question, rows);
        let mut first = None;
        for audit in &mut draft.audits {
            let number = self.record(ask.lane, audit, outbox);
            first.get_or_insert(number);
        }
        draft.bundle.audit_id = audit_id(ask.lane, first.unwrap_or(0));
        // One record per need at least, and few facts a need: far below u32::MAX.
        draft.bundle.audit_count = draft.audits.len() as u32;
        answers.0.push(Answer::Bundle {
            bundle: Box::new(draft.bundle),
            received: ask.received,
            reply: ask.reply,
        });
    }

    /// What can be said about a source now. Where the store is not there yet, only what was
    /// vouched for when it last was.
    fn source(&mut self, source: &Awaited, lane: u16) -> Source {
        let caught_up = self.holds(source, lane);
        let place = (source.dataset, lane);
        if caught_up {
            self.confirmed.insert(place, source.said);
        }
        let completeness = self.confirmed.get(&place).copied().unwrap_or_default();
        Source {
            completeness,
            caught_up,
        }
    }

    /// The stored facts of everyone in `ready`; `None` for a person with too many.
    fn rows_of(&mut self, ready: &[Waiting]) -> Result<RowsByPerson, SlotError> {
        let contract = self.contract();
        let mut people: FxHashMap<u16, (FxHashSet<SubjectTag>, FxHashSet<u32>)> =
            FxHashMap::default();
        for waiting in ready {
            let (subjects, datasets) = people.entry(waiting.ask.lane).or_default();
            subjects.insert(waiting.ask.subject);
            datasets.extend(
                waiting
                    .awaited
                    .iter()
                    .map(|s| contract.datasets[s.dataset].schema_id),
            );
        }
        let mut rows = FxHashMap::default();
        for (lane, (subjects, datasets)) in people {
            let datasets: Vec<u32> = datasets.into_iter().collect();
            let wanted = Wanted {
                lane,
                subjects: subjects.iter().copied().collect(),
                datasets,
            };
            match self.shared.runtime.block_on(self.store.facts(&wanted)) {
                Ok(found) => {
                    for row in found {
                        let held = rows
                            .entry((lane, row.subject))
                            .or_insert_with(|| Some(Vec::new()));
                        if let Some(held) = held {
                            held.push(row);
                        }
                    }
                }
                // One person must not make the others wait.
                Err(StoreError::TooMany) => {
                    for subject in subjects {
                        let one = Wanted {
                            subjects: vec![subject],
                            ..wanted.clone()
                        };
                        let found = match self.shared.runtime.block_on(self.store.facts(&one)) {
                            Ok(found) => Some(found),
                            Err(StoreError::TooMany) => None,
                            Err(error) => return Err(error.into()),
                        };
                        rows.insert((lane, subject), found);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        for held in rows.values_mut() {
            if held
                .as_ref()
                .is_some_and(|rows| rows.len() > MAX_FACTS_PER_SUBJECT)
            {
                *held = None;
            }
        }
        Ok(rows)
    }
}

/// How people name an audit record of the vault.
pub fn audit_id(lane: u16, number: u64) -> String {
    format!("{}-{lane}-{number}", AuditWriter::Vault.name())
}
