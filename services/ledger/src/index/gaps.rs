//! What the log accounts for of each source stream, lane by lane, and what lies between.
//!
//! Only what came down the stream counts: a backfill's summary spans offsets that it never looked at.

use mz_journal::{AuditCause, AuditKind};

use super::{
    Index, IndexError, MAX_RANGES, OffsetRange, Page, PageRequest, Period, clean, cursor, time,
};

/// One lane of one dataset in a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub dataset: String,
    pub lane: u16,
    /// First and last source offset that is accounted for.
    pub accounted: OffsetRange,
    /// Events that were refused as input.
    pub quarantined: u64,
    /// What lies between and no summary or refusal covers, ascending; at most [`MAX_RANGES`], the
    /// widest. Kafka's own control records lie there too: only the source topic tells.
    pub between: Vec<OffsetRange>,
    /// Ranges that were left out of `between`.
    pub more: u64,
}

/// Dataset, lane, first, last, quarantined, how many ranges, their ends.
type Row = (String, i32, i64, i64, i64, i64, Vec<i64>, Vec<i64>);

impl Index {
    /// The lanes of these datasets of which the log accounts for anything, by dataset and lane.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn stretches(
        &self,
        datasets: &[String],
        period: Period,
        page: &PageRequest,
    ) -> Result<Page<Stretch>, IndexError> {
        const QUERY: &str = "gaps";
        let after: Option<(String, i32)> = cursor::start(QUERY, page)?;
        let first = after.is_none();
        let (after_dataset, after_lane) = after.unwrap_or_default();
        let datasets: Vec<String> = datasets
            .iter()
            .map(|dataset| clean::word(dataset).into_owned())
            .collect();
        // The kinds are written out as in the index's condition, so that the planner sees it.
        const { assert!(AuditKind::Summary as i16 == 2 && AuditKind::Quarantined as i16 == 4) };
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT dataset, lane, min(first), max(last),
                    count(DISTINCT first) FILTER (WHERE refused), count(*) FILTER (WHERE open),
                    coalesce((array_agg(before + 1 ORDER BY first - before DESC, first)
                        FILTER (WHERE open))[1:$6], '{}'),
                    coalesce((array_agg(first - 1 ORDER BY first - before DESC, first)
                        FILTER (WHERE open))[1:$6], '{}')
             FROM (
                 SELECT *, coalesce(first - 1 > before, false) AS open FROM (
                     SELECT dataset, lane, first, last, refused, max(last) OVER (
                         PARTITION BY dataset, lane ORDER BY first, last
                         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                     FROM (
                         SELECT word.text COLLATE \"C\" AS dataset, lane, kind = 4 AS refused,
                                CASE kind WHEN 4 THEN source_offset ELSE from_offset END AS first,
                                CASE kind WHEN 4 THEN source_offset ELSE to_offset END AS last
                         FROM entry JOIN word ON word.id = entry.dataset
                         WHERE word.text = ANY($1) AND kind IN (2, 4) AND cause = $2
                           AND at >= $3 AND at < $4
                           AND ($7 OR (word.text COLLATE \"C\", lane) > ($8 COLLATE \"C\", $9))
                     ) AS accounted
                     WHERE first >= 0 AND last >= first
                 ) AS marked
             ) AS opened
             GROUP BY dataset, lane ORDER BY dataset, lane LIMIT $5",
        )
        .bind(datasets)
        .bind(AuditCause::Stream as i16)
        .bind(time(period.from_ms))
        .bind(time(period.to_ms))
        .bind(cursor::fetch(page.limit()))
        .bind(i64::try_from(MAX_RANGES).unwrap_or(i64::MAX))
        .bind(first)
        .bind(after_dataset)
        .bind(after_lane)
        .fetch_all(&self.pool)
        .await?;
        let at = |row: &Row| (row.0.clone(), row.1);
        Ok(cursor::page(QUERY, page.limit(), rows, at, |row| {
            let (dataset, lane, first, last, quarantined, ranges, firsts, lasts) = row;
            let mut between: Vec<OffsetRange> = firsts
                .into_iter()
                .zip(lasts)
                .map(|(first, last)| OffsetRange { first, last })
                .collect();
            between.sort_unstable_by_key(|range| range.first);
            Stretch {
                dataset,
                lane: u16::try_from(lane).unwrap_or(u16::MAX),
                accounted: OffsetRange { first, last },
                quarantined: quarantined.cast_unsigned(),
                more: ranges.cast_unsigned() - between.len() as u64,
                between,
            }
        }))
    }
}
