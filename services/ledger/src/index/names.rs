//! Numbers in rows to names in answers.

use mz_journal::{AUDIT_CAUSES, AUDIT_KINDS, AUDIT_WRITERS, AuditCause, AuditKind};

/// A number that no program wrote: `check` names the row.
const UNKNOWN: &str = "unknown";

pub(super) fn kind(number: i16) -> &'static str {
    named(&AUDIT_KINDS, number).map_or(UNKNOWN, AuditKind::name)
}

pub(super) fn cause(number: i16) -> &'static str {
    named(&AUDIT_CAUSES, number).map_or(UNKNOWN, AuditCause::name)
}

pub(super) fn writer(number: i16) -> &'static str {
    named(&AUDIT_WRITERS, number).map_or(UNKNOWN, mz_journal::AuditWriter::name)
}

fn named<T: Copy>(all: &[T], number: i16) -> Option<T> {
    all.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_journal() {
        for (at, kind) in AUDIT_KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
        for (at, cause) in AUDIT_CAUSES.iter().enumerate() {
            assert_eq!(*cause as usize, at);
        }
    }
}
