//! One pass over the register: what each item comes to.

use super::{Connector, now_ms};
use crate::checkpoint::{RejectMark, Tag};
use crate::draft::Checked;
use crate::error::{ConnectorError, Stop};
use crate::limits::{MAX_KNOWN_REJECTS, MAX_POSITION_BYTES, WITHDRAW_PAGE};
use crate::report::{Observer, Progress, Report};
use crate::source::{Chunk, Event, Item, Pass, PassEnd, Reject, Source};
use crate::transaction;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// What one pass found, beyond the counts.
#[derive(Default)]
pub(super) struct PassState {
    pub(super) snapshot: bool,
    /// Rows with at least one reject, and the last of them.
    rows_rejected: u64,
    last_rejected: Option<u64>,
    /// Rejected rows of which not even the record is known.
    pub(super) unidentified: u64,
    pub(super) rejects_seen: HashSet<Tag>,
    /// Records that changed their person: published at the next commit, behind the withdrawal of
    /// what was said about the other person.
    pub(super) moved: HashMap<Tag, (Checked, i64)>,
    pub(super) position: Option<Vec<u8>>,
    /// Counts as of the start, to go back to when the pass starts again.
    pub(super) before: Report,
}

impl Connector {
    /// One pass. `Ok(false)`: stopped before its end, or nothing to read.
    pub(super) fn one_pass(
        &mut self,
        source: &mut dyn Source,
        shutdown: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<bool, Stop> {
        let kind = source
            .begin(self.numbers.head.position.as_deref())
            .map_err(ConnectorError::Source)?;
        if kind == Pass::Unchanged {
            return Ok(false);
        }
        let before = std::mem::take(&mut self.pass.before);
        self.pass = PassState {
            snapshot: kind == Pass::Snapshot,
            before,
            ..PassState::default()
        };
        self.report.rejected.clear();
        self.report.held = 0;
        self.rejects.begin(kind == Pass::Changes);
        if self.pass.snapshot {
            self.known.begin_snapshot();
        }
        let mut chunk = Chunk::default();
        loop {
            chunk.items.clear();
            let more = source.read(&mut chunk).map_err(ConnectorError::Source)?;
            for item in chunk.items.drain(..) {
                self.take(item)?;
            }
            if self.pending.is_old() {
                self.flush()?;
            }
            observer.progress(&Progress {
                read: source.progress(),
                events: self.report.events,
                published: self.report.published(),
                rejected: self.report.rejects(),
            });
            if !more {
                break;
            }
            if shutdown.load(Ordering::Relaxed) {
                self.flush()?;
                self.rejects.flush();
                return Ok(false);
            }
        }
        let end = source.end().map_err(ConnectorError::Source)?;
        self.finish(&end)?;
        Ok(true)
    }

    fn finish(&mut self, end: &PassEnd) -> Result<(), Stop> {
        self.flush_moved()?;
        if self.pass.snapshot {
            self.withdraw_missing(end)?;
            if end.complete {
                let gone: Vec<Tag> = self
                    .known_rejects
                    .keys()
                    .filter(|tag| !self.pass.rejects_seen.contains(*tag))
                    .copied()
                    .collect();
                for tag in gone {
                    self.known_rejects.remove(&tag);
                    transaction::forget_reject(&mut self.pending, &self.identity, tag);
                    if self.pending.is_full() {
                        self.flush()?;
                    }
                }
            }
        }
        if let Some(position) = self.pass.position.take() {
            self.numbers.head.position = Some(position);
            self.pending.touch();
        }
        if end.complete {
            // Kafka keeps what was said before; the register can't become less complete.
            self.numbers.head.complete_to_ms =
                self.numbers.head.complete_to_ms.max(end.complete_to_ms);
            self.numbers.head.rejected = self.pass.rows_rejected;
        }
        self.pending.touch();
        self.flush()?;
        self.rejects.end()?;
        self.report.passes += 1;
        Ok(())
    }

    fn take(&mut self, item: Item) -> Result<(), Stop> {
        match item {
            Item::Skipped => self.report.skipped += 1,
            Item::Reject(reject) => self.reject(&reject)?,
            Item::Event(event) => self.event(&event)?,
            Item::Reached(position) => {
                if position.len() > MAX_POSITION_BYTES {
                    return Err(ConnectorError::PositionTooLong.into());
                }
                self.pass.position = Some(position);
            }
        }
        if self.pending.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Stop> {
        self.report.events += 1;
        let checked = match self.drafter.check(event) {
            Ok(checked) => checked,
            Err(unfit) => return self.reject(&own_reject(event, unfit.field, unfit.code, None)),
        };
        if self.producer.is_none() {
            self.count_filled(event);
        }
        let tag = checked.record_tag;
        if self.pass.moved.contains_key(&tag) {
            // The record comes again before its move was published: order must hold.
            self.flush_moved()?;
        }
        let hash = self.keys.row_hash(&checked.value, event.withdrawn);
        let subject = &checked.subject_tag[..4];
        let Some(entry) = self.known.get(&tag).copied() else {
            if event.withdrawn {
                // Void before anyone heard of it.
                self.report.unchanged += 1;
                return Ok(());
            }
            self.report.new += 1;
            return self.publish(checked, event.occurred_ms, false);
        };
        if entry.is(&hash) && entry.subject == subject {
            self.report.unchanged += 1;
            self.known.mark_seen(&tag);
            return Ok(());
        }
        if self.pass.snapshot && entry.seen() {
            // Two rows of one export contradict each other. The first stands: publishing both would
            // publish both again in every pass.
            let record = Some((event.dataset.clone(), checked.record));
            return self.reject(&own_reject(event, String::new(), "ROW_CONTRADICTS", record));
        }
        if event.withdrawn {
            if entry.withdrawn() {
                self.report.unchanged += 1;
                self.known.mark_seen(&tag);
                return Ok(());
            }
            self.report.withdrawn += 1;
            return self.publish(checked, event.occurred_ms, true);
        }
        self.report.changed += 1;
        if entry.subject != subject && !entry.withdrawn() {
            self.known.mark_seen(&tag);
            self.pass
                .moved
                .insert(tag, (checked, event.occurred_ms.unwrap_or_else(now_ms)));
            if self.pass.moved.len() >= WITHDRAW_PAGE {
                self.flush_moved()?;
            }
            return Ok(());
        }
        self.publish(checked, event.occurred_ms, false)
    }

    pub(super) fn publish(
        &mut self,
        checked: Checked,
        at_ms: Option<i64>,
        withdrawn: bool,
    ) -> Result<(), Stop> {
        let tag = checked.record_tag;
        let state = transaction::add(
            &mut self.pending,
            &mut self.numbers,
            &self.drafter,
            &self.keys,
            &self.identity,
            checked,
            at_ms.unwrap_or_else(now_ms),
            withdrawn,
        )?;
        // What is in memory runs ahead of what is committed; a lost transaction reads it again.
        self.known
            .put(tag, state.hash, state.subject, withdrawn, true);
        Ok(())
    }

    pub(super) fn reject(&mut self, reject: &Reject) -> Result<(), Stop> {
        *self.report.rejected.entry(reject.code).or_default() += 1;
        if self.pass.last_rejected != Some(reject.row) {
            self.pass.last_rejected = Some(reject.row);
            self.pass.rows_rejected += 1;
        }
        let now = now_ms();
        self.rejects.write(reject, now)?;
        let tag = self.reject_tag(reject);
        self.pass.rejects_seen.insert(tag);
        let settled = self.numbers.head.settled;
        let first = self.known_rejects.get(&tag).copied();
        match &reject.record {
            Some((dataset, record)) => {
                let tag = self.drafter.tag_of(dataset, record);
                self.known.mark_seen(&tag);
            }
            // A row that was as bad when every known record stood beside it is none of them.
            None if first.is_some_and(|first| first < settled) => {}
            None => self.pass.unidentified += 1,
        }
        if first.is_none() && self.known_rejects.len() < MAX_KNOWN_REJECTS {
            self.known_rejects.insert(tag, settled);
            let place = if reject.column.is_empty() {
                &reject.field
            } else {
                &reject.column
            };
            transaction::add_reject(
                &mut self.pending,
                &self.identity,
                tag,
                (reject.row, place, reject.code),
                RejectMark {
                    first_ms: now,
                    settled,
                },
            );
        }
        Ok(())
    }

    /// What the row says, not where it stands: rows move.
    fn reject_tag(&self, reject: &Reject) -> Tag {
        let row = reject.row.to_string();
        let mut parts = vec![reject.code, reject.column.as_str(), reject.field.as_str()];
        if reject.values.is_empty() {
            parts.push(&row);
        }
        parts.extend(reject.values.iter().map(|(_, value)| value.as_str()));
        self.keys.reject_tag(&parts)
    }

    fn count_filled(&mut self, event: &Event) {
        let Some(output) = self
            .drafter
            .outputs
            .iter()
            .find(|output| output.dataset.id == event.dataset)
        else {
            return;
        };
        let filled = self
            .report
            .filled
            .entry(event.dataset.clone())
            .or_insert_with(|| {
                output
                    .dataset
                    .fields
                    .iter()
                    .map(|field| (field.name.clone(), 0))
                    .collect()
            });
        for ((_, count), value) in filled.iter_mut().zip(&event.fields) {
            *count += u64::from(!matches!(value, mz_seal::Datum::Null));
        }
    }
}

/// A reject that the connector itself makes of an event.
fn own_reject(
    event: &Event,
    field: String,
    code: &'static str,
    record: Option<(String, String)>,
) -> Reject {
    Reject {
        row: event.row,
        column: String::new(),
        field,
        code,
        values: Vec::new(),
        record,
    }
}
