//! Connections to the vault's PostgreSQL schema, and its migrations.

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Longest schema name, bytes (PostgreSQL cuts identifiers after 63).
const MAX_SCHEMA_BYTES: usize = 63;

/// The schema of an ordinary installation.
pub const SCHEMA: &str = "vault";

/// Where the facts are: a database URL and the one schema in it that is the vault's.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
    schema: String,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // sqlx's own would print the password.
        f.debug_struct("Database")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// # Errors
    /// A URL that isn't one of PostgreSQL, or a schema name that isn't a plain lower-case
    /// identifier. Neither is repeated in the error: a URL carries a password.
    pub fn new(url: &str, schema: &str) -> Result<Self, StoreError> {
        let plain = !schema.is_empty()
            && schema.len() <= MAX_SCHEMA_BYTES
            && schema
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && !schema.as_bytes()[0].is_ascii_digit();
        if !plain {
            return Err(StoreError::SchemaName);
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Url);
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Url)?
            .application_name("mianzheng-vault")
            .options([("search_path", schema)])
            .disable_statement_logging();
        Ok(Self {
            options,
            schema: schema.to_owned(),
        })
    }

    /// A connection whose unqualified names are the vault's.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Makes the schema and brings it up to date. Idempotent; concurrent callers wait for one
    /// another. The migrations table is the schema's own.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        // Holds back a second process that starts at the same time: CREATE SCHEMA IF NOT EXISTS
        // alone races on the catalogue's unique index.
        let lock = i64::from_be_bytes(*b"mzvault\0");
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(lock)
            .execute(&mut connection)
            .await?;
        // The name was checked by `new`: no quote can be in it.
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut connection)
            .await?;
        let done = MIGRATIONS.run(&mut connection).await;
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(lock)
            .execute(&mut connection)
            .await?;
        done?;
        connection.close().await?;
        Ok(())
    }

    /// Whether the schema holds every migration of this program, and no other.
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        let mut connection = self.connect().await?;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            return Ok(false);
        }
        let applied: Vec<i64> = sqlx::query_scalar(
            "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version",
        )
        .fetch_all(&mut connection)
        .await?;
        Ok(applied == MIGRATIONS.iter().map(|m| m.version).collect::<Vec<_>>())
    }
}
