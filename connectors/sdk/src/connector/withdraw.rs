//! Facts that must be taken back: records that are gone, records that turned out to be about someone
//! else.

use super::Connector;
use crate::checkpoint::Tag;
use crate::draft::Checked;
use crate::error::Stop;
use crate::limits::{WITHDRAW_LIMIT_FLOOR, WITHDRAW_PAGE};
use crate::restore;
use crate::source::{PassEnd, Reject};
use std::collections::{HashMap, HashSet};

impl Connector {
    /// Publishes records that changed their person: first that the fact about the other person is
    /// withdrawn, then the fact about this one, so that the newest version is the right one.
    pub(super) fn flush_moved(&mut self) -> Result<(), Stop> {
        if self.pass.moved.is_empty() {
            return Ok(());
        }
        let moved = std::mem::take(&mut self.pass.moved);
        let tags: HashSet<Tag> = moved.keys().copied().collect();
        let mut former = self.former(&tags)?;
        for (tag, (checked, at_ms)) in moved {
            if let Some(former) = former.remove(&tag) {
                self.report.withdrawn += 1;
                self.publish(former, None, true)?;
            }
            self.publish(checked, Some(at_ms), false)?;
            if self.pending.is_full() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// What was last published about these records.
    fn former(&mut self, tags: &HashSet<Tag>) -> Result<HashMap<Tag, Checked>, Stop> {
        // What is still pending is not in the topic yet.
        let position = self.pass.position.take();
        self.flush()?;
        self.pass.position = position;
        let states = restore::last_values(
            &self.bus,
            &self.identity.department,
            &self.identity.stream,
            tags,
        )?;
        let mut former = HashMap::with_capacity(states.len());
        for (tag, state) in states {
            let opened = state.last.and_then(|closed| self.keys.open(&tag, &closed));
            let checked = opened.and_then(|(dataset, value)| {
                let output = self
                    .drafter
                    .outputs
                    .iter()
                    .position(|output| output.dataset.id == dataset)?;
                self.drafter.check_value(output, value).ok()
            });
            match checked {
                Some(checked) => {
                    former.insert(tag, checked);
                }
                // The department's key was changed, or the schema: the record stays as it is.
                None => tracing::warn!(
                    stream = self.identity.stream,
                    "a record's last value can't be opened"
                ),
            }
        }
        Ok(former)
    }

    /// Withdraws what the register no longer has, when that is certain.
    pub(super) fn withdraw_missing(&mut self, end: &PassEnd) -> Result<(), Stop> {
        if !self.withdraw || self.report.without_checkpoint {
            return Ok(());
        }
        let missing: Vec<Tag> = self.known.missing().copied().collect();
        let live = self.known.live();
        if missing.is_empty() {
            self.settle(end);
            return Ok(());
        }
        let count = missing.len() as u64;
        let too_many = live >= WITHDRAW_LIMIT_FLOOR
            && count * 100 > live * u64::from(self.withdraw_limit_percent);
        let doubt = if !end.complete {
            Some("WITHDRAW_INCOMPLETE")
        } else if self.pass.unidentified > 0 {
            Some("WITHDRAW_UNSURE")
        } else if too_many {
            Some("WITHDRAW_TOO_MANY")
        } else {
            None
        };
        if let Some(code) = doubt {
            self.report.held = count;
            tracing::warn!(
                stream = self.identity.stream,
                code,
                records = count,
                "nothing is withdrawn"
            );
            return self.reject(&Reject {
                row: 0,
                column: String::new(),
                field: String::new(),
                code,
                values: vec![("records".to_owned(), count.to_string())],
                record: None,
            });
        }
        for page in missing.chunks(WITHDRAW_PAGE) {
            let tags: HashSet<Tag> = page.iter().copied().collect();
            for (_, former) in self.former(&tags)? {
                self.report.withdrawn += 1;
                self.publish(former, None, true)?;
                if self.pending.is_full() {
                    self.flush()?;
                }
            }
        }
        self.settle(end);
        Ok(())
    }

    /// Every known record stood in this snapshot or was withdrawn: the rows that were rejected in it
    /// are none of them, and won't hold a withdrawal back.
    fn settle(&mut self, end: &PassEnd) {
        if end.complete {
            self.numbers.head.settled += 1;
        }
    }
}
