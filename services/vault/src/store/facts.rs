//! Facts and source positions: what is stored together, and read back.

use mz_journal::SubjectTag;
use mz_keys::DataKey;
use rustc_hash::FxHashMap;
use sqlx::postgres::PgRow;
use sqlx::{Connection, Row};

use super::StoreError;
use super::fence::{LaneStore, begin, lane_of};
use super::keyring::{Keys, Person};
use crate::cipher::{self, Binding};
use crate::limits::{MAX_FACTS_PER_READ, SEAL_PLAIN_ROWS};

/// One verified version of one record, as its department sealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub lane: u16,
    pub subject: SubjectTag,
    /// Source schema id of the dataset.
    pub dataset: u32,
    /// The bus's own tag of the record.
    pub record: [u8; 16],
    pub stream: String,
    pub epoch: u32,
    pub counter: u64,
    pub source_offset: i64,
    pub ce_time_ms: i64,
    /// The register cancelled the record; the value carries its last fields.
    pub withdrawn: bool,
    /// Kafka value as received: framing and Avro datum.
    pub value: Vec<u8>,
    /// `mz-seal` header as received.
    pub seal: Vec<u8>,
}

/// A stored fact. Nothing in it is trusted: who uses it verifies the seal again. A row that doesn't
/// open has an empty value and an empty seal, which verify as little: one damaged row must not hold
/// up the others.
pub type FactRow = Fact;

/// Which facts to read: of these people, of these datasets.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub lane: u16,
    pub subjects: Vec<SubjectTag>,
    pub datasets: Vec<u32>,
}

type Key = (u16, SubjectTag, u32, [u8; 16]);

impl LaneStore {
    /// Stores `facts` and moves `positions` (lane, topic, next offset), all or nothing.
    ///
    /// Per record the highest (epoch, counter) of its stream wins, whatever order they come in;
    /// a record belongs to the stream that brought it first. Positions never move back. What was
    /// erased with its person does not come back, however often it is read.
    pub async fn store(
        &mut self,
        facts: Vec<Fact>,
        positions: &[(u16, String, i64)],
    ) -> Result<(), StoreError> {
        let facts = newest(facts);
        let places: Vec<(Person, u32, i64)> = facts
            .iter()
            .map(|f| ((f.lane, f.subject), f.dataset, f.source_offset))
            .collect();
        let mut tx = begin(&mut self.connection, &self.tokens).await?;
        let keys = match self.plain {
            true => Keys::default(),
            false => self.keyring.for_writing(&mut tx, &places).await?,
        };
        let columns = Columns::of(facts, &keys, self.plain)?;
        if !columns.lanes.is_empty() {
            sqlx::query(
                "INSERT INTO fact AS held
                   (lane, subject, dataset, record, stream, epoch, counter, source_offset,
                    ce_time_ms, withdrawn, cipher, body)
                 SELECT * FROM unnest($1::integer[], $2::bytea[], $3::integer[], $4::bytea[],
                    $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                    $10::boolean[], $11::smallint[], $12::bytea[])
                 ON CONFLICT (lane, subject, dataset, record) DO UPDATE SET
                    epoch = excluded.epoch, counter = excluded.counter,
                    source_offset = excluded.source_offset, ce_time_ms = excluded.ce_time_ms,
                    withdrawn = excluded.withdrawn, cipher = excluded.cipher, body = excluded.body
                 WHERE held.stream = excluded.stream
                   AND (excluded.epoch, excluded.counter) > (held.epoch, held.counter)",
            )
            .bind(columns.lanes)
            .bind(columns.subjects)
            .bind(columns.datasets)
            .bind(columns.records)
            .bind(columns.streams)
            .bind(columns.epochs)
            .bind(columns.counters)
            .bind(columns.offsets)
            .bind(columns.times)
            .bind(columns.withdrawn)
            .bind(columns.ciphers)
            .bind(columns.bodies)
            .execute(&mut *tx)
            .await?;
        }
        if !positions.is_empty() {
            let lanes: Vec<i32> = positions.iter().map(|p| i32::from(p.0)).collect();
            let topics: Vec<&str> = positions.iter().map(|p| p.1.as_str()).collect();
            let offsets: Vec<i64> = positions.iter().map(|p| p.2).collect();
            sqlx::query(
                "INSERT INTO source_position AS held (lane, topic, next_offset)
                 SELECT * FROM unnest($1::integer[], $2::text[], $3::bigint[])
                 ON CONFLICT (lane, topic) DO UPDATE SET next_offset = excluded.next_offset
                 WHERE excluded.next_offset > held.next_offset",
            )
            .bind(lanes)
            .bind(topics)
            .bind(offsets)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        self.keyring.stored(keys);
        Ok(())
    }

    /// (lane, topic) → next offset, for the given lanes.
    pub async fn positions(
        &mut self,
        lanes: &[u16],
    ) -> Result<FxHashMap<(u16, String), i64>, StoreError> {
        let lanes: Vec<i32> = lanes.iter().copied().map(i32::from).collect();
        let rows = sqlx::query(
            "SELECT lane, topic, next_offset FROM source_position WHERE lane = ANY($1)",
        )
        .bind(lanes)
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                let lane = lane_of(row.try_get("lane")?)?;
                Ok(((lane, row.try_get("topic")?), row.try_get("next_offset")?))
            })
            .collect()
    }

    /// The facts of some people, ordered by person, dataset and record.
    ///
    /// Withdrawn ones are included: their last version is what the source says now.
    pub async fn facts(&mut self, wanted: &Wanted) -> Result<Vec<FactRow>, StoreError> {
        let subjects: Vec<&[u8]> = wanted.subjects.iter().map(|s| s.0.as_slice()).collect();
        let datasets: Vec<i32> = wanted
            .datasets
            .iter()
            .map(|&id| schema_id(id))
            .collect::<Result<_, _>>()?;
        let rows = sqlx::query(
            "SELECT lane, subject, dataset, record, stream, epoch, counter, source_offset,
                    ce_time_ms, withdrawn, cipher, body
               FROM fact
              WHERE lane = $1 AND subject = ANY($2) AND dataset = ANY($3)
              ORDER BY subject, dataset, record
              LIMIT $4",
        )
        .bind(i32::from(wanted.lane))
        .bind(subjects)
        .bind(datasets)
        .bind(MAX_FACTS_PER_READ + 1)
        .fetch_all(&mut self.connection)
        .await?;
        // A cut answer would read as "no such fact".
        if i64::try_from(rows.len()).is_ok_and(|n| n > MAX_FACTS_PER_READ) {
            return Err(StoreError::TooMany);
        }
        let people: Vec<Person> = rows.iter().map(person).collect::<Result<_, _>>()?;
        let keys = self.keyring.find(&mut self.connection, people).await?;
        let facts = rows.iter().map(|row| {
            let known = keys.get(&person(row)?);
            fact(row, known.map(|known| &known.key))
        });
        facts.collect()
    }

    /// Seals some rows that are still plain; says whether more may be left.
    pub async fn seal_plain(&mut self) -> Result<bool, StoreError> {
        if !self.plain_left || self.plain {
            return Ok(false);
        }
        let lanes: Vec<i32> = self.tokens.keys().copied().map(i32::from).collect();
        let mut tx = begin(&mut self.connection, &self.tokens).await?;
        let rows = sqlx::query(
            "SELECT lane, subject, dataset, record, stream, epoch, counter, source_offset,
                    ce_time_ms, withdrawn, cipher, body
               FROM fact WHERE lane = ANY($1) AND cipher = 0
              ORDER BY lane, subject, dataset, record LIMIT $2",
        )
        .bind(lanes)
        .bind(SEAL_PLAIN_ROWS)
        .fetch_all(&mut *tx)
        .await?;
        let mut facts = Vec::with_capacity(rows.len());
        for row in &rows {
            facts.push(fact(row, None)?);
        }
        let places: Vec<(Person, u32, i64)> = facts
            .iter()
            .map(|f| ((f.lane, f.subject), f.dataset, f.source_offset))
            .collect();
        let keys = self.keyring.for_writing(&mut tx, &places).await?;
        let columns = Columns::of(facts, &keys, false)?;
        sqlx::query(
            "UPDATE fact AS held SET cipher = new.cipher, body = new.body
               FROM unnest($1::integer[], $2::bytea[], $3::integer[], $4::bytea[],
                           $5::smallint[], $6::bytea[])
                    AS new (lane, subject, dataset, record, cipher, body)
              WHERE (held.lane, held.subject, held.dataset, held.record)
                  = (new.lane, new.subject, new.dataset, new.record)",
        )
        .bind(columns.lanes)
        .bind(columns.subjects)
        .bind(columns.datasets)
        .bind(columns.records)
        .bind(columns.ciphers)
        .bind(columns.bodies)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.keyring.stored(keys);
        self.plain_left = !rows.is_empty();
        Ok(self.plain_left)
    }

    /// Stores bytes as they are from now on: to measure what encryption costs, and to make what an
    /// installation had before there were keys. Only with the feature `testing`.
    #[cfg(feature = "testing")]
    pub fn store_plain(&mut self) {
        self.plain = true;
    }

    /// Ends the connection in good order.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}

fn person(row: &PgRow) -> Result<Person, StoreError> {
    let lane = lane_of(row.try_get("lane")?)?;
    Ok((lane, SubjectTag(tag(row, "subject")?)))
}

fn fact(row: &PgRow, key: Option<&DataKey>) -> Result<FactRow, StoreError> {
    let (lane, subject) = person(row)?;
    let record = tag(row, "record")?;
    let dataset = u32::try_from(row.try_get::<i32, _>("dataset")?)
        .map_err(|_| StoreError::Damaged("dataset"))?;
    let source_offset = row.try_get("source_offset")?;
    let binding = Binding {
        subject,
        dataset,
        record: &record,
    };
    let opened = cipher::open(row.try_get("cipher")?, key, binding, row.try_get("body")?);
    let (value, seal) = match opened {
        Ok(body) => split(&body)?,
        Err(fault) => {
            tracing::error!(dataset, lane, source_offset, error = %fault, "stored fact does not open");
            Default::default()
        }
    };
    Ok(Fact {
        lane,
        subject,
        dataset,
        record,
        stream: row.try_get("stream")?,
        epoch: u32::try_from(row.try_get::<i64, _>("epoch")?)
            .map_err(|_| StoreError::Damaged("epoch"))?,
        counter: u64::try_from(row.try_get::<i64, _>("counter")?)
            .map_err(|_| StoreError::Damaged("counter"))?,
        source_offset,
        ce_time_ms: row.try_get("ce_time_ms")?,
        withdrawn: row.try_get("withdrawn")?,
        value,
        seal,
    })
}

/// The newest version per record: one statement can't touch a row twice.
fn newest(facts: Vec<Fact>) -> Vec<Fact> {
    let mut latest: FxHashMap<Key, Fact> = FxHashMap::default();
    for fact in facts {
        let key = (fact.lane, fact.subject, fact.dataset, fact.record);
        match latest.get_mut(&key) {
            None => {
                latest.insert(key, fact);
            }
            Some(held) => {
                let newer = (fact.epoch, fact.counter) > (held.epoch, held.counter);
                if newer && fact.stream == held.stream {
                    *held = fact;
                }
            }
        }
    }
    let mut facts: Vec<Fact> = latest.into_values().collect();
    // Row locks are taken in one order, whoever writes.
    facts.sort_unstable_by_key(|f| (f.lane, f.subject, f.dataset, f.record));
    facts
}

#[derive(Default)]
struct Columns {
    lanes: Vec<i32>,
    subjects: Vec<Vec<u8>>,
    datasets: Vec<i32>,
    records: Vec<Vec<u8>>,
    streams: Vec<String>,
    epochs: Vec<i64>,
    counters: Vec<i64>,
    offsets: Vec<i64>,
    times: Vec<i64>,
    withdrawn: Vec<bool>,
    ciphers: Vec<i16>,
    bodies: Vec<Vec<u8>>,
}

impl Columns {
    fn of(facts: Vec<Fact>, keys: &Keys, plain: bool) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for fact in facts {
            let known = keys.known.get(&(fact.lane, fact.subject));
            // Erased with its person: whoever has no key has nothing else left either.
            if !plain && known.is_none_or(|known| known.is_erased(fact.dataset, fact.source_offset))
            {
                continue;
            }
            let binding = Binding {
                subject: fact.subject,
                dataset: fact.dataset,
                record: &fact.record,
            };
            let body = join(&fact.value, &fact.seal)?;
            let (id, body) = match known {
                Some(known) => (
                    cipher::SUBJECT_KEY,
                    cipher::close(&known.key, binding, &body)?,
                ),
                None => (cipher::PLAIN, body),
            };
            columns.bodies.push(body);
            columns.ciphers.push(id);
            columns.lanes.push(i32::from(fact.lane));
            columns.subjects.push(fact.subject.0.to_vec());
            columns.datasets.push(schema_id(fact.dataset)?);
            columns.records.push(fact.record.to_vec());
            columns.streams.push(fact.stream);
            columns.epochs.push(i64::from(fact.epoch));
            // Versions are counted from 1 by one stream; 2^63 of them won't come.
            columns
                .counters
                .push(i64::try_from(fact.counter).map_err(|_| StoreError::Damaged("counter"))?);
            columns.offsets.push(fact.source_offset);
            columns.times.push(fact.ce_time_ms);
            columns.withdrawn.push(fact.withdrawn);
        }
        Ok(columns)
    }
}

/// u32 BE length of the value ‖ value ‖ seal.
fn join(value: &[u8], seal: &[u8]) -> Result<Vec<u8>, StoreError> {
    let length = u32::try_from(value.len()).map_err(|_| StoreError::Damaged("value length"))?;
    let mut body = Vec::with_capacity(4 + value.len() + seal.len());
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(value);
    body.extend_from_slice(seal);
    Ok(body)
}

fn split(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    const DAMAGED: StoreError = StoreError::Damaged("body");
    let (length, rest) = body.split_first_chunk::<4>().ok_or(DAMAGED)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| DAMAGED)?;
    let (value, seal) = rest.split_at_checked(length).ok_or(DAMAGED)?;
    Ok((value.to_vec(), seal.to_vec()))
}

pub(super) fn schema_id(id: u32) -> Result<i32, StoreError> {
    i32::try_from(id).map_err(|_| StoreError::Damaged("schema id"))
}

pub(super) fn tag(row: &PgRow, column: &'static str) -> Result<[u8; 16], StoreError> {
    row.try_get::<&[u8], _>(column)?
        .try_into()
        .map_err(|_| StoreError::Damaged(column))
}
