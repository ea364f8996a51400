//! Updates that a row filter left out although an earlier version of their record may have been
//! delivered. One lane's, until consent, which knows who holds what, orders a withdrawal or says that
//! there is none; or until something newer of the record is delivered.
//!
//! An event does not say whether it is its record's first: the counter in its meta numbers the events of
//! its stream, not the versions of a record. So every update that the filter leaves out is reported,
//! unless nothing was ever delivered on that topic in this lane.

use std::collections::BTreeMap;

use mz_journal::{AuditKind, RecordTag, SubjectTag, Superseded};
use mz_seal::Version;
use rustc_hash::FxHashMap;

use crate::lane::Lane;
use crate::outbox::{EventRef, Halt, Writer, about};
use crate::plan::{Plan, Reading};
use crate::telemetry;

/// Reports of one lane that wait for consent's answer, at most. The state record names each of them
/// (about 100 bytes), so this bounds it; beyond it the oldest is forgotten, with an alarm.
pub(crate) const MAX_SUPERSEDED: usize = 512;

/// Output and record.
type Key = (usize, RecordTag);

#[derive(Clone, Copy, Debug)]
struct Report {
    age: u64,
    subject: SubjectTag,
    version: Version,
}

/// All of one lane.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    by_record: FxHashMap<Key, Report>,
    /// Oldest first.
    by_age: BTreeMap<u64, Key>,
    next_age: u64,
    /// Of topics that this contract doesn't know.
    foreign: Vec<Superseded>,
}

impl Reports {
    pub(crate) fn restore(reports: Vec<Superseded>, plan: &Plan) -> Self {
        let mut all = Self::default();
        for report in reports {
            match plan.output_ix(&report.out_topic) {
                Some(output) => {
                    let version = Version {
                        epoch: report.epoch,
                        counter: report.counter,
                    };
                    all.put((output, report.record), report.subject, version);
                }
                None => all.foreign.push(report),
            }
        }
        all
    }

    /// As the lane's state records them: what is unknown, then oldest first.
    pub(crate) fn record(&self, plan: &Plan) -> Vec<Superseded> {
        let mut all = self.foreign.clone();
        all.extend(self.by_age.values().filter_map(|key| {
            let report = self.by_record.get(key)?;
            Some(Superseded {
                out_topic: plan.outputs[key.0].topic.clone(),
                subject: report.subject,
                record: key.1,
                epoch: report.version.epoch,
                counter: report.version.counter,
            })
        }));
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_record.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_record.len()
    }

    /// Reported, and nothing newer was delivered since: another report would say nothing new.
    pub(crate) fn contains(&self, output: usize, record: RecordTag) -> bool {
        self.by_record.contains_key(&(output, record))
    }

    /// Remembers a report. Answers whether the oldest had to be forgotten for it.
    pub(crate) fn add(
        &mut self,
        output: usize,
        record: RecordTag,
        subject: SubjectTag,
        version: Version,
    ) -> bool {
        let full = self.by_record.len() >= MAX_SUPERSEDED && !self.contains(output, record);
        if full && let Some((_, oldest)) = self.by_age.pop_first() {
            self.by_record.remove(&oldest);
        }
        self.put((output, record), subject, version);
        full
    }

    fn put(&mut self, key: Key, subject: SubjectTag, version: Version) {
        let age = self.next_age;
        self.next_age += 1;
        let report = Report {
            age,
            subject,
            version,
        };
        if let Some(before) = self.by_record.insert(key, report) {
            self.by_age.remove(&before.age);
        }
        self.by_age.insert(age, key);
    }

    /// A version of the record was delivered: a report of an older one is void.
    pub(crate) fn delivered(&mut self, output: usize, record: RecordTag, version: Version) {
        self.take(output, record, |reported| reported < version);
    }

    /// An order about the record speaks of `version`. Answers whether its report was still there.
    pub(crate) fn answered(&mut self, output: usize, record: RecordTag, version: Version) -> bool {
        self.take(output, record, |reported| reported <= version)
    }

    /// The record was called back: nobody holds anything older any more.
    pub(crate) fn withdrawn(&mut self, output: usize, record: RecordTag) {
        self.take(output, record, |_| true);
    }

    fn take(
        &mut self,
        output: usize,
        record: RecordTag,
        void: impl FnOnce(Version) -> bool,
    ) -> bool {
        let key = (output, record);
        let Some(report) = self.by_record.get(&key).filter(|r| void(r.version)) else {
            return false;
        };
        self.by_age.remove(&report.age);
        self.by_record.remove(&key);
        true
    }
}

impl Writer<'_> {
    /// The row filter left the event out although it could have been delivered. If an earlier version of
    /// its record was, consent must know: what the consumer holds no longer belongs to it.
    pub(crate) fn superseded(
        &mut self,
        lane: &mut Lane,
        reading: &Reading,
        event: &EventRef<'_>,
    ) -> Result<(), Halt> {
        let output = reading.output;
        let nothing_before = lane.outputs[output].last_seq == 0;
        if nothing_before || lane.superseded.contains(output, event.record) {
            return Ok(());
        }
        let agreement = self.plan.agreement(reading.agreement);
        let mut entry = self.entry(lane, AuditKind::Superseded, event.cause);
        entry.agreement = agreement.id.as_str().into();
        entry.consumer = agreement.consumer.as_str().into();
        entry.purpose = agreement.purpose.as_str().into();
        entry.dataset = self.plan.outputs[output].label.as_str().into();
        about(&mut entry, event);
        self.audit(lane, &mut entry)?;
        let (person, version) = (event.person.tag, event.meta.version());
        if lane.superseded.add(output, event.record, person, version) {
            tracing::error!(
                lane = lane.lane,
                "too many superseded records wait for consent: the oldest is forgotten"
            );
            telemetry::superseded_forgotten(lane.lane);
        }
        self.out.counts.superseded += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u64) -> Version {
        Version { epoch: 1, counter }
    }

    fn tag(number: u32) -> RecordTag {
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&number.to_be_bytes());
        RecordTag(tag)
    }

    #[test]
    fn a_report_ends_with_something_newer_or_an_answer() {
        let person = SubjectTag([7; 16]);
        let mut all = Reports::default();
        all.add(0, tag(1), person, version(5));
        all.delivered(0, tag(1), version(4));
        all.delivered(1, tag(1), version(9));
        assert!(all.contains(0, tag(1)), "older, or on another topic");
        assert!(
            !all.answered(0, tag(1), version(4)),
            "about something before it"
        );
        assert!(all.answered(0, tag(1), version(5)));
        assert!(!all.answered(0, tag(1), version(5)), "once");
        all.add(0, tag(1), person, version(5));
        all.delivered(0, tag(1), version(6));
        assert!(all.is_empty() && all.by_age.is_empty());
        all.add(0, tag(1), person, version(7));
        all.withdrawn(0, tag(1));
        assert!(!all.answered(0, tag(1), version(7)), "nobody holds it");
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let person = SubjectTag([7; 16]);
        let mut all = Reports::default();
        for number in 0..MAX_SUPERSEDED as u32 {
            assert!(!all.add(0, tag(number), person, version(1)));
        }
        assert!(
            !all.add(0, tag(0), person, version(2)),
            "known: no more room needed"
        );
        assert!(all.add(0, tag(9_999), person, version(1)));
        assert_eq!(all.len(), MAX_SUPERSEDED);
        assert!(all.contains(0, tag(0)), "the youngest but one");
        assert!(!all.contains(0, tag(1)), "the oldest");
        assert_eq!(all.by_age.len(), MAX_SUPERSEDED);
    }
}
