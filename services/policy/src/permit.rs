//! What may be delivered, and the only way to make a delivery. A [`Permit`] is made by
//! [`crate::decide`] alone and holds the section and the event that it was given for: nothing
//! else can be projected with it.

use mz_contract::{Answer, EvalError, Section, Value};
use mz_journal::GrantId;
use mz_seal::{FieldSet, Verified, frame_into};

use crate::decide::Now;

/// The right to deliver one event under one section, now.
#[derive(Debug)]
pub struct Permit<'e, 'a> {
    section: &'e Section,
    event: &'e Verified<'a>,
    grant: Option<GrantId>,
    now: Now,
}

impl<'e, 'a> Permit<'e, 'a> {
    pub(crate) fn new(
        section: &'e Section,
        event: &'e Verified<'a>,
        grant: Option<GrantId>,
        now: Now,
    ) -> Self {
        Self {
            section,
            event,
            grant,
            now,
        }
    }

    pub fn section(&self) -> &'e Section {
        self.section
    }

    pub fn event(&self) -> &'e Verified<'a> {
        self.event
    }

    /// The grant that carries it; `None` where the scope asks for none.
    pub fn grant(&self) -> Option<GrantId> {
        self.grant
    }

    /// The register no longer has the record: the delivery is a withdrawal, without a value.
    pub fn withdraws(&self) -> bool {
        self.event.meta.withdrawn
    }

    /// Appends the delivered value: framing, then the agreed fields' bytes, unchanged.
    pub fn value_into(&self, out: &mut Vec<u8>) {
        frame_into(self.section.schema_id, out);
        self.event.project(&self.section.fields, out);
    }

    /// Appends the delivery's seal. A withdrawal discloses no field; its meta, which says
    /// `withdrawn`, verifies all the same.
    pub fn seal_into(&self, out: &mut Vec<u8>) {
        if self.withdraws() {
            self.event.redact(&FieldSet::default(), false, false, out);
        } else {
            let section = self.section;
            self.event.redact(
                &section.field_set,
                section.disclose_subject,
                section.disclose_record,
                out,
            );
        }
    }

    /// The value of one of the section's derived answers for this event.
    pub fn answer(&self, answer: &Answer) -> Result<Value<'static>, EvalError> {
        answer
            .expr
            .value(self.event.datum, &self.event.spans, self.now.moment)
    }
}
