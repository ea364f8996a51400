//! Looks at single deliveries as the adapter would take them, without a database: the same checks,
//! then the fields as they are. For a first look and for support.

use std::sync::Arc;

use mz_bus::Record;
use mz_contract::Contract;
use mz_journal::OrderId;
use mz_seal::{Datum, Version, unframe};

use crate::check::{Checker, Outcome};
use crate::target::Target;

/// What a delivery turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Inspected {
    /// Verified: the fields in the schema's order.
    Fields {
        /// When the register changed, Unix milliseconds.
        event_ms: i64,
        fields: Vec<(String, Datum)>,
    },
    /// The record must not be used any more, for this reason.
    Withdrawn {
        reason: String,
        /// Up to this version.
        version: Version,
        /// When the register changed, or when the bus withdrew, Unix milliseconds.
        at_ms: i64,
        /// The bus's order; without one the register itself took the record back.
        order: Option<OrderId>,
    },
    /// The code of the check that failed.
    Rejected(&'static str),
}

/// Checks deliveries of one agreement.
pub struct Inspector {
    checker: Checker,
}

impl Inspector {
    /// `agreement`: `police/talent-settlement`.
    pub fn new(contract: Arc<Contract>, agreement: String) -> Self {
        Self {
            checker: Checker::new(contract, agreement, false),
        }
    }

    pub fn inspect(&mut self, target: &Target, record: &Record<'_>) -> Inspected {
        match self.checker.check(target, record).outcome {
            Outcome::Withdrawal(withdrawal) => Inspected::Withdrawn {
                reason: withdrawal.reason,
                version: withdrawal.version,
                at_ms: withdrawal.event_ms,
                order: withdrawal.order,
            },
            Outcome::Rejected(code) => Inspected::Rejected(code),
            Outcome::Row(row) => match fields(target, record) {
                Some(fields) => Inspected::Fields {
                    event_ms: row.event_ms,
                    fields,
                },
                None => Inspected::Rejected("DATUM_MALFORMED"),
            },
        }
    }
}

fn fields(target: &Target, record: &Record<'_>) -> Option<Vec<(String, Datum)>> {
    let (schema_id, datum) = unframe(record.value?).ok()?;
    let layout = &target
        .variants
        .iter()
        .find(|variant| variant.schema_id == schema_id)?
        .layout;
    let names = layout.fields().iter().map(|field| field.name.clone());
    Some(names.zip(layout.decode_record(datum).ok()?).collect())
}
