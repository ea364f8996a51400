//! Loads property.sql as psql would, for machines without psql: the local stack has only the server.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::options::CityError;

/// One message of COPY data, bytes.
const BLOCK: usize = 64 * 1024;
/// A database of its own, as the land registry has one.
pub const PROPERTY_DATABASE: &str = "realestate";

/// Makes `database` (say [`PROPERTY_DATABASE`]) on the server of `admin_url` when it is absent, loads `script`
/// into it and returns its URL. Loading again replaces the content.
///
/// # Errors
/// The server refuses, or the script is not one that [`crate::write()`] wrote.
pub fn load_property(admin_url: &str, database: &str, script: &Path) -> Result<String, CityError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CityError::Runtime)?;
    runtime.block_on(async {
        let admin = PgConnectOptions::from_str(admin_url)?;
        let mut connection = admin.connect().await?;
        let known = sqlx::query("SELECT count(*) FROM pg_database WHERE datname = $1")
            .bind(database)
            .fetch_one(&mut connection)
            .await?;
        if known.try_get::<i64, _>(0)? == 0 {
            let create = format!("CREATE DATABASE \"{}\"", database.replace('"', "\"\""));
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        let own = admin.database(database);
        let mut connection = own.connect().await?;
        run(&mut connection, script).await?;
        connection.close().await?;
        Ok(own.to_url_lossy().to_string())
    })
}

async fn run(connection: &mut PgConnection, script: &Path) -> Result<(), CityError> {
    let at = |source: io::Error| CityError::Write {
        path: script.to_owned(),
        source,
    };
    let mut lines = BufReader::new(File::open(script).map_err(at)?).lines();
    let mut statement = String::new();
    while let Some(line) = lines.next() {
        let line = line.map_err(at)?;
        if statement.is_empty()
            && (line.starts_with('\\') || line.starts_with("--") || line.is_empty())
        {
            continue;
        }
        statement.push_str(&line);
        statement.push('\n');
        if !line.ends_with(';') {
            continue;
        }
        let whole = std::mem::take(&mut statement);
        if !line.ends_with(" FROM stdin;") {
            sqlx::raw_sql(AssertSqlSafe(whole))
                .execute(&mut *connection)
                .await?;
            continue;
        }
        let mut copy = connection.copy_in_raw(&whole).await?;
        let mut block = String::with_capacity(BLOCK);
        for row in lines.by_ref() {
            let row = row.map_err(at)?;
            if row == "\\." {
                break;
            }
            block.push_str(&row);
            block.push('\n');
            if block.len() >= BLOCK {
                copy.send(block.as_bytes()).await?;
                block.clear();
            }
        }
        copy.send(block.as_bytes()).await?;
        copy.finish().await?;
    }
    Ok(())
}
