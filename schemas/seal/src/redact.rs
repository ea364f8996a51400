//! Makes a delivery from a verified event: copies the kept fields, and a seal with
//! their salts and the hashes of everything else.

use crate::hash::{LEADING_LEAVES, RECORD_LEAF, SUBJECT_LEAF};
use crate::schema::MAX_FIELDS;
use crate::verify::Verified;
use crate::wire::{FORM_DELIVERY, write_head, write_text};

/// A set of top-level field indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldSet([u64; MAX_FIELDS / 64]);

impl FieldSet {
    /// Indices at or above [`MAX_FIELDS`] name no field and are left out.
    pub fn of(fields: &[u16]) -> Self {
        let mut set = Self::default();
        for field in fields {
            set.insert(*field);
        }
        set
    }

    pub fn insert(&mut self, field: u16) {
        if let Some(word) = self.0.get_mut(usize::from(field) / 64) {
            *word |= 1 << (field % 64);
        }
    }

    pub fn contains(&self, field: u16) -> bool {
        self.0
            .get(usize::from(field) / 64)
            .is_some_and(|word| word & (1 << (field % 64)) != 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Indices in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..MAX_FIELDS as u16).filter(|field| self.contains(*field))
    }
}

impl FromIterator<u16> for FieldSet {
    fn from_iter<I: IntoIterator<Item = u16>>(fields: I) -> Self {
        let mut set = Self::default();
        fields.into_iter().for_each(|field| set.insert(field));
        set
    }
}

impl Verified<'_> {
    /// Appends the `mz-seal` bytes of a delivery that keeps `kept`.
    pub fn redact(
        &self,
        kept: &FieldSet,
        disclose_subject: bool,
        disclose_record: bool,
        out: &mut Vec<u8>,
    ) {
        write_head(self.suite, FORM_DELIVERY, self.meta_bytes, out);
        let leaf_count = self.spans.len() + LEADING_LEAVES;
        out.extend_from_slice(&(leaf_count as u16).to_be_bytes());
        let disclosed = |index: usize| match index as u16 {
            SUBJECT_LEAF => disclose_subject,
            RECORD_LEAF => disclose_record,
            field => kept.contains(field - LEADING_LEAVES as u16),
        };
        let bitmap_at = out.len();
        out.resize(bitmap_at + (leaf_count - 1).div_ceil(8), 0);
        for index in 1..leaf_count {
            if disclosed(index) {
                out[bitmap_at + (index - 1) / 8] |= 0x80 >> ((index - 1) % 8);
                out.extend_from_slice(&self.scratch.salts[index - 1]);
            } else {
                out.extend_from_slice(self.scratch.leaves.leaf(index));
            }
        }
        if disclose_subject {
            write_text(self.subject, out);
        }
        if disclose_record {
            write_text(self.record, out);
        }
        out.extend_from_slice(self.batch_bytes);
    }

    /// Appends the projected datum: the kept fields' bytes, unchanged, in source order.
    /// `kept` is rising, as in the section it comes from.
    pub fn project(&self, kept: &[u16], out: &mut Vec<u8>) {
        for field in kept {
            if let Some(span) = self.spans.get(usize::from(*field)) {
                out.extend_from_slice(&self.datum[span.start as usize..span.end as usize]);
            }
        }
    }

    /// The bytes of one field.
    pub fn field(&self, field: usize) -> Option<&[u8]> {
        let span = self.spans.get(field)?;
        self.datum.get(span.start as usize..span.end as usize)
    }
}
