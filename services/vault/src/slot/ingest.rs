//! From a record on a source topic to a fact. The vault trusts nobody's word for it: it verifies
//! every seal itself, by the rules the gateway verifies by.

use std::sync::Arc;

use mz_bus::Record;
use mz_contract::{Contract, Dataset, DatasetIx, IdNumber};
use mz_seal::{Expect, Headers, SealFault, Verified, Verifier};
use rustc_hash::FxHashMap;

use crate::keys::VaultKeys;
use crate::store::Fact;

/// Why an event is not stored. The gateway quarantines it under the same code and tells the
/// department; the vault only passes it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestFault {
    #[error("a source record without a value")]
    NoValue,
    #[error("the record's headers can't be read")]
    HeadersUnreadable,
    #[error("the value's schema id is not this dataset's")]
    SchemaIdForeign,
    #[error(transparent)]
    Seal(#[from] SealFault),
    #[error("the subject is not a normalised identity number")]
    SubjectInvalid,
    #[error("the record id is not made of the record fields")]
    RecordContradicts,
    #[error("the person belongs to another lane")]
    LaneForeign,
}

impl IngestFault {
    pub fn code(self) -> &'static str {
        match self {
            Self::NoValue => "FRAMING_INVALID",
            Self::HeadersUnreadable => "HEADERS_UNREADABLE",
            Self::SchemaIdForeign => "SCHEMA_UNKNOWN",
            Self::Seal(fault) => fault.code(),
            Self::SubjectInvalid => "SUBJECT_INVALID",
            Self::RecordContradicts => "RECORD_CONTRADICTS",
            Self::LaneForeign => "LANE_WRONG",
        }
    }
}

/// Verifies events of a slot's lanes, and facts read back from the store.
pub struct Ingest {
    contract: Arc<Contract>,
    keys: Arc<VaultKeys>,
    verifier: Verifier,
    topics: FxHashMap<String, DatasetIx>,
}

impl Ingest {
    pub fn new(contract: Arc<Contract>, keys: Arc<VaultKeys>) -> Self {
        let topics = contract
            .datasets
            .iter()
            .map(|d| (d.src_topic(), d.ix))
            .collect();
        Self {
            contract,
            keys,
            verifier: Verifier::new(),
            topics,
        }
    }

    /// The dataset whose source topic this is.
    pub fn dataset_of(&self, topic: &str) -> Option<DatasetIx> {
        self.topics.get(topic).copied()
    }

    /// Checks everything about one source record; also says whose it is.
    pub fn admit(
        &mut self,
        dataset: DatasetIx,
        record: &Record<'_>,
    ) -> Result<(Fact, IdNumber), IngestFault> {
        let headers = record
            .headers()
            .map_err(|_| IngestFault::HeadersUnreadable)?;
        let headers = Headers::collect(
            headers
                .iter()
                .map(|(name, value)| (*name, value.unwrap_or_default())),
        )?;
        let seal = headers.seal()?;
        let value = record.value.ok_or(IngestFault::NoValue)?;
        // A partition is a lane: below u16::MAX by the contract's own limit.
        let lane = u16::try_from(record.partition).map_err(|_| IngestFault::LaneForeign)?;
        let contract = Arc::clone(&self.contract);
        let dataset = &contract.datasets[dataset];
        let event = self.verify(dataset, lane, value, seal)?;
        headers.check(&event.meta)?;
        let id = self.identity(dataset, lane, &event)?;
        let fact = Fact {
            lane,
            subject: self.keys.subject.tag(&id),
            dataset: dataset.schema_id,
            record: self.keys.audit.record_tag(&dataset.id, event.record).0,
            stream: event.meta.stream.to_owned(),
            epoch: event.meta.epoch,
            counter: event.meta.counter,
            source_offset: record.offset,
            ce_time_ms: event.meta.ce_time_ms,
            withdrawn: event.meta.withdrawn,
            value: value.to_vec(),
            seal: seal.to_vec(),
        };
        self.verifier.recycle(event);
        Ok((fact, id))
    }

    /// Verifies a framed value and its source seal, wherever they come from.
    pub fn verify<'a>(
        &mut self,
        dataset: &Dataset,
        lane: u16,
        value: &'a [u8],
        seal: &'a [u8],
    ) -> Result<Verified<'a>, IngestFault> {
        let (schema_id, datum) = mz_seal::unframe(value)?;
        if schema_id != dataset.schema_id {
            return Err(IngestFault::SchemaIdForeign);
        }
        let expect = Expect {
            bus: &self.contract.bus_id,
            dataset: &dataset.id,
            department: &dataset.department,
            streams: &dataset.streams,
            lane,
            layout: &dataset.layout,
            schema_digest: &dataset.schema_digest,
            subject_field: dataset.subject_field,
        };
        Ok(self
            .verifier
            .verify_source(&expect, datum, seal, &*self.contract)?)
    }

    /// Whose event it is, when it stands in that person's lane and names its record rightly.
    pub fn identity(
        &self,
        dataset: &Dataset,
        lane: u16,
        event: &Verified<'_>,
    ) -> Result<IdNumber, IngestFault> {
        let id = IdNumber::parse(event.subject).map_err(|_| IngestFault::SubjectInvalid)?;
        // A number in another spelling would be another person to whoever hashes it.
        if id.as_str() != event.subject {
            return Err(IngestFault::SubjectInvalid);
        }
        let record = dataset
            .record_of(event.datum, &event.spans)
            .map_err(|_| IngestFault::RecordContradicts)?;
        if record != event.record {
            return Err(IngestFault::RecordContradicts);
        }
        if self.keys.placement.lane(&id, self.contract.lanes) != lane {
            return Err(IngestFault::LaneForeign);
        }
        Ok(id)
    }

    pub fn recycle(&mut self, event: Verified<'_>) {
        self.verifier.recycle(event);
    }
}
