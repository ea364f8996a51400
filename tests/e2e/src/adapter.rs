//! The adapter's tables against the deliveries: every record in its newest version, once, and none that
//! was withdrawn; each withdrawal of the bus with its signed receipt.

use crate::audit::Log;
use crate::bus::each_record;
use crate::check::Check;
use crate::database;
use mz_bus::{BusError, BusOptions, Isolation};
use mz_contract::Contract;
use mz_journal::{Receipt, Record as _, WITHDRAWAL_HEADER, topics};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Where the adapter of one agreement writes.
#[derive(Clone, Debug)]
pub struct AdapterTables {
    pub consumer: String,
    pub purpose: String,
}

/// Person, record, epoch, counter.
type Row = (Vec<u8>, Vec<u8>, i64, i64);

impl AdapterTables {
    /// The tables of `<consumer>/<purpose>`.
    pub fn new(consumer: &str, purpose: &str) -> Self {
        Self {
            consumer: consumer.to_owned(),
            purpose: purpose.to_owned(),
        }
    }

    /// Whether this adapter reads the topic.
    pub fn reads(&self, topic: &str) -> bool {
        topic.starts_with(&self.topic_prefix())
    }

    /// `<consumer>/<purpose>`.
    pub fn agreement(&self) -> String {
        format!("{}/{}", self.consumer, self.purpose)
    }

    /// The PostgreSQL schema.
    pub fn schema(&self) -> String {
        format!("{}_{}", self.consumer, self.purpose.replace('-', "_"))
    }

    fn topic_prefix(&self) -> String {
        format!("to.{}.{}.", self.consumer, self.purpose)
    }

    /// The table of one of its topics.
    pub fn table(&self, topic: &str) -> String {
        let label = topic.strip_prefix(&self.topic_prefix()).unwrap_or(topic);
        label.replace(['.', '-'], "_")
    }

    /// Next offsets as stored with the rows; empty before the adapter has made its tables.
    pub fn positions(&self, url: &str) -> BTreeMap<(String, u16), i64> {
        let schema = self.schema();
        let there = database::number(
            url,
            &format!(
                "SELECT count(*) FROM information_schema.tables
                 WHERE table_schema = '{schema}' AND table_name = 'mz_positions'"
            ),
        );
        if there == 0 {
            return BTreeMap::new();
        }
        let query = format!("SELECT topic, lane, next_offset FROM {schema}.mz_positions");
        let rows: Vec<(String, i32, i64)> = database::with(url, async |connection| {
            sqlx::query_as(AssertSqlSafe(query))
                .fetch_all(connection)
                .await
        });
        rows.into_iter()
            .map(|(topic, lane, next)| ((topic, u16::try_from(lane).unwrap_or(u16::MAX)), next))
            .collect()
    }

    /// Every table holds, for every key of its topic, the newest version that was delivered (unless
    /// that was withdrawn since, by its register or by the bus) and nothing else; no gap, nothing
    /// refused, a receipt for every withdrawal of the bus.
    pub fn check(
        &self,
        url: &str,
        bus: &BusOptions,
        contract: &Contract,
        log: &Log,
    ) -> Result<Check, BusError> {
        let mut check = Check::new("adapter = deliveries");
        let versions: HashMap<(u16, u64), (u32, u64)> = log
            .entries
            .iter()
            .filter(|entry| entry.is_output())
            .map(|entry| ((entry.lane, entry.number), entry.version))
            .collect();
        let (mut total, mut withdrawals) = (0, 0);
        for topic in crate::audit::outputs(contract) {
            if !self.reads(&topic) {
                continue;
            }
            // Per key: version, and whether it has a value. Order holds within a lane.
            let mut newest: HashMap<Vec<u8>, ((u32, u64), bool)> = HashMap::new();
            each_record(
                bus,
                &topic,
                contract.lanes,
                Isolation::Committed,
                |record| {
                    let number = record.delivery().map(|h| (h.audit_lane, h.audit_number));
                    let Some(version) = number.and_then(|number| versions.get(&number)) else {
                        check.fault(format!("{topic}: a delivery without audit entry"));
                        return;
                    };
                    if record.header(WITHDRAWAL_HEADER).is_some() {
                        withdrawals += 1;
                        // By its place: it ends what came before it, not what comes after it. What a
                        // register took back stays known as that.
                        let ends = newest
                            .get(&record.key)
                            .is_some_and(|(held, value)| *value && held <= version);
                        if ends {
                            newest.remove(&record.key);
                        }
                        return;
                    }
                    let now = (*version, record.value.is_some());
                    let held = newest.entry(record.key).or_insert(now);
                    if now.0 >= held.0 {
                        *held = now;
                    }
                },
            )?;
            let expected: HashSet<Row> = newest
                .into_iter()
                .filter(|(_, (_, value))| *value)
                .map(|(key, (version, _))| {
                    let (person, record) = key.split_at(key.len().min(16));
                    (
                        person.to_vec(),
                        record.to_vec(),
                        i64::from(version.0),
                        i64::try_from(version.1).unwrap_or(i64::MAX),
                    )
                })
                .collect();
            let table = format!("{}.{}", self.schema(), self.table(&topic));
            let query = format!("SELECT mz_person, mz_record, mz_epoch, mz_counter FROM {table}");
            let rows: Vec<Row> = database::with(url, async |connection| {
                sqlx::query_as(AssertSqlSafe(query))
                    .fetch_all(connection)
                    .await
            });
            total += rows.len();
            let count = rows.len();
            let held: HashSet<Row> = rows.into_iter().collect();
            check.equal(&format!("{table}: rows, each once"), count, held.len());
            let lost = expected.difference(&held).count();
            let strange = held.difference(&expected).count();
            if lost + strange > 0 {
                check.fault(format!(
                    "{table}: {lost} lost or old, {strange} not delivered so"
                ));
            }
        }
        for table in ["mz_rejects", "mz_sequence_faults"] {
            let query = format!("SELECT count(*) FROM {}.{table}", self.schema());
            check.equal(table, database::number(url, &query), 0);
        }
        check.equal(
            "receipts of withdrawals",
            self.receipts(bus, contract)?,
            withdrawals,
        );
        check.figure = format!("{total} rows, {withdrawals} withdrawals");
        Ok(check)
    }

    /// Withdrawals, by topic and order, that this adapter has signed for.
    fn receipts(&self, bus: &BusOptions, contract: &Contract) -> Result<usize, BusError> {
        let mut signed: HashSet<(String, [u8; 16])> = HashSet::new();
        each_record(
            bus,
            topics::RECEIPTS,
            contract.lanes,
            Isolation::Committed,
            |record| {
                if let Some(Ok(receipt)) = record.value.as_deref().map(Receipt::decode)
                    && self.reads(&receipt.topic)
                {
                    signed.insert((receipt.topic, receipt.order.0));
                }
            },
        )?;
        Ok(signed.len())
    }
}
