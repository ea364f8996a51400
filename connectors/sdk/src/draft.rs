//! Makes a source's event into what is sealed, or says why it can't be. Here ends what a source is
//! trusted with: the identity number, the record id and the size are checked again for every source.

use crate::error::ConnectorError;
use crate::limits::MAX_EVENT_BYTES;
use crate::source::Event;
use mz_contract::{Contract, Dataset, IdNumber};
use mz_keys::{PlacementKey, RecordKey};
use mz_seal::{Datum, MAX_ID_BYTES, Span, encode};

/// A dataset that the stream publishes.
pub(crate) struct Output {
    pub dataset: Dataset,
    pub topic: String,
}

/// The stream's datasets, and the keys that place and tag.
pub(crate) struct Drafter {
    pub outputs: Vec<Output>,
    pub lanes: u16,
    placement: PlacementKey,
    record: RecordKey,
}

/// A checked event.
pub(crate) struct Checked {
    /// Index into [`Drafter::outputs`].
    pub output: usize,
    pub lane: u16,
    pub subject: IdNumber,
    pub record: String,
    pub record_tag: [u8; 16],
    pub subject_tag: [u8; 16],
    pub value: Vec<u8>,
    pub spans: Vec<Span>,
}

/// Why an event can't be published: field and code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub field: String,
    pub code: &'static str,
}

impl Drafter {
    pub(crate) fn new(
        contract: &Contract,
        department: &str,
        stream: &str,
        datasets: &[String],
        placement: PlacementKey,
        record: RecordKey,
    ) -> Result<Self, ConnectorError> {
        let outputs = datasets
            .iter()
            .map(|id| {
                let found = contract.dataset(id).filter(|dataset| {
                    dataset.department == department && dataset.streams.iter().any(|s| s == stream)
                });
                let Some(dataset) = found else {
                    return Err(ConnectorError::NotInContract {
                        department: department.to_owned(),
                        stream: stream.to_owned(),
                        dataset: id.clone(),
                    });
                };
                if dataset.schema_id == 0 {
                    return Err(ConnectorError::NoSchemaId {
                        dataset: id.clone(),
                    });
                }
                Ok(Output {
                    topic: dataset.src_topic(),
                    dataset: dataset.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            outputs,
            lanes: contract.lanes,
            placement,
            record,
        })
    }

    pub(crate) fn check(&self, event: &Event) -> Result<Checked, Unfit> {
        let unfit = |field: &str, code| Unfit {
            field: field.to_owned(),
            code,
        };
        let Some(output) = self
            .outputs
            .iter()
            .position(|output| output.dataset.id == event.dataset)
        else {
            return Err(unfit("", "DATASET_NOT_OF_STREAM"));
        };
        let dataset = &self.outputs[output].dataset;
        let value = encode(&dataset.layout, &event.fields).map_err(|fault| match fault {
            mz_seal::EncodeError::TooLarge => unfit("", "EVENT_TOO_LARGE"),
            mz_seal::EncodeError::Mismatch { field, .. }
            | mz_seal::EncodeError::Value { field, .. } => Unfit {
                field,
                code: "FIELD_TYPE",
            },
            mz_seal::EncodeError::FieldCount { .. } => unfit("", "FIELD_TYPE"),
        })?;
        self.check_value(output, value)
    }

    /// The same for a value that is already encoded (from the checkpoint).
    pub(crate) fn check_value(&self, output: usize, value: Vec<u8>) -> Result<Checked, Unfit> {
        let unfit = |field: &str, code| Unfit {
            field: field.to_owned(),
            code,
        };
        let dataset = &self.outputs[output].dataset;
        if value.len() > MAX_EVENT_BYTES {
            return Err(unfit("", "EVENT_TOO_LARGE"));
        }
        let mut spans = Vec::new();
        dataset
            .layout
            .spans(&value, &mut spans)
            .map_err(|_| unfit("", "FIELD_TYPE"))?;
        let subject_name = &dataset.fields[dataset.subject_field].name;
        let text = dataset
            .layout
            .read_string(dataset.subject_field, &value, &spans)
            .map_err(|_| unfit(subject_name, "ID_EMPTY"))?;
        let subject = IdNumber::parse(text).map_err(|fault| unfit(subject_name, fault.code()))?;
        if subject.as_str() != text {
            // The leaf and the lane are made from the normal form; another spelling would not verify.
            return Err(unfit(subject_name, "ID_NOT_NORMAL"));
        }
        let record = dataset
            .record_of(&value, &spans)
            .map_err(|_| unfit("", "RECORD_EMPTY"))?;
        if record.len() > MAX_ID_BYTES {
            return Err(unfit("", "RECORD_TOO_LONG"));
        }
        Ok(Checked {
            output,
            lane: self.placement.lane(&subject, self.lanes),
            record_tag: self.record.record_tag(&dataset.id, &record),
            subject_tag: self.record.subject_tag(&subject),
            subject,
            record,
            value,
            spans,
        })
    }

    /// The tag of a record that a source named in a reject.
    pub(crate) fn tag_of(&self, dataset: &str, record: &str) -> [u8; 16] {
        self.record.record_tag(dataset, record)
    }
}

/// The id of a record from its record fields, in the dataset's order: as [`Dataset::record_of`] makes
/// it from the encoded value. `None` when one of them is missing or empty.
pub fn record_text<'d>(fields: impl Iterator<Item = Option<&'d Datum>>) -> Option<String> {
    let mut record = String::new();
    for (position, field) in fields.enumerate() {
        let text = match field? {
            Datum::Null => return None,
            other => other.to_text(),
        };
        if text.is_empty() {
            return None;
        }
        if position > 0 {
            record.push('|');
        }
        for character in text.chars() {
            match character {
                '%' => record.push_str("%25"),
                '|' => record.push_str("%7C"),
                other => record.push(other),
            }
        }
    }
    Some(record)
}
