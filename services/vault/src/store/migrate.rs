//! Connections to the vault's PostgreSQL schema, and its migrations.

use mz_database::DatabaseError;
use sqlx::PgConnection;
use sqlx::migrate::Migrator;

use super::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!();
/// Under which migrations of this schema wait for one another.
const LOCK: [u8; 8] = *b"mzvault\0";

/// The schema of an ordinary installation.
pub const SCHEMA: &str = "vault";

/// Where the facts are: a database URL and the one schema in it that is the vault's.
#[derive(Clone, Debug)]
pub struct Database(mz_database::Database);

impl Database {
    /// # Errors
    /// A URL that isn't one of PostgreSQL, or a schema name that isn't a plain lower-case
    /// identifier.
    pub fn new(url: &str, schema: &str) -> Result<Self, StoreError> {
        let database = mz_database::Database::new(url, schema, "mianzheng-vault")?;
        Ok(Self(database))
    }

    /// A connection whose unqualified names are the vault's.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        Ok(self.0.connect().await?)
    }

    /// Makes the schema and brings it up to date.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Ok(self.0.migrate(&MIGRATIONS, LOCK).await?)
    }

    /// Whether the schema holds every migration of this program, and no other.
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        Ok(self.0.is_current(&MIGRATIONS).await?)
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Url => Self::Url,
            DatabaseError::SchemaName => Self::SchemaName,
            DatabaseError::Database(error) => Self::Database(error),
            DatabaseError::Migrate(error) => Self::Migrate(error),
        }
    }
}
