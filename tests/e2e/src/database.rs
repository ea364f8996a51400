//! Plain queries against the installation's database, from tests that are not asynchronous.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Runs `work` with a fresh connection. Panics with the database's words when it fails.
#[track_caller]
pub fn with<T>(
    url: &str,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> T {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    let done = runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        let value = work(&mut connection).await?;
        connection.close().await?;
        Ok::<T, sqlx::Error>(value)
    });
    match done {
        Ok(value) => value,
        Err(error) => panic!("database: {error}"),
    }
}

/// One statement, the test's own text.
#[track_caller]
pub fn execute(url: &str, statement: &str) {
    with(url, async |connection| {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(connection)
            .await
            .map(drop)
    });
}

/// One number. The statement is the test's own text.
#[track_caller]
pub fn number(url: &str, query: &str) -> i64 {
    with(url, async |connection| {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(connection)
            .await
    })
}

/// The first column of every row. The statement is the test's own text.
#[track_caller]
pub fn texts(url: &str, query: &str) -> Vec<String> {
    with(url, async |connection| {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_all(connection)
            .await
    })
}

/// Whether there is such a table.
#[track_caller]
pub fn has_table(url: &str, schema: &str, table: &str) -> bool {
    let query = "SELECT count(*) FROM information_schema.tables
         WHERE table_schema = $1 AND table_name = $2";
    with(url, async |connection| {
        sqlx::query_scalar::<_, i64>(query)
            .bind(schema)
            .bind(table)
            .fetch_one(connection)
            .await
    }) > 0
}

/// Every row of every table of the database as text, with the table's name: what a scan for
/// planted marks looks through. Binary columns come as hexadecimal digits and are decoded.
#[track_caller]
pub fn dump(url: &str) -> Vec<(String, Vec<u8>)> {
    with(url, async |connection| {
        let tables: Vec<(String, String)> = sqlx::query_as(
            "SELECT table_schema::text, table_name::text FROM information_schema.tables
             WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
               AND table_type = 'BASE TABLE'",
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut rows = Vec::new();
        for (schema, table) in tables {
            let query = format!("SELECT t::text FROM \"{schema}\".\"{table}\" t");
            let texts: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
                .fetch_all(&mut *connection)
                .await?;
            for text in texts {
                let mut bytes = text.clone().into_bytes();
                for part in text.split("\\\\x").skip(1) {
                    let digits: String = part.chars().take_while(char::is_ascii_hexdigit).collect();
                    bytes.extend(hex::decode(digits).unwrap_or_default());
                }
                rows.push((format!("{schema}.{table}"), bytes));
            }
        }
        Ok(rows)
    })
}

/// Drops an installation's databases: its own, and that of its property register. Best effort.
pub fn drop_all(admin_url: &str, prefix: &str, own_url: &str) {
    let own = own_url.rsplit('/').next().unwrap_or_default();
    let own = own.split('?').next().unwrap_or_default();
    for name in [own, &format!("bdc_{prefix}")] {
        let statement = format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)");
        with(admin_url, async |connection| {
            // A refusal leaves a database behind, no more.
            let _ = sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(connection)
                .await;
            Ok(())
        });
    }
}
