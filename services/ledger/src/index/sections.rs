//! What was agreed but never used, and which source offsets the log accounts for.

use std::collections::{BTreeSet, HashMap};

use mz_journal::{AuditKind, bitmap_fields};

use super::{
    Agreed, Days, Index, IndexError, MAX_AGREED, OffsetRange, Page, PageRequest, Period, Unused,
    clean, cursor, time,
};

impl Index {
    /// Which agreed fields were never delivered in some days, one answer per agreed section, in
    /// the order of the question.
    ///
    /// # Errors
    /// More than [`MAX_AGREED`] sections, the database.
    pub async fn unused_fields(
        &self,
        agreed: &[Agreed],
        days: Days,
    ) -> Result<Vec<Unused>, IndexError> {
        if agreed.len() > MAX_AGREED {
            return Err(IndexError::Question { most: MAX_AGREED });
        }
        let words = |text: fn(&Agreed) -> &str| -> Vec<String> {
            agreed
                .iter()
                .map(|section| clean::word(text(section)).into_owned())
                .collect()
        };
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT DISTINCT asked.at, field.at - 1
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (agreement, dataset, at)
             JOIN word AS agreement ON agreement.text = asked.agreement
             JOIN word AS dataset ON dataset.text = asked.dataset
             JOIN usage_day AS used
               ON used.agreement = agreement.id AND used.dataset = dataset.id
             CROSS JOIN LATERAL unnest(used.fields) WITH ORDINALITY AS field (entries, at)
             WHERE used.kind = $3 AND used.day >= $4 AND used.day < $5 AND field.entries > 0",
        )
        .bind(words(|section| &section.agreement))
        .bind(words(|section| &section.dataset))
        .bind(AuditKind::Delivered as i16)
        .bind(days.from)
        .bind(days.to)
        .fetch_all(&self.pool)
        .await?;
        let mut delivered: HashMap<i64, BTreeSet<i64>> = HashMap::new();
        for (section, field) in rows {
            delivered.entry(section).or_default().insert(field);
        }
        let unused = |(at, section): (i64, &Agreed)| {
            let known = delivered.get(&at);
            let mut fields = bitmap_fields(&section.fields);
            fields.retain(|field| known.is_none_or(|known| !known.contains(&i64::from(*field))));
            Unused {
                agreement: section.agreement.clone(),
                dataset: section.dataset.clone(),
                fields,
            }
        };
        Ok((1..).zip(agreed).map(unused).collect())
    }

    /// The source offsets of a dataset's lane that summaries and entries of a period cover, as
    /// ranges without gaps or overlaps, ascending. What lies between them was not accounted for
    /// in the period; whether the source has it, only the source knows.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn covered(
        &self,
        dataset: &str,
        lane: u16,
        period: Period,
        page: &PageRequest,
    ) -> Result<Page<OffsetRange>, IndexError> {
        const QUERY: &str = "covered";
        let after: Option<i64> = cursor::start(QUERY, page)?;
        let dataset = self.words.id(&self.pool, dataset).await?;
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT min(first), max(last) FROM (
                 SELECT first, last, sum(fresh) OVER (ORDER BY first, last) AS island FROM (
                     SELECT first, last, CASE WHEN first - 1 <= max(last) OVER (
                             ORDER BY first, last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                         ) THEN 0 ELSE 1 END AS fresh
                     FROM (
                         SELECT source_offset AS first, source_offset AS last FROM entry
                         WHERE dataset = $1 AND lane = $2 AND at >= $3 AND at < $4
                           AND source_offset >= 0
                         UNION
                         SELECT from_offset, to_offset FROM entry
                         WHERE dataset = $1 AND lane = $2 AND at >= $3 AND at < $4
                           AND from_offset >= 0 AND to_offset >= from_offset
                     ) AS accounted
                 ) AS marked
             ) AS joined
             GROUP BY island HAVING $5::bigint IS NULL OR min(first) > $5
             ORDER BY 1 LIMIT $6",
        )
        .bind(dataset)
        .bind(i32::from(lane))
        .bind(time(period.from_ms))
        .bind(time(period.to_ms))
        .bind(after)
        .bind(cursor::fetch(page.limit()))
        .fetch_all(&self.pool)
        .await?;
        Ok(cursor::page(
            QUERY,
            page.limit(),
            rows,
            |row| row.0,
            |(first, last)| OffsetRange { first, last },
        ))
    }
}
