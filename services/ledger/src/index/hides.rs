//! Who keeps a department's use of a person's data from that person, while an investigation runs: one
//! person requests, another approves, and it ends by itself. Nothing is hidden before the approval,
//! and never from an auditor.

use mz_journal::SubjectTag;
use mz_seal::timestamp_text;
use serde::{Deserialize, Serialize};

use super::terms::Terms;
use super::{
    Index, IndexError, LONGEST_HIDE_MS, MAX_HIDE_DAYS, Page, PageRequest, clean, cursor, time,
};

/// Somebody who acts: an operator's id, and the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub operator: String,
    pub principal: String,
}

/// A request to keep a consumer's use of a person's data from that person, for a time.
#[derive(Clone, Debug)]
pub struct Hide {
    pub subject: SubjectTag,
    /// Where the person's records are.
    pub lane: u16,
    pub consumer: String,
    /// The entries are shown again from then on, milliseconds since 1970.
    pub until_ms: i64,
    pub by: Actor,
    /// The legal ground.
    pub reason: String,
}

/// A request that waits, or a hide in force. Nothing of the person is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenHide {
    pub number: i64,
    pub consumer: String,
    /// RFC 3339: shown again from then on.
    pub until: String,
    /// `requested` or `in_force`.
    pub state: String,
    pub reason: String,
    pub requested_by: String,
    pub requested_as: String,
    pub requested_at: String,
    /// Empty while it waits.
    pub approved_by: String,
    pub approved_as: String,
}

/// A request that this approver may decide: where its person is, and what its audit record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approvable {
    pub lane: u16,
    pub subject: SubjectTag,
    pub until_ms: i64,
    /// As [`Hide::terms`].
    pub terms: [u8; 32],
}

/// Subject, lane, consumer, until, operator, certificate and ground of a request that waits.
type Waiting = (
    Vec<u8>,
    i32,
    String,
    chrono::DateTime<chrono::Utc>,
    String,
    String,
    String,
);
/// Number, consumer, until, ground, requested by, as, at, approved by, as.
type Row = (
    i64,
    String,
    chrono::DateTime<chrono::Utc>,
    String,
    String,
    String,
    chrono::DateTime<chrono::Utc>,
    Option<String>,
    Option<String>,
);

impl Hide {
    /// Digest of all of it, for the audit records of the request and of its approval.
    pub fn terms(&self) -> [u8; 32] {
        let terms = Terms {
            subject: &self.subject.0,
            lane: self.lane,
            until_ms: self.until_ms,
            consumer: &clean::word(&self.consumer),
            operator: &clean::text(&self.by.operator),
            principal: &self.by.principal,
            reason: &clean::text(&self.reason),
        };
        terms.digest()
    }

    /// Whether it may be requested at `now_ms`.
    ///
    /// # Errors
    /// An end that has passed or lies past [`MAX_HIDE_DAYS`], something empty.
    pub fn check(&self, now_ms: i64) -> Result<(), IndexError> {
        let longest = now_ms.saturating_add(LONGEST_HIDE_MS);
        if self.until_ms <= now_ms || self.until_ms > longest {
            return Err(IndexError::HideTerm {
                days: MAX_HIDE_DAYS,
            });
        }
        for (name, text) in [
            ("consumer", &self.consumer),
            ("operator", &self.by.operator),
            ("principal", &self.by.principal),
            ("reason", &self.reason),
        ] {
            if text.trim().is_empty() {
                return Err(IndexError::Empty(name));
            }
        }
        Ok(())
    }
}

impl Index {
    /// Keeps a request and answers its number. It hides nothing.
    ///
    /// # Errors
    /// As [`Hide::check`], the database.
    pub async fn request_hide(&self, hide: &Hide, now_ms: i64) -> Result<i64, IndexError> {
        hide.check(now_ms)?;
        let consumer = self.words.numbered_one(&self.pool, &hide.consumer).await?;
        let mut tx = self.writing().await?;
        let number = sqlx::query_scalar(
            "INSERT INTO hide_request
                 (subject, lane, consumer, until, requested_by, requested_as, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        )
        .bind(&hide.subject.0[..])
        .bind(i32::from(hide.lane))
        .bind(consumer)
        .bind(time(hide.until_ms))
        .bind(clean::text(&hide.by.operator))
        .bind(&hide.by.principal)
        .bind(clean::text(&hide.reason))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(number)
    }

    /// What a request asks for, if this approver may decide it now.
    ///
    /// # Errors
    /// No such request waits, the requester's own, the database.
    pub async fn approvable(
        &self,
        number: i64,
        approver: &Actor,
        now_ms: i64,
    ) -> Result<Approvable, IndexError> {
        let waiting: Option<Waiting> = sqlx::query_as(
            "SELECT subject, lane, word.text, until, requested_by, requested_as, reason
             FROM hide_request JOIN word ON word.id = consumer
             WHERE hide_request.id = $1 AND until > $2
               AND NOT EXISTS (SELECT FROM hidden WHERE hidden.request = hide_request.id)",
        )
        .bind(number)
        .bind(time(now_ms))
        .fetch_optional(&self.pool)
        .await?;
        let (subject, lane, consumer, until, operator, principal, reason) =
            waiting.ok_or(IndexError::NoHide)?;
        let same = |a: &str, b: &str| a.trim().to_lowercase() == b.trim().to_lowercase();
        if same(&operator, &clean::text(&approver.operator)) || principal == approver.principal {
            return Err(IndexError::OnePerson);
        }
        let lane = u16::try_from(lane).map_err(|_| IndexError::Damaged("hide"))?;
        let until_ms = until.timestamp_millis();
        let terms = Terms {
            subject: &subject,
            lane,
            until_ms,
            consumer: &consumer,
            operator: &operator,
            principal: &principal,
            reason: &reason,
        };
        let terms = terms.digest();
        let subject = subject
            .try_into()
            .map_err(|_| IndexError::Damaged("hide"))?;
        Ok(Approvable {
            lane,
            subject: SubjectTag(subject),
            until_ms,
            terms,
        })
    }

    /// Hides from now until the time that was requested. Nothing ends it before, nothing prolongs it.
    ///
    /// # Errors
    /// As [`Index::approvable`].
    pub async fn approve_hide(
        &self,
        number: i64,
        approver: &Actor,
        now_ms: i64,
    ) -> Result<(), IndexError> {
        self.approvable(number, approver, now_ms).await?;
        for (name, text) in [
            ("operator", &approver.operator),
            ("principal", &approver.principal),
        ] {
            if text.trim().is_empty() {
                return Err(IndexError::Empty(name));
            }
        }
        let mut tx = self.writing().await?;
        let approved = sqlx::query(
            "INSERT INTO hidden (request, subject, consumer, until, requested_by, requested_as,
                 reason, approved_by, approved_as)
             SELECT id, subject, consumer, until, requested_by, requested_as, reason, $2, $3
             FROM hide_request WHERE id = $1
             ON CONFLICT (request) DO NOTHING",
        )
        .bind(number)
        .bind(clean::text(&approver.operator))
        .bind(&approver.principal)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        match approved.rows_affected() {
            1 => Ok(()),
            // Somebody else was faster.
            _ => Err(IndexError::NoHide),
        }
    }

    /// Requests that wait and hides in force at `now_ms`, oldest first; of one consumer or all.
    ///
    /// # Errors
    /// A cursor of another query, the database.
    pub async fn open_hides(
        &self,
        consumer: Option<&str>,
        now_ms: i64,
        page: &PageRequest,
    ) -> Result<Page<OpenHide>, IndexError> {
        const QUERY: &str = "hides";
        let after: Option<i64> = cursor::start(QUERY, page)?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT asked.id, word.text, asked.until, asked.reason, asked.requested_by,
                    asked.requested_as, asked.at, hidden.approved_by, hidden.approved_as
             FROM hide_request AS asked JOIN word ON word.id = asked.consumer
             LEFT JOIN hidden ON hidden.request = asked.id
             WHERE asked.until > $1 AND ($2::text IS NULL OR word.text = $2)
               AND ($3::bigint IS NULL OR asked.id > $3)
             ORDER BY asked.id LIMIT $4",
        )
        .bind(time(now_ms))
        .bind(consumer)
        .bind(after)
        .bind(cursor::fetch(page.limit()))
        .fetch_all(&self.pool)
        .await?;
        Ok(cursor::page(QUERY, page.limit(), rows, |row| row.0, open))
    }
}

fn open(row: Row) -> OpenHide {
    let (number, consumer, until, reason, by, principal, at, approved_by, approved_as) = row;
    let state = if approved_by.is_some() {
        "in_force"
    } else {
        "requested"
    };
    OpenHide {
        number,
        consumer,
        until: timestamp_text(until.timestamp_millis()),
        state: state.to_owned(),
        reason,
        requested_by: by,
        requested_as: principal,
        requested_at: timestamp_text(at.timestamp_millis()),
        approved_by: approved_by.unwrap_or_default(),
        approved_as: approved_as.unwrap_or_default(),
    }
}
