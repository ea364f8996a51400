//! What a person is shown of the use of their data, in the shape of Estonia's data tracker, and
//! what is kept from them while an investigation runs.

use mz_journal::SubjectTag;
use mz_seal::timestamp_text;
use sqlx::AssertSqlSafe;

use super::person::{place, word_ids};
use super::row::{COLUMNS, Row};
use super::{Index, IndexError, MAX_PAGE, Page, PageRequest, Period, Usage, cursor, names, time};

/// Kinds of entries that are a use: delivered, lookup, exposed.
const USES: [i16; 3] = [
    mz_journal::AuditKind::Delivered as i16,
    mz_journal::AuditKind::Lookup as i16,
    mz_journal::AuditKind::Exposed as i16,
];

impl Index {
    /// How a person's data was used, oldest first, without what is hidden at `now_ms`.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn find_usage(
        &self,
        subject: &SubjectTag,
        period: Period,
        now_ms: i64,
        page: &PageRequest,
    ) -> Result<Page<Usage>, IndexError> {
        const QUERY: &str = "usage";
        const CONDITION: &str = "kind = ANY($8) AND NOT EXISTS (
            SELECT FROM hidden WHERE hidden.subject = entry.subject
               AND hidden.consumer = entry.consumer AND hidden.until > $9)";
        let after = cursor::start(QUERY, page)?;
        let rows = self
            .of_person(subject, period, after, page.limit(), CONDITION, |query| {
                query.bind(&USES[..]).bind(time(now_ms))
            })
            .await?;
        self.words
            .load(&self.pool, rows.iter().flat_map(word_ids))
            .await?;
        Ok(cursor::page(QUERY, page.limit(), rows, place, |row| {
            self.usage(&row)
        }))
    }

    /// The same, newest first, without the first `offset` of them: how other protocols page.
    ///
    /// # Errors
    /// The database.
    pub async fn newest_usage(
        &self,
        subject: &SubjectTag,
        now_ms: i64,
        (offset, limit): (u32, usize),
    ) -> Result<Vec<Usage>, IndexError> {
        let sql = format!(
            "SELECT {} FROM entry
             WHERE subject = $1 AND kind = ANY($2) AND NOT EXISTS (
                 SELECT FROM hidden WHERE hidden.subject = entry.subject
                    AND hidden.consumer = entry.consumer AND hidden.until > $3)
             ORDER BY at DESC, log DESC, leaf DESC OFFSET $4 LIMIT $5",
            COLUMNS.join(", ")
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(&subject.0[..])
            .bind(&USES[..])
            .bind(time(now_ms))
            .bind(i64::from(offset))
            .bind(i64::try_from(limit.min(MAX_PAGE)).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        let rows: Vec<Row<'_>> = rows.iter().map(Row::get).collect::<Result<_, _>>()?;
        self.words
            .load(&self.pool, rows.iter().flat_map(word_ids))
            .await?;
        Ok(rows.iter().map(|row| self.usage(row)).collect())
    }

    fn usage(&self, row: &Row<'_>) -> Usage {
        Usage {
            logtime: timestamp_text(row.at.0.div_euclid(1_000)),
            action: names::kind(row.kind).to_owned(),
            receiver: self.words.text(row.consumer),
            reason: match &row.reason {
                Some(reason) => reason.to_string(),
                None => self.words.text(row.purpose),
            },
        }
    }
}
