//! Who read what about one person.

use mz_journal::{AuditKind, SubjectTag, bitmap_fields};
use mz_seal::timestamp_text;
use sqlx::AssertSqlSafe;

use super::row::{AT_MS, COLUMNS, Row};
use super::{Entry, Index, IndexError, Page, PageRequest, Period, cursor, names, time};

const LABELLED: i16 = AuditKind::SubjectBound as i16;

/// A row's place in the order of a person's entries: microseconds, log, leaf.
pub(super) type Place = (i64, i32, i64);

impl Index {
    /// Everything that is indexed about a person, oldest first, or what one consumer did.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn who_read(
        &self,
        subject: &SubjectTag,
        period: Period,
        consumer: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Entry>, IndexError> {
        const QUERY: &str = "who";
        let after = cursor::start(QUERY, page)?;
        let consumer = match consumer {
            None => None,
            Some(consumer) => match self.words.id(&self.pool, consumer).await? {
                Some(id) => Some(id),
                None => {
                    return Ok(Page {
                        items: Vec::new(),
                        cursor: None,
                    });
                }
            },
        };
        let rows = self
            .of_person(
                subject,
                period,
                after,
                page.limit(),
                // That somebody was labelled is nothing that was done with their data.
                "($8 IS NULL OR consumer = $8) AND kind <> $9",
                |query| query.bind(consumer).bind(LABELLED),
            )
            .await?;
        self.words
            .load(&self.pool, rows.iter().flat_map(word_ids))
            .await?;
        let origins = self
            .origins(rows.iter().map(|row| row.log).collect())
            .await?;
        Ok(cursor::page(QUERY, page.limit(), rows, place, |row| {
            let origin = origins.get(&row.log).cloned().unwrap_or_default();
            self.entry(&row, origin)
        }))
    }

    /// Rows about a person that meet a condition on `$8`, in order, one more than `limit`.
    pub(super) async fn of_person(
        &self,
        subject: &SubjectTag,
        period: Period,
        after: Option<Place>,
        limit: usize,
        condition: &'static str,
        bind: impl for<'q> FnOnce(Query<'q>) -> Query<'q>,
    ) -> Result<Vec<Row<'static>>, IndexError> {
        // Before every row of the period's first moment.
        let (at_us, log, leaf) = after.unwrap_or((i64::MIN, i32::MIN, i64::MIN));
        let at_us = at_us.clamp(AT_MS.start() * 1_000, AT_MS.end() * 1_000);
        let columns = COLUMNS.join(", ");
        // The second condition on `at` picks the partitions, which a comparison of rows doesn't.
        let sql = format!(
            "SELECT {columns} FROM entry
             WHERE subject = $1 AND at >= $2 AND at < $3
               AND (at, log, leaf) > ($4, $5, $6) AND at >= $4 AND {condition}
             ORDER BY at, log, leaf LIMIT $7"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(&subject.0[..])
            .bind(time(period.from_ms))
            .bind(time(period.to_ms))
            .bind(chrono::DateTime::from_timestamp_micros(at_us).unwrap_or_default())
            .bind(log)
            .bind(leaf)
            .bind(cursor::fetch(limit));
        let rows = bind(query).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(Row::get).collect::<Result<_, _>>()?)
    }

    fn entry(&self, row: &Row<'_>, log: String) -> Entry {
        let text =
            |text: &Option<super::row::Text<'_>>| text.as_deref().unwrap_or_default().to_owned();
        let rules = self.words.text(row.rule);
        let writer = names::writer(row.writer);
        Entry {
            log,
            leaf: row.leaf,
            audit_id: format!("{writer}-{}-{}", row.lane, row.number.cast_unsigned()),
            at: timestamp_text(row.at.0.div_euclid(1_000)),
            kind: names::kind(row.kind).to_owned(),
            cause: names::cause(row.cause).to_owned(),
            consumer: self.words.text(row.consumer),
            agreement: self.words.text(row.agreement),
            purpose: self.words.text(row.purpose),
            dataset: self.words.text(row.dataset),
            fields: bitmap_fields(row.fields.as_deref().unwrap_or_default()),
            rules: rules
                .split([',', ' '])
                .filter(|code| !code.is_empty())
                .map(str::to_owned)
                .collect(),
            operator: text(&row.operator),
            reason: text(&row.reason),
            grant: row.grant_id.as_deref().map(hex),
            denied: row
                .denied
                .and_then(|denied| u32::try_from(denied).ok())
                .unwrap_or_default(),
            version: row.version_counter.map(|counter| {
                (
                    row.version_epoch.unwrap_or_default().cast_unsigned(),
                    counter.cast_unsigned(),
                )
            }),
        }
    }
}

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

pub(super) fn place(row: &Row<'_>) -> Place {
    (row.at.0, row.log, row.leaf)
}

/// Numbers of the row's words.
pub(super) fn word_ids(row: &Row<'_>) -> impl Iterator<Item = i32> + use<> {
    [
        row.agreement,
        row.consumer,
        row.purpose,
        row.dataset,
        row.rule,
    ]
    .into_iter()
    .flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
