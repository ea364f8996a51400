//! What can be wrong with a record before and around its seal. Every refusal has its own code; the
//! place names a header, a field or a step, never a value.

use std::borrow::Cow;

use mz_bus::Record;
use mz_contract::Contract;
use mz_seal::{Headers, SealFault, unframe};

use crate::plan::{Plan, Source};

/// Why an event is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Key of `schemas/reasons.yaml`.
    pub code: &'static str,
    /// Where its department should look.
    pub place: Cow<'static, str>,
}

impl Refusal {
    pub(crate) const fn new(code: &'static str, place: &'static str) -> Self {
        Self {
            code,
            place: Cow::Borrowed(place),
        }
    }

    /// A fault of the seal; field faults name the field.
    pub(crate) fn seal(fault: SealFault, plan: &Plan, source: &Source) -> Self {
        let place = match fault {
            SealFault::DatumMalformed(walk) => walk
                .field
                .and_then(|field| plan.dataset(source).fields.get(usize::from(field)))
                .map_or(Cow::Borrowed("value"), |field| {
                    Cow::Owned(field.name.clone())
                }),
            SealFault::FramingInvalid | SealFault::TrailingBytes | SealFault::SchemaMismatch => {
                Cow::Borrowed("value")
            }
            SealFault::HeaderDuplicate | SealFault::HeaderMissing | SealFault::MetaContradicts => {
                Cow::Borrowed("headers")
            }
            _ => Cow::Borrowed("mz-seal"),
        };
        Self {
            code: fault.code(),
            place,
        }
    }

    /// Codes beside those of [`SealFault`], for the test that holds them against `reasons.yaml`.
    #[cfg(test)]
    pub(crate) const CODES: [&'static str; 8] = [
        "VALUE_MISSING",
        "HEADERS_UNREADABLE",
        "SCHEMA_UNKNOWN",
        "SUBJECT_INVALID",
        "RECORD_CONTRADICTS",
        "REPLAYED",
        "EPOCH_ENDED",
        "SEQUENCE_ZERO",
    ];
}

/// A record's parts, before anything about them is believed.
pub(crate) struct Envelope<'a> {
    pub datum: &'a [u8],
    pub seal: &'a [u8],
    pub headers: Headers<'a>,
}

/// Opens a record of `source`: value, headers, framing, schema id.
pub(crate) fn open<'a>(
    record: &Record<'a>,
    source: &Source,
    plan: &Plan,
) -> Result<Envelope<'a>, Refusal> {
    let value = record.value.ok_or(Refusal::new("VALUE_MISSING", "value"))?;
    let fault = |fault| Refusal::seal(fault, plan, source);
    let listed = record
        .headers()
        .map_err(|_| Refusal::new("HEADERS_UNREADABLE", "headers"))?;
    let given = listed
        .into_iter()
        .map(|(name, value)| (name, value.unwrap_or_default()));
    let headers = Headers::collect(given).map_err(fault)?;
    let (id, datum) = unframe(value).map_err(fault)?;
    check_schema(id, source, &plan.contract)?;
    Ok(Envelope {
        datum,
        seal: headers.seal().map_err(fault)?,
        headers,
    })
}

/// The value was written with the dataset's own schema.
pub(crate) fn check_schema(id: u32, source: &Source, contract: &Contract) -> Result<(), Refusal> {
    if id == contract.datasets[source.dataset].schema_id {
        Ok(())
    } else {
        Err(Refusal::new("SCHEMA_UNKNOWN", "value"))
    }
}
