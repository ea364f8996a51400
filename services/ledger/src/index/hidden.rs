//! What a person is shown of the use of their data, in the shape of Estonia's data tracker, and
//! what is kept from them while an investigation runs.

use mz_journal::SubjectTag;
use mz_seal::timestamp_text;

use super::person::{place, word_ids};
use super::{Index, IndexError, Page, PageRequest, Period, Usage, clean, cursor, names, time};

/// Kinds of entries that are a use: delivered, lookup, exposed.
const USES: [i16; 3] = [
    mz_journal::AuditKind::Delivered as i16,
    mz_journal::AuditKind::Lookup as i16,
    mz_journal::AuditKind::Exposed as i16,
];

/// A request to keep a consumer's use of a person's data from that person, for a time.
#[derive(Clone, Debug)]
pub struct Hide {
    pub subject: SubjectTag,
    pub consumer: String,
    /// The entries are shown again from then on, milliseconds since 1970.
    pub until_ms: i64,
    /// Operators' ids: two people.
    pub requested_by: String,
    pub approved_by: String,
    /// The legal ground.
    pub reason: String,
}

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
            Usage {
                logtime: timestamp_text(row.at.0.div_euclid(1_000)),
                action: names::kind(row.kind).to_owned(),
                receiver: self.words.text(row.consumer),
                reason: match &row.reason {
                    Some(reason) => reason.to_string(),
                    None => self.words.text(row.purpose),
                },
            }
        }))
    }

    /// Hides until a time. Nothing ends it before.
    ///
    /// # Errors
    /// The same person twice, something empty, the database.
    pub async fn hide(&self, hide: &Hide) -> Result<(), IndexError> {
        let same = |a: &str, b: &str| a.trim().to_lowercase() == b.trim().to_lowercase();
        if same(&hide.requested_by, &hide.approved_by) {
            return Err(IndexError::OnePerson);
        }
        for (name, text) in [
            ("consumer", &hide.consumer),
            ("requested_by", &hide.requested_by),
            ("approved_by", &hide.approved_by),
            ("reason", &hide.reason),
        ] {
            if text.trim().is_empty() {
                return Err(IndexError::Empty(name));
            }
        }
        let consumer = self.words.numbered_one(&self.pool, &hide.consumer).await?;
        let mut tx = self.writing().await?;
        sqlx::query(
            "INSERT INTO hidden (subject, consumer, until, requested_by, approved_by, reason)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&hide.subject.0[..])
        .bind(consumer)
        .bind(time(hide.until_ms))
        .bind(clean::text(&hide.requested_by))
        .bind(clean::text(&hide.approved_by))
        .bind(clean::text(&hide.reason))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}
