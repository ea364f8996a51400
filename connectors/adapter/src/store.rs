//! The consumer's PostgreSQL schema: rows, positions and bookkeeping in one transaction. Only
//! the adapter that raised the owner's generation last may commit.

use std::collections::HashMap;
use std::future::Future;
use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Postgres, Row as _, Transaction};

use crate::batch::{Batch, LaneStep, Position, Reject};
use crate::check::Row;
use crate::config::OnWithdrawal;
use crate::endings::{self, Endings};
use crate::error::{Error, refuses_value};
use crate::ident::Ident;
use crate::limits::DATABASE_TIMEOUT;
use crate::sql::{TableSql, create_schema, create_table};
use crate::target::Target;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Where the tables are.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    schema: Ident,
}

impl Database {
    /// # Errors
    /// A URL that is none of PostgreSQL's (it is not repeated: it may hold a password), or a
    /// schema name that is no plain lower-case name.
    pub fn new(url: &str, schema: &str) -> Result<Self, Error> {
        let schema = Ident::new(schema).ok_or_else(|| Error::Name {
            what: "schema",
            name: schema.to_owned(),
        })?;
        let options = PgConnectOptions::from_str(url).map_err(|_| Error::DatabaseUrl {
            place: "database".into(),
            detail: "not a PostgreSQL URL".into(),
        })?;
        let options = options.application_name("mianzheng-adapter").options([
            ("search_path", schema.as_str()),
            ("lock_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ]);
        Ok(Self { options, schema })
    }

    pub fn schema(&self) -> &str {
        self.schema.as_str()
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        limited(PgConnection::connect_with(&self.options)).await
    }

    /// Makes schema, bookkeeping, tables and columns that are missing. Idempotent.
    pub async fn prepare(&self, targets: &[Target]) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        let there: bool = limited(
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
                .bind(self.schema())
                .fetch_one(&mut connection),
        )
        .await?;
        // A department may let its administrator make the schema, and grant the adapter no more.
        if !there {
            limited(sqlx::raw_sql(create_schema(&self.schema)).execute(&mut connection)).await?;
        }
        MIGRATIONS
            .run(&mut connection)
            .await
            .map_err(Error::Migrate)?;
        for target in targets {
            let mut step = limited(connection.begin()).await?;
            limited(sqlx::raw_sql(create_table(target)).execute(&mut *step)).await?;
            check_columns(&mut step, target).await?;
            limited(step.commit()).await?;
        }
        limited(connection.close()).await
    }
}

/// Columns that somebody made by hand, or an older version of a dataset, may have other types.
async fn check_columns(connection: &mut PgConnection, target: &Target) -> Result<(), Error> {
    let rows = limited(
        sqlx::query(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(target.table.to_string())
        .fetch_all(connection),
    )
    .await?;
    let found: HashMap<String, String> = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(Error::Database)?;
    for column in &target.columns {
        let found = found.get(column.name.as_str()).cloned().unwrap_or_default();
        if found != column.ty.sql() {
            return Err(Error::ColumnType {
                table: target.table.as_str().to_owned(),
                column: column.name.as_str().to_owned(),
                found,
                wanted: column.ty.sql(),
            });
        }
    }
    Ok(())
}

/// Rows written, per target and lane.
pub(crate) type Stored = HashMap<(usize, i32), i64>;

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub stored: Stored,
    /// Records that were refused only here.
    pub refused: Vec<Reject>,
    /// Withdrawals by the bus that were carried out, per target and lane.
    pub ordered: Stored,
    pub endings: Endings,
}

/// One connection that owns the tables.
pub(crate) struct Store {
    connection: PgConnection,
    schema: String,
    generation: i64,
    sql: Vec<TableSql>,
}

impl Store {
    /// Connects and takes the tables: whoever had them before can commit nothing any more.
    pub async fn take(
        database: &Database,
        targets: &[Target],
        on_withdrawal: OnWithdrawal,
    ) -> Result<Self, Error> {
        let mut connection = database.connect().await?;
        let generation = limited(
            sqlx::query_scalar("UPDATE mz_owner SET generation = generation + 1, since = now() RETURNING generation")
                .fetch_one(&mut connection),
        )
        .await?;
        Ok(Self {
            connection,
            schema: database.schema().to_owned(),
            generation,
            sql: targets
                .iter()
                .map(|target| TableSql::new(target, on_withdrawal))
                .collect(),
        })
    }

    /// Connects again after the connection was lost, as the same owner.
    pub async fn retake(database: &Database, lost: Self) -> Result<Self, (Self, Error)> {
        match database.connect().await {
            Ok(connection) => Ok(Self { connection, ..lost }),
            Err(error) => Err((lost, error)),
        }
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// A transaction that can commit nothing once a later owner has come.
    pub async fn begin(&mut self) -> Result<(Transaction<'_, Postgres>, &[TableSql]), Error> {
        let mut transaction = limited(self.connection.begin()).await?;
        owned(&mut transaction, self.generation, &self.schema).await?;
        Ok((transaction, &self.sql))
    }

    /// Positions of all lanes, made where they are missing.
    pub async fn positions(
        &mut self,
        topics: &[String],
        lanes: u16,
    ) -> Result<HashMap<(usize, i32), Position>, Error> {
        let (mut transaction, _) = self.begin().await?;
        limited(
            sqlx::query(
                "INSERT INTO mz_positions (topic, lane) \
                 SELECT topic, lane FROM unnest($1::text[]) AS topic, generate_series(0, $2 - 1) AS lane \
                 ON CONFLICT DO NOTHING",
            )
            .bind(topics)
            .bind(i32::from(lanes))
            .execute(&mut *transaction),
        )
        .await?;
        let rows = limited(
            sqlx::query("SELECT topic, lane, next_offset, last_sequence FROM mz_positions WHERE topic = ANY($1)")
                .bind(topics)
                .fetch_all(&mut *transaction),
        )
        .await?;
        limited(transaction.commit()).await?;
        let mut positions = HashMap::new();
        for row in rows {
            let topic: String = row.try_get(0).map_err(Error::Database)?;
            let Some(target) = topics.iter().position(|known| *known == topic) else {
                continue;
            };
            let lane = row.try_get(1).map_err(Error::Database)?;
            let next_offset = row.try_get(2).map_err(Error::Database)?;
            let last: i64 = row.try_get(3).map_err(Error::Database)?;
            let last_sequence = u64::try_from(last).unwrap_or(0);
            positions.insert(
                (target, lane),
                Position {
                    next_offset,
                    last_sequence,
                },
            );
        }
        Ok(positions)
    }

    /// Writes a batch whole or not at all.
    pub async fn apply(&mut self, targets: &[Target], batch: &Batch) -> Result<Applied, Error> {
        let schema = self.schema.clone();
        let (mut transaction, sql) = self.begin().await?;
        let mut applied = Applied::default();
        for (at, table) in batch.tables.iter().enumerate() {
            let (target, sql) = (&targets[at], &sql[at]);
            for round in &table.rounds {
                endings::by_register(&mut transaction, at, target, sql, round, &mut applied)
                    .await?;
                let rows: Vec<&Row> = round
                    .fates
                    .values()
                    .filter_map(|fate| fate.row.as_deref())
                    .collect();
                if !rows.is_empty() {
                    upsert(&mut transaction, at, target, sql, &rows, &mut applied).await?;
                }
                endings::by_bus(&mut transaction, at, target, sql, round, &mut applied).await?;
            }
        }
        rejects(&mut transaction, targets, &applied.refused).await?;
        bookkeeping(&mut transaction, targets, batch).await?;
        let moved = positions(&mut transaction, targets, batch, &applied).await?;
        if moved != batch.steps.len() as u64 {
            // Somebody else moved a position although this adapter owns the tables: by hand, or
            // an adapter of another version. Never write on top of it.
            return Err(Error::Superseded { schema });
        }
        limited(transaction.commit()).await?;
        Ok(applied)
    }
}

/// Proves, under a lock that lasts as long as the transaction, that no later owner came.
async fn owned(connection: &mut PgConnection, generation: i64, schema: &str) -> Result<(), Error> {
    let current: i64 = limited(
        sqlx::query_scalar("SELECT generation FROM mz_owner FOR SHARE").fetch_one(connection),
    )
    .await?;
    if current == generation {
        Ok(())
    } else {
        Err(Error::Superseded {
            schema: schema.to_owned(),
        })
    }
}

/// All rows in one statement. When the database refuses a value that passed every check, row
/// by row, so that one row never holds up the others.
async fn upsert(
    connection: &mut PgConnection,
    at: usize,
    target: &Target,
    sql: &TableSql,
    rows: &[&Row],
    applied: &mut Applied,
) -> Result<(), Error> {
    let mut savepoint = limited(connection.begin()).await?;
    let whole = limited(
        sql.upsert(&target.topic, &target.columns, rows)
            .fetch_all(&mut *savepoint),
    )
    .await;
    match whole {
        Ok(counts) => {
            limited(savepoint.commit()).await?;
            for row in counts {
                let lane: i32 = row.try_get(0).map_err(Error::Database)?;
                let count: i64 = row.try_get(1).map_err(Error::Database)?;
                *applied.stored.entry((at, lane)).or_default() += count;
            }
            return Ok(());
        }
        Err(Error::Database(error)) if refuses_value(&error) => {
            limited(savepoint.rollback()).await?
        }
        Err(error) => return Err(error),
    }
    for row in rows {
        let mut savepoint = limited(connection.begin()).await?;
        match limited(
            sql.upsert(&target.topic, &target.columns, &[row])
                .fetch_all(&mut *savepoint),
        )
        .await
        {
            Ok(counts) => {
                limited(savepoint.commit()).await?;
                if !counts.is_empty() {
                    *applied.stored.entry((at, row.lane)).or_default() += 1;
                }
            }
            Err(Error::Database(error)) if refuses_value(&error) => {
                limited(savepoint.rollback()).await?;
                applied.refused.push(Reject {
                    target: at,
                    lane: row.lane,
                    offset: row.offset,
                    code: "VALUE_UNSTORABLE",
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn rejects(
    connection: &mut PgConnection,
    targets: &[Target],
    rejects: &[Reject],
) -> Result<(), Error> {
    if rejects.is_empty() {
        return Ok(());
    }
    limited(
        sqlx::query(
            "INSERT INTO mz_rejects (topic, lane, \"offset\", code) \
             SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(rejects.iter().map(|r| targets[r.target].topic.clone()).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.lane).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.offset).collect::<Vec<_>>())
        .bind(rejects.iter().map(|r| r.code.to_owned()).collect::<Vec<_>>())
        .execute(connection),
    )
    .await
    .map(drop)
}

async fn bookkeeping(
    connection: &mut PgConnection,
    targets: &[Target],
    batch: &Batch,
) -> Result<(), Error> {
    rejects(connection, targets, &batch.rejects).await?;
    if !batch.sequences.is_empty() {
        let odd = &batch.sequences;
        limited(
            sqlx::query(
                "INSERT INTO mz_sequence_faults (topic, lane, \"offset\", kind, first_sequence, last_sequence) \
                 SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[]) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(odd.iter().map(|o| targets[o.target].topic.clone()).collect::<Vec<_>>())
            .bind(odd.iter().map(|o| o.lane).collect::<Vec<_>>())
            .bind(odd.iter().map(|o| o.offset).collect::<Vec<_>>())
            .bind(odd.iter().map(|o| o.kind.name().to_owned()).collect::<Vec<_>>())
            .bind(odd.iter().map(|o| o.first as i64).collect::<Vec<_>>())
            .bind(odd.iter().map(|o| o.last as i64).collect::<Vec<_>>())
            .execute(connection),
        )
        .await?;
    }
    Ok(())
}

/// Moves positions from where this batch began; answers how many really stood there.
async fn positions(
    connection: &mut PgConnection,
    targets: &[Target],
    batch: &Batch,
    applied: &Applied,
) -> Result<u64, Error> {
    let steps: Vec<&LaneStep> = batch.steps.values().collect();
    fn all<T>(steps: &[&LaneStep], get: impl Fn(&LaneStep) -> T) -> Vec<T> {
        steps.iter().map(|step| get(step)).collect()
    }
    let refused = |step: &LaneStep| {
        applied
            .refused
            .iter()
            .filter(|reject| (reject.target, reject.lane) == (step.target, step.lane))
            .count() as i64
    };
    let of = |counts: &Stored, step: &LaneStep| {
        counts.get(&(step.target, step.lane)).copied().unwrap_or(0)
    };
    let done = limited(
        sqlx::query(
            "UPDATE mz_positions AS p SET \
               next_offset = s.next_offset, last_sequence = s.last_sequence, \
               marked_sequence = coalesce(s.marked_sequence, p.marked_sequence), \
               marked_at = coalesce(s.marked_at, p.marked_at), \
               delivered = p.delivered + s.delivered, stored = p.stored + s.stored, \
               superseded = p.superseded + s.delivered - s.stored - s.withdrawn - s.rejected, \
               withdrawn = p.withdrawn + s.withdrawn, rejected = p.rejected + s.rejected \
             FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
                         $7::timestamptz[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) \
               AS s (topic, lane, was, next_offset, last_sequence, marked_sequence, marked_at, \
                     delivered, stored, withdrawn, rejected) \
             WHERE p.topic = s.topic AND p.lane = s.lane AND p.next_offset = s.was",
        )
        .bind(all(&steps, |step| targets[step.target].topic.clone()))
        .bind(all(&steps, |step| step.lane))
        .bind(all(&steps, |step| step.was.next_offset))
        .bind(all(&steps, |step| step.now.next_offset))
        .bind(all(&steps, |step| step.now.last_sequence as i64))
        .bind(all(&steps, |step| step.mark.map(|(sequence, _)| sequence as i64)))
        .bind(all(&steps, |step| {
            step.mark.and_then(|(_, at_ms)| DateTime::<Utc>::from_timestamp_millis(at_ms))
        }))
        .bind(all(&steps, |step| step.counts.delivered))
        .bind(all(&steps, |step| of(&applied.stored, step)))
        .bind(all(&steps, |step| step.counts.withdrawn + of(&applied.ordered, step)))
        .bind(all(&steps, |step| step.counts.rejected + refused(step)))
        .execute(connection),
    )
    .await?;
    Ok(done.rows_affected())
}

/// Every answer of the database is waited for only so long: a lost network says nothing.
pub(crate) async fn limited<T>(
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DATABASE_TIMEOUT, call).await {
        Ok(outcome) => outcome.map_err(Error::Database),
        Err(_) => Err(Error::DatabaseTimeout),
    }
}
