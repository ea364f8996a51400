//! Use held against what was agreed: days above the stated frequency, fields asked for and never
//! delivered.

use std::collections::HashMap;

use chrono::NaiveDate;
use mz_journal::AuditKind;

use super::{
    Above, Days, Index, IndexError, MAX_ABOVE_DAYS, OverReach, Page, PageRequest, Promised, clean,
    cursor,
};

/// Place of the section in the question, days above, the worst of them with their uses, the most.
type Row = (i64, i64, Vec<NaiveDate>, Vec<i64>, i64);

impl Index {
    /// Of each section in the question: on which days more was delivered and looked up than agreed,
    /// and which fields were never delivered. In order of agreement and dataset.
    ///
    /// # Errors
    /// Too many sections, a cursor of another query, the database.
    pub async fn over_reach(
        &self,
        promised: &[Promised],
        days: Days,
        page: &PageRequest,
    ) -> Result<Page<OverReach>, IndexError> {
        const QUERY: &str = "over_reach";
        let after: Option<(String, String)> = cursor::start(QUERY, page)?;
        let place = |one: &Promised| (one.agreed.agreement.clone(), one.agreed.dataset.clone());
        let mut asked: Vec<Promised> = promised.to_vec();
        asked.sort_by_key(place);
        asked.retain(|one| after.as_ref().is_none_or(|after| place(one) > *after));
        asked.truncate(page.limit() + 1);

        let agreed: Vec<_> = asked.iter().map(|one| one.agreed.clone()).collect();
        let unused = self.unused_fields(&agreed, days).await?;
        let mut rates = self.rates(&asked, days).await?;
        let rows: Vec<_> = (1..).zip(asked.into_iter().zip(unused)).collect();
        let at = |row: &(i64, (Promised, _))| place(&row.1.0);
        Ok(cursor::page(QUERY, page.limit(), rows, at, |row| {
            let (section, (asked, unused)) = row;
            let (days_above, above, most) = rates.remove(&section).unwrap_or_default();
            OverReach {
                agreement: unused.agreement,
                dataset: unused.dataset,
                per_day: asked.per_day,
                days_above,
                above,
                most,
                unused: unused.fields,
            }
        }))
    }

    async fn rates(
        &self,
        asked: &[Promised],
        days: Days,
    ) -> Result<HashMap<i64, (u64, Vec<Above>, u64)>, IndexError> {
        let words = |text: fn(&Promised) -> &str| -> Vec<String> {
            let of = asked.iter().map(|one| clean::word(text(one)).into_owned());
            of.collect()
        };
        let limits: Vec<Option<i64>> = asked.iter().map(|one| one.per_day.map(i64::from)).collect();
        let kept = i64::try_from(MAX_ABOVE_DAYS).unwrap_or(i64::MAX);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT at, count(*) FILTER (WHERE uses > most),
                    coalesce((array_agg(day ORDER BY uses DESC, day)
                        FILTER (WHERE uses > most))[1:$6], '{}'),
                    coalesce((array_agg(uses ORDER BY uses DESC, day)
                        FILTER (WHERE uses > most))[1:$6], '{}'),
                    max(uses)
             FROM (
                 SELECT asked.at, asked.most, used.day, sum(used.entries)::bigint AS uses
                 FROM unnest($1::text[], $2::text[], $3::bigint[])
                     WITH ORDINALITY AS asked (agreement, dataset, most, at)
                 JOIN word AS agreement ON agreement.text = asked.agreement
                 JOIN word AS dataset ON dataset.text = asked.dataset
                 JOIN usage_day AS used
                   ON used.agreement = agreement.id AND used.dataset = dataset.id
                 WHERE used.kind = ANY($7) AND used.day >= $4 AND used.day < $5
                 GROUP BY asked.at, asked.most, used.day
             ) AS daily
             GROUP BY at",
        )
        .bind(words(|one| &one.agreed.agreement))
        .bind(words(|one| &one.agreed.dataset))
        .bind(limits)
        .bind(days.from)
        .bind(days.to)
        .bind(kept)
        .bind(&[AuditKind::Delivered as i16, AuditKind::Lookup as i16][..])
        .fetch_all(&self.pool)
        .await?;
        let sums = rows.into_iter().map(|(at, above, days, uses, most)| {
            let listed = days.into_iter().zip(uses);
            let listed = listed.map(|(day, uses)| Above {
                day,
                uses: uses.cast_unsigned(),
            });
            (
                at,
                (
                    above.cast_unsigned(),
                    listed.collect(),
                    most.cast_unsigned(),
                ),
            )
        });
        Ok(sums.collect())
    }
}
