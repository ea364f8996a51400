//! What a slot has done: plain counters that tests, the benchmark and the metrics read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts of one transaction, or of a slot since it started. Committed work only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Source records processed.
    pub events: u64,
    /// Records written to `to.*`, answers and withdrawals included.
    pub delivered: u64,
    /// Of these, by backfill.
    pub backfilled: u64,
    /// Denials: per event and agreement (or answer).
    pub denied: u64,
    pub out_of_scope: u64,
    pub quarantined: u64,
    /// Audit entries of all kinds.
    pub audited: u64,
    pub exposed: u64,
    /// Orders carried out; each withdraws a record and its answers.
    pub withdrawn: u64,
    /// Orders that no longer held.
    pub declined: u64,
    /// Updates that a row filter left out, reported to consent.
    pub superseded: u64,
    pub cases_opened: u64,
    pub cases_closed: u64,
    pub grants_read: u64,
    /// Numbers of streams that were found missing.
    pub gaps: u64,
    pub fetches: u64,
    pub transactions: u64,
}

macro_rules! live {
    ($($field:ident),* $(,)?) => {
        /// The same, readable while the slot runs.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($field: AtomicU64,)*
            /// All partitions read to their end and nothing in hand.
            idle: AtomicBool,
            /// Take-over done, deciding.
            running: AtomicBool,
        }

        impl Stats {
            /// Everything committed so far.
            pub fn counts(&self) -> Counts {
                Counts { $($field: self.$field.load(Ordering::Relaxed),)* }
            }

            pub(crate) fn add(&self, counts: &Counts) {
                $(self.$field.fetch_add(counts.$field, Ordering::Relaxed);)*
            }
        }

        impl std::ops::AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

live!(
    events,
    delivered,
    backfilled,
    denied,
    out_of_scope,
    quarantined,
    audited,
    exposed,
    withdrawn,
    declined,
    superseded,
    cases_opened,
    cases_closed,
    grants_read,
    gaps,
    fetches,
    transactions,
);

impl Stats {
    /// Whether the slot has read everything and committed what came of it.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Whether the slot has taken over and decides.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Release);
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }
}
