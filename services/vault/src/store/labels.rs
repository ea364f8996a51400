//! Labels of people in the ledger: computed once, and which of them `bus.audit` was told.

use mz_journal::SubjectTag;
use mz_keys::vrf::SubjectLabel;
use rustc_hash::FxHashSet;
use sqlx::Row;

use super::StoreError;
use super::fence::{LaneStore, begin, lane_of};

/// A person's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub lane: u16,
    pub subject: SubjectTag,
    pub label: SubjectLabel,
}

impl LaneStore {
    /// Which of these people need not be labelled: `bus.audit` was told in this year, or will be
    /// ([`LaneStore::untold`]).
    pub async fn labelled(
        &mut self,
        key: &[u8; 16],
        year: i32,
        people: &[(u16, SubjectTag)],
    ) -> Result<FxHashSet<(u16, SubjectTag)>, StoreError> {
        let lanes: Vec<i32> = people.iter().map(|(lane, _)| i32::from(*lane)).collect();
        let subjects: Vec<&[u8]> = people.iter().map(|(_, who)| who.0.as_slice()).collect();
        let rows = sqlx::query(
            "SELECT lane, subject FROM subject_label
               JOIN unnest($1::integer[], $2::bytea[]) AS wanted (lane, subject)
              USING (lane, subject)
              WHERE key = $3 AND told IN (0, $4)",
        )
        .bind(lanes)
        .bind(subjects)
        .bind(key.as_slice())
        .bind(year)
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    lane_of(row.try_get("lane")?)?,
                    tag(row.try_get("subject")?)?,
                ))
            })
            .collect()
    }

    /// Keeps labels that `bus.audit` is to be told.
    pub async fn label(&mut self, key: &[u8; 16], people: &[Labelled]) -> Result<(), StoreError> {
        let mut tx = begin(&mut self.connection, &self.tokens).await?;
        let labels: Vec<&[u8]> = people.iter().map(|one| one.label.as_slice()).collect();
        sqlx::query(
            "INSERT INTO subject_label (lane, subject, key, label, told)
             SELECT lane, subject, $4, label, 0
               FROM unnest($1::integer[], $2::bytea[], $3::bytea[]) AS new (lane, subject, label)
             ON CONFLICT (lane, subject) DO UPDATE
                SET key = excluded.key, label = excluded.label, told = 0",
        )
        .bind(lanes(people))
        .bind(subjects(people))
        .bind(labels)
        .bind(key.as_slice())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Who `bus.audit` is still to be told, `most` at once.
    pub async fn untold(&mut self, most: i64) -> Result<Vec<Labelled>, StoreError> {
        let lanes: Vec<i32> = self.tokens.keys().copied().map(i32::from).collect();
        let rows = sqlx::query(
            "SELECT lane, subject, label FROM subject_label
              WHERE told = 0 AND lane = ANY($1) LIMIT $2",
        )
        .bind(lanes)
        .bind(most)
        .fetch_all(&mut self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                let label: Vec<u8> = row.try_get("label")?;
                Ok(Labelled {
                    lane: lane_of(row.try_get("lane")?)?,
                    subject: tag(row.try_get("subject")?)?,
                    label: label.try_into().map_err(|_| StoreError::Damaged("label"))?,
                })
            })
            .collect()
    }

    /// `bus.audit` was told.
    pub async fn told(&mut self, year: i32, people: &[Labelled]) -> Result<(), StoreError> {
        let mut tx = begin(&mut self.connection, &self.tokens).await?;
        sqlx::query(
            "UPDATE subject_label AS held SET told = $3
               FROM unnest($1::integer[], $2::bytea[]) AS new (lane, subject)
              WHERE held.lane = new.lane AND held.subject = new.subject",
        )
        .bind(lanes(people))
        .bind(subjects(people))
        .bind(year)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

fn lanes(people: &[Labelled]) -> Vec<i32> {
    people.iter().map(|one| i32::from(one.lane)).collect()
}

fn subjects(people: &[Labelled]) -> Vec<&[u8]> {
    people.iter().map(|one| one.subject.0.as_slice()).collect()
}

fn tag(stored: Vec<u8>) -> Result<SubjectTag, StoreError> {
    let tag = stored.try_into();
    tag.map(SubjectTag)
        .map_err(|_| StoreError::Damaged("subject"))
}
