//! Every contract version that was put in force, with its files.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Step, Store, StoreError, big, count};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    pub version: u64,
    pub digest: [u8; 32],
    /// `start`, `activate`, `suspend`, `resume`, `terminate`.
    pub act: String,
    pub agreement: String,
    pub principal: String,
    pub operator: String,
    pub reason: String,
    pub at_ms: i64,
}

fn row(row: &PgRow) -> Result<VersionRow, StoreError> {
    let digest: &[u8] = row.try_get("digest")?;
    Ok(VersionRow {
        version: count(row.try_get("version")?, "version")?,
        digest: digest
            .try_into()
            .map_err(|_| StoreError::Damaged("digest"))?,
        act: row.try_get("act")?,
        agreement: row.try_get("agreement")?,
        principal: row.try_get("principal")?,
        operator: row.try_get("operator")?,
        reason: row.try_get("reason")?,
        at_ms: row.try_get("at_ms")?,
    })
}

impl Store {
    /// All versions, newest first.
    pub async fn versions(&self) -> Result<Vec<VersionRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM contract_version ORDER BY version DESC LIMIT 1000")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(row).collect()
    }

    /// The files of a version.
    pub async fn contract_files(
        &self,
        digest: &[u8; 32],
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT path, body FROM contract_file WHERE digest = $1")
            .bind(digest.as_slice())
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("path")?, row.try_get("body")?)))
            .collect()
    }
}

impl Step {
    /// The version in force, as this change finds it.
    pub async fn newest_version(&mut self) -> Result<Option<VersionRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM contract_version ORDER BY version DESC LIMIT 1")
            .fetch_optional(&mut *self.tx)
            .await?;
        found.as_ref().map(row).transpose()
    }

    pub async fn put_version(
        &mut self,
        version: &VersionRow,
        files: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO contract_version
               (version, digest, act, agreement, principal, operator, reason, at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(big(version.version))
        .bind(version.digest.as_slice())
        .bind(&version.act)
        .bind(&version.agreement)
        .bind(&version.principal)
        .bind(&version.operator)
        .bind(&version.reason)
        .bind(version.at_ms)
        .execute(&mut *self.tx)
        .await?;
        let (paths, bodies): (Vec<&str>, Vec<&str>) = files
            .iter()
            .map(|(path, body)| (path.as_str(), body.as_str()))
            .unzip();
        sqlx::query(
            "INSERT INTO contract_file (digest, path, body)
             SELECT $1, * FROM unnest($2::text[], $3::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(version.digest.as_slice())
        .bind(paths)
        .bind(bodies)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}
