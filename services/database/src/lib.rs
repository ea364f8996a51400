//! One service's PostgreSQL schema: where it is, connections to it, its migrations. Knows no table.

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};

/// Longest schema name, bytes (PostgreSQL cuts identifiers after 63).
const MAX_SCHEMA_BYTES: usize = 63;

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("the database URL is not a PostgreSQL URL")]
    Url,
    #[error("the schema name must be a plain lower-case identifier of at most 63 bytes")]
    SchemaName,
    #[error("database")]
    Database(#[from] sqlx::Error),
    #[error("database migration")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// A process that froze inside a transaction holds its row locks, and whoever takes over would wait for
/// it for ever. PostgreSQL ends such a session after this long: longer than a Kafka transaction may take.
const IDLE_IN_TRANSACTION: &str = "15s";

/// A database URL and the one schema in it that is the service's.
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
    /// `service` names the connections in PostgreSQL's own lists.
    ///
    /// # Errors
    /// A URL that isn't one of PostgreSQL, or a schema name that isn't a plain lower-case
    /// identifier. Neither is repeated in the error: a URL carries a password.
    pub fn new(url: &str, schema: &str, service: &str) -> Result<Self, DatabaseError> {
        let plain = !schema.is_empty()
            && schema.len() <= MAX_SCHEMA_BYTES
            && schema
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && !schema.as_bytes()[0].is_ascii_digit();
        if !plain {
            return Err(DatabaseError::SchemaName);
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(DatabaseError::Url);
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| DatabaseError::Url)?
            .application_name(service)
            .options([
                ("search_path", schema),
                ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
            ])
            .disable_statement_logging();
        Ok(Self {
            options,
            schema: schema.to_owned(),
        })
    }

    /// A connection whose unqualified names are the schema's.
    pub async fn connect(&self) -> Result<PgConnection, DatabaseError> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Connections made as they are needed, at most `most`.
    pub fn pool(&self, most: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(most)
            .connect_lazy_with(self.options.clone())
    }

    /// Makes the schema and brings it up to date. Idempotent; concurrent callers wait for one
    /// another under `lock`. The migrations table is the schema's own.
    pub async fn migrate(&self, migrations: &Migrator, lock: [u8; 8]) -> Result<(), DatabaseError> {
        let mut connection = self.connect().await?;
        // Holds back a second process that starts at the same time: CREATE SCHEMA IF NOT EXISTS
        // alone races on the catalogue's unique index.
        let lock = i64::from_be_bytes(lock);
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(lock)
            .execute(&mut connection)
            .await?;
        // The name was checked by `new`: no quote can be in it.
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut connection)
            .await?;
        let done = migrations.run(&mut connection).await;
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(lock)
            .execute(&mut connection)
            .await?;
        done?;
        connection.close().await?;
        Ok(())
    }

    /// Whether the schema holds every migration of this program, and no other.
    pub async fn is_current(&self, migrations: &Migrator) -> Result<bool, DatabaseError> {
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
        Ok(applied == migrations.iter().map(|m| m.version).collect::<Vec<_>>())
    }
}
