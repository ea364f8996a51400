//! What departments used and were denied, from the days' roll-ups.

use chrono::NaiveDate;
use mz_journal::AuditKind;
use sqlx::AssertSqlSafe;

use super::{
    Days, DeniedBy, GroupBy, Index, IndexError, Page, PageRequest, Rate, Used, cursor, names,
};

/// Key, field or -1, kind, entries, denied.
type UsedRow = (String, i32, i16, i64, i64);

impl Index {
    /// What a consumer did in some days, counted by group and kind.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn department(
        &self,
        consumer: &str,
        days: Days,
        by: GroupBy,
        page: &PageRequest,
    ) -> Result<Page<Used>, IndexError> {
        let (query, key, field, joined, counted) = match by {
            GroupBy::Purpose => (
                "purpose",
                WORD,
                "-1",
                "LEFT JOIN word ON word.id = purpose",
                ENTRIES,
            ),
            GroupBy::Dataset => (
                "dataset",
                WORD,
                "-1",
                "LEFT JOIN word ON word.id = dataset",
                ENTRIES,
            ),
            GroupBy::Field => (
                "field",
                WORD,
                "(field.at - 1)::integer",
                "LEFT JOIN word ON word.id = dataset
                 JOIN LATERAL unnest(fields) WITH ORDINALITY AS field (entries, at)
                   ON field.entries > 0",
                "sum(field.entries)::bigint, 0::bigint",
            ),
            GroupBy::Day => ("day", "to_char(day, 'YYYY-MM-DD')", "-1", "", ENTRIES),
        };
        let after: Option<(String, i32, i16)> = cursor::start(query, page)?;
        let Some(consumer) = self.words.id(&self.pool, consumer).await? else {
            return Ok(Page {
                items: Vec::new(),
                cursor: None,
            });
        };
        let first = after.is_none();
        let (after_key, after_field, after_kind) = after.unwrap_or_default();
        // Under the plain order of bytes, whatever the database's own is.
        let sql = format!(
            "SELECT key, field, kind, entries, denied FROM (
                 SELECT ({key}) COLLATE \"C\" AS key, {field} AS field, kind, {counted}
                 FROM usage_day {joined}
                 WHERE consumer = $1 AND day >= $2 AND day < $3
                 GROUP BY 1, 2, 3
             ) AS counted (key, field, kind, entries, denied)
             WHERE $4 OR (key, field, kind) > ($5 COLLATE \"C\", $6, $7)
             ORDER BY key, field, kind LIMIT $8"
        );
        let rows: Vec<UsedRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(consumer)
            .bind(days.from)
            .bind(days.to)
            .bind(first)
            .bind(after_key)
            .bind(after_field)
            .bind(after_kind)
            .bind(cursor::fetch(page.limit()))
            .fetch_all(&self.pool)
            .await?;
        let at = |row: &UsedRow| (row.0.clone(), row.1, row.2);
        Ok(cursor::page(query, page.limit(), rows, at, |row| Used {
            key: row.0,
            field: u16::try_from(row.1).ok(),
            kind: names::kind(row.2).to_owned(),
            entries: row.3.cast_unsigned(),
            denied: row.4.cast_unsigned(),
        }))
    }

    /// How often each rule said no in some days.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn denials(
        &self,
        days: Days,
        page: &PageRequest,
    ) -> Result<Page<DeniedBy>, IndexError> {
        const QUERY: &str = "denials";
        let after: Option<String> = cursor::start(QUERY, page)?;
        // A rule column holds one code or several; none at all is the empty code.
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT code, entries, denied FROM (
                 SELECT code COLLATE \"C\", sum(entries)::bigint, sum(denied)::bigint
                 FROM usage_day LEFT JOIN word ON word.id = rule
                 CROSS JOIN LATERAL (
                     SELECT DISTINCT code
                     FROM unnest(string_to_array(translate(coalesce(text, ''), ' ', ','), ',')
                         || CASE WHEN text IS NULL THEN ARRAY[''] ELSE '{}' END) AS code
                     WHERE code <> '' OR text IS NULL
                 ) AS codes
                 WHERE kind = $1 AND day >= $2 AND day < $3
                 GROUP BY 1
             ) AS counted (code, entries, denied)
             WHERE $4::text IS NULL OR code > $4 COLLATE \"C\"
             ORDER BY code LIMIT $5",
        )
        .bind(AuditKind::Denied as i16)
        .bind(days.from)
        .bind(days.to)
        .bind(after)
        .bind(cursor::fetch(page.limit()))
        .fetch_all(&self.pool)
        .await?;
        Ok(cursor::page(
            QUERY,
            page.limit(),
            rows,
            |row| row.0.clone(),
            |row| DeniedBy {
                rule: row.0,
                entries: row.1.cast_unsigned(),
                denied: row.2.cast_unsigned(),
            },
        ))
    }

    /// Entries a day of one agreement and dataset, to be held against a limit.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn rate(
        &self,
        agreement: &str,
        dataset: &str,
        days: Days,
        page: &PageRequest,
    ) -> Result<Page<Rate>, IndexError> {
        const QUERY: &str = "rate";
        let after: Option<NaiveDate> = cursor::start(QUERY, page)?;
        let agreement = self.words.id(&self.pool, agreement).await?;
        let dataset = self.words.id(&self.pool, dataset).await?;
        let rows: Vec<(NaiveDate, i64, i64)> = sqlx::query_as(
            "SELECT day, sum(entries)::bigint,
                    coalesce(sum(entries) FILTER (WHERE kind = $1), 0)::bigint
             FROM usage_day
             WHERE agreement = $2 AND dataset = $3 AND day >= $4 AND day < $5
               AND ($6::date IS NULL OR day > $6)
             GROUP BY day ORDER BY day LIMIT $7",
        )
        .bind(AuditKind::Delivered as i16)
        .bind(agreement)
        .bind(dataset)
        .bind(days.from)
        .bind(days.to)
        .bind(after)
        .bind(cursor::fetch(page.limit()))
        .fetch_all(&self.pool)
        .await?;
        Ok(cursor::page(
            QUERY,
            page.limit(),
            rows,
            |row| row.0,
            |row| Rate {
                day: row.0,
                entries: row.1.cast_unsigned(),
                delivered: row.2.cast_unsigned(),
            },
        ))
    }
}

/// A word, the empty one where it does not apply.
const WORD: &str = "coalesce(text, '')";
const ENTRIES: &str = "sum(entries)::bigint, sum(denied)::bigint";
