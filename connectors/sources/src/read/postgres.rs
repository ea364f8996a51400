//! PostgreSQL: a query read through a cursor in one repeatable-read, read-only transaction, so that
//! the main table and its joins are of one moment.

use super::sql::{self, MarkKind, Since};
use super::{Next, Row, Table};
use crate::cell::Cell;
use crate::limits::{FETCH_ROWS, MAX_CELL_BYTES, STATEMENT_TIMEOUT};
use crate::mapping::plan::Query;
use mz_sdk::SourceError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{
    Column as _, ConnectOptions as _, Connection as _, Executor as _, Row as _, Statement as _,
    TypeInfo as _,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;
use tokio::runtime::Runtime;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const APPLICATION: &str = "mianzheng-connect";

/// A connection with its runtime; one snapshot at a time.
pub struct Session {
    runtime: Runtime,
    connection: PgConnection,
    /// Unix milliseconds at which the snapshot was taken, by the database's clock.
    taken_ms: i64,
}

/// A session shared by the tables of one pass.
pub type Shared = Rc<RefCell<Session>>;

impl Session {
    /// Connects and takes a snapshot.
    pub fn open(url: &str, offset_s: i32) -> Result<Shared, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| SourceError::environment("DATABASE_UNAVAILABLE", "").because(error))?;
        // The URL holds a password: nothing of it goes into an error.
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| SourceError::configuration("DATABASE_URL", ""))?
            .application_name(APPLICATION)
            .disable_statement_logging();
        let connect = async {
            let mut connection = options.connect().await?;
            for setting in sql::settings(offset_s, STATEMENT_TIMEOUT.as_millis()) {
                connection.execute(sqlx::raw_sql(setting)).await?;
            }
            connection
                .execute(sqlx::raw_sql(
                    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
                ))
                .await?;
            let taken: i64 =
                sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8")
                    .fetch_one(&mut connection)
                    .await?;
            Ok::<_, sqlx::Error>((connection, taken))
        };
        let (connection, taken_ms) = runtime
            .block_on(async { tokio::time::timeout(CONNECT_TIMEOUT, connect).await })
            .map_err(|_| SourceError::environment("DATABASE_UNAVAILABLE", "timeout"))?
            .map_err(fault)?;
        Ok(Rc::new(RefCell::new(Self {
            runtime,
            connection,
            taken_ms,
        })))
    }

    #[must_use]
    pub fn taken_ms(&self) -> i64 {
        self.taken_ms
    }

    /// Ends the transaction and the connection.
    pub fn close(shared: Shared) {
        if let Ok(cell) = Rc::try_unwrap(shared) {
            let Session {
                runtime,
                connection,
                ..
            } = cell.into_inner();
            // A read-only transaction has nothing to lose.
            let _ = runtime.block_on(connection.close());
        }
    }
}

/// One query's rows.
pub struct PostgresTable {
    session: Shared,
    /// Rows fetched and not yet handed over, in reverse.
    waiting: Vec<PgRow>,
    ended: bool,
    number: u64,
    columns: usize,
}

impl PostgresTable {
    /// Opens the cursor. `mark`: only rows at or after this watermark.
    pub fn open(
        session: &Shared,
        query: &Query,
        columns: &[String],
        mark: Option<&str>,
    ) -> Result<Self, SourceError> {
        let mut guard = session.borrow_mut();
        let Session {
            runtime,
            connection,
            ..
        } = &mut *guard;
        runtime.block_on(async {
            let shape = connection
                .prepare(sql::shape(&query.sql))
                .await
                .map_err(query_fault)?;
            let names: Vec<String> = shape
                .columns()
                .iter()
                .map(|column| column.name().to_owned())
                .collect();
            super::header_places(&names, columns)?;
            let watermark = query.watermark.as_ref();
            let since = match (watermark, mark) {
                (Some(watermark), mark) => {
                    let column = shape
                        .columns()
                        .iter()
                        .find(|column| column.name() == watermark.column);
                    let kind = column.and_then(|column| MarkKind::of(column.type_info().name()));
                    let Some(kind) = kind else {
                        return Err(SourceError::configuration(
                            "WATERMARK_TYPE",
                            watermark.column.clone(),
                        ));
                    };
                    mark.map(|mark| Since {
                        column: watermark.column.clone(),
                        kind,
                        mark: mark.to_owned(),
                        overlap: watermark.overlap,
                    })
                }
                (None, _) => None,
            };
            let order = watermark.map(|watermark| watermark.column.as_str());
            let open = sql::open(&query.sql, columns, order, since.as_ref());
            connection
                .execute(sqlx::raw_sql(open))
                .await
                .map_err(query_fault)?;
            Ok(())
        })?;
        drop(guard);
        Ok(Self {
            session: Rc::clone(session),
            waiting: Vec::new(),
            ended: false,
            number: 0,
            columns: columns.len(),
        })
    }

    fn fetch(&mut self) -> Result<(), SourceError> {
        let mut guard = self.session.borrow_mut();
        let Session {
            runtime,
            connection,
            ..
        } = &mut *guard;
        let rows = runtime
            .block_on(
                sqlx::query(sql::fetch(FETCH_ROWS))
                    .persistent(false)
                    .fetch_all(&mut *connection),
            )
            .map_err(fault)?;
        self.ended = rows.len() < FETCH_ROWS as usize;
        if self.ended {
            runtime
                .block_on(connection.execute(sqlx::raw_sql(sql::close())))
                .map_err(fault)?;
        }
        self.waiting = rows;
        self.waiting.reverse();
        Ok(())
    }
}

impl Table for PostgresTable {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        if self.waiting.is_empty() && !self.ended {
            self.fetch()?;
        }
        let Some(found) = self.waiting.pop() else {
            return Ok(Next::End);
        };
        self.number += 1;
        row.number = self.number;
        row.cells.clear();
        for column in 0..self.columns {
            row.cells.push(
                match found.try_get::<Option<String>, _>(column).map_err(fault)? {
                    None => Cell::Empty,
                    Some(text) if text.len() > MAX_CELL_BYTES => Cell::Fault("CELL_TOO_LARGE"),
                    Some(text) => Cell::Text(text),
                },
            );
        }
        Ok(Next::Row)
    }
}

/// The database is away, or says no in the middle.
fn fault(error: sqlx::Error) -> SourceError {
    let denied = matches!(&error, sqlx::Error::Database(said) if said.code().is_some_and(|code| code.starts_with("28") || code == "42501"));
    if denied {
        return SourceError::configuration("DATABASE_DENIED", "");
    }
    SourceError::environment("DATABASE_UNAVAILABLE", said(&error)).because(error)
}

/// The query itself is refused: syntax, a table or column that is not there, a right that is missing.
fn query_fault(error: sqlx::Error) -> SourceError {
    match &error {
        sqlx::Error::Database(said)
            if said
                .code()
                .is_some_and(|code| code.starts_with("42") || code.starts_with('0')) =>
        {
            // The database's words name tables and columns of the mapping's query, no values.
            SourceError::configuration("DATABASE_QUERY", said.message().to_owned())
        }
        _ => fault(error),
    }
}

/// The SQLSTATE alone: a message may quote a value.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(said) => said.code().unwrap_or_default().into_owned(),
        _ => String::new(),
    }
}
