//! The statements for tables that the contract shapes. The only place that builds SQL from
//! names; every name is an [`Ident`], every text a [`Literal`], every value a parameter.

use std::fmt::Write as _;

use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::check::Row;
use crate::column::{Cell, Column, ColumnType};
use crate::config::OnWithdrawal;
use crate::ident::{Ident, Literal};
use crate::target::Target;

/// Columns of every table: name, type.
const OWN: [(&str, &str); 10] = [
    ("mz_person", "bytea"),
    ("mz_record", "bytea"),
    ("mz_epoch", "bigint"),
    ("mz_counter", "bigint"),
    ("mz_event_time", "timestamptz"),
    ("mz_lane", "integer"),
    ("mz_sequence", "bigint"),
    ("mz_audit_number", "bigint"),
    ("mz_value", "bytea"),
    ("mz_seal", "bytea"),
];

/// What people see beside the columns of every table.
const OWN_COMMENTS: [(&str, &str); 12] = [
    (
        "mz_person",
        "同一人在本用途各表中相同的假名 · pseudonym of the person, the same in all tables of this purpose",
    ),
    ("mz_record", "记录标签 · tag of the record"),
    ("mz_epoch", "版本（流纪元） · version: stream epoch"),
    (
        "mz_counter",
        "版本（计数） · version: counter within the epoch",
    ),
    (
        "mz_event_time",
        "登记簿变更时间 · when the register changed",
    ),
    ("mz_lane", "通道 · lane (partition)"),
    ("mz_sequence", "投递序号 · delivery sequence"),
    (
        "mz_audit_number",
        "审计编号（同一通道） · number of the audit record in the same lane",
    ),
    ("mz_value", "投递的原始字节 · delivered bytes"),
    (
        "mz_seal",
        "签发部门的封印 · the issuing department's seal over them",
    ),
    ("mz_stored_at", "写入本表的时间 · when the row was written"),
    (
        "mz_withdrawn_at",
        "撤回时间；非空则不得再使用 · withdrawn at; if set, the row must not be used",
    ),
];

/// Prepared texts of one table.
#[derive(Debug)]
pub(crate) struct TableSql {
    upsert: SqlStr,
    end: SqlStr,
}

fn safe(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// Makes the schema.
pub(crate) fn create_schema(schema: &Ident) -> SqlStr {
    safe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))
}

/// Makes the table and its missing columns, and describes them.
pub(crate) fn create_table(target: &Target) -> SqlStr {
    let table = &target.table;
    let mut sql = format!(
        "CREATE TABLE IF NOT EXISTS {table} (\n\
           \"mz_person\" bytea NOT NULL,\n\
           \"mz_record\" bytea NOT NULL,\n\
           \"mz_epoch\" bigint NOT NULL,\n\
           \"mz_counter\" bigint NOT NULL,\n\
           \"mz_event_time\" timestamptz NOT NULL,\n\
           \"mz_lane\" integer NOT NULL,\n\
           \"mz_sequence\" bigint NOT NULL,\n\
           \"mz_audit_number\" bigint NOT NULL,\n\
           \"mz_value\" bytea,\n\
           \"mz_seal\" bytea,\n\
           \"mz_stored_at\" timestamptz NOT NULL DEFAULT now(),\n\
           \"mz_withdrawn_at\" timestamptz,\n\
           PRIMARY KEY (\"mz_person\", \"mz_record\")\n);\n"
    );
    for column in &target.columns {
        let _ = writeln!(
            sql,
            "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {} {};",
            column.name,
            column.ty.sql()
        );
    }
    let _ = writeln!(
        sql,
        "COMMENT ON TABLE {table} IS {};",
        Literal(&target.title)
    );
    for column in &target.columns {
        let _ = writeln!(
            sql,
            "COMMENT ON COLUMN {table}.{} IS {};",
            column.name,
            Literal(&column.comment)
        );
    }
    for (name, comment) in OWN_COMMENTS {
        let _ = writeln!(
            sql,
            "COMMENT ON COLUMN {table}.\"{name}\" IS {};",
            Literal(comment)
        );
    }
    safe(sql)
}

impl TableSql {
    pub fn new(target: &Target, on_withdrawal: OnWithdrawal) -> Self {
        Self {
            upsert: safe(upsert(&target.table, &target.columns)),
            end: safe(end(&target.table, on_withdrawal)),
        }
    }

    /// Writes rows, none twice; answers one (lane, rows written) per lane. A row that is not
    /// newer than the table's or than its register's withdrawal is left out; one that is marked
    /// counts as gone.
    pub fn upsert<'q>(
        &self,
        topic: &str,
        columns: &[Column],
        rows: &[&Row],
    ) -> Query<'q, Postgres, PgArguments> {
        fn all<T>(rows: &[&Row], get: impl Fn(&Row) -> T) -> Vec<T> {
            rows.iter().map(|row| get(row)).collect()
        }
        let mut query = sqlx::query(self.upsert.clone())
            .bind(topic.to_owned())
            .bind(all(rows, |row| row.key[..16].to_vec()))
            .bind(all(rows, |row| row.key[16..].to_vec()))
            .bind(all(rows, |row| i64::from(row.version.epoch)))
            .bind(all(rows, |row| row.version.counter as i64))
            .bind(all(rows, |row| {
                chrono::DateTime::from_timestamp_millis(row.event_ms).unwrap_or_default()
            }))
            .bind(all(rows, |row| row.lane))
            .bind(all(rows, |row| row.sequence))
            .bind(all(rows, |row| row.audit_number))
            .bind(all(rows, |row| {
                row.proof.as_ref().map(|proof| proof.value.clone())
            }))
            .bind(all(rows, |row| {
                row.proof.as_ref().map(|proof| proof.seal.clone())
            }));
        for (at, column) in columns.iter().enumerate() {
            macro_rules! cells {
                ($kind:ident) => {
                    query.bind(all(rows, |row| match &row.cells[at] {
                        Cell::$kind(value) => Some(value.clone()),
                        _ => None,
                    }))
                };
            }
            query = match column.ty {
                ColumnType::Boolean => cells!(Boolean),
                ColumnType::Integer => cells!(Integer),
                ColumnType::Bigint => cells!(Bigint),
                ColumnType::Double => cells!(Double),
                ColumnType::Bytea => cells!(Bytea),
                ColumnType::Date => cells!(Date),
                ColumnType::Timestamptz => cells!(Timestamptz),
                ColumnType::Text | ColumnType::Numeric { .. } | ColumnType::Jsonb => cells!(Text),
            };
        }
        query
    }

    /// Ends rows and writes down what became of them. $1 is the topic; then arrays: $2 person,
    /// $3 record, $4 epoch, $5 counter, $6 reason, $7 order or null, $8 lane, $9 offset,
    /// $10 sequence; a record comes once. Answers (lane, action, how many).
    pub fn end(&self) -> SqlStr {
        self.end.clone()
    }
}

/// The type in which a column's array travels; numeric and jsonb as text.
fn array_type(ty: ColumnType) -> String {
    match ty {
        ColumnType::Numeric { .. } | ColumnType::Jsonb => "text".into(),
        other => other.sql(),
    }
}

fn upsert(table: &Ident, columns: &[Column]) -> String {
    let own = OWN
        .iter()
        .map(|(name, ty)| (format!("\"{name}\""), (*ty).to_owned(), None));
    let theirs = columns.iter().map(|column| {
        let cast = matches!(column.ty, ColumnType::Numeric { .. } | ColumnType::Jsonb)
            .then(|| column.ty.sql());
        (column.name.to_string(), array_type(column.ty), cast)
    });
    // Name, type of the array, type to cast to.
    let all: Vec<(String, String, Option<String>)> = own.chain(theirs).collect();
    let names = all
        .iter()
        .map(|(name, _, _)| name.clone())
        .collect::<Vec<_>>()
        .join(", ");
    let values = all
        .iter()
        .map(|(name, _, cast)| match cast {
            Some(cast) => format!("r.{name}::{cast}"),
            None => format!("r.{name}"),
        })
        .collect::<Vec<_>>()
        .join(", ");
    // $1 is the topic.
    let arrays = all
        .iter()
        .enumerate()
        .map(|(at, (_, ty, _))| format!("${}::{ty}[]", at + 2))
        .collect::<Vec<_>>()
        .join(", ");
    let updates = all
        .iter()
        .skip(2)
        .map(|(name, _, _)| format!("{name} = EXCLUDED.{name}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "WITH written AS (\n\
           INSERT INTO {table} AS t ({names})\n\
           SELECT {values} FROM unnest({arrays}) AS r ({names})\n\
           LEFT JOIN \"mz_withdrawn\" AS w\n\
             ON w.\"topic\" = $1 AND w.\"mz_person\" = r.\"mz_person\" AND w.\"mz_record\" = r.\"mz_record\"\n\
           WHERE w.\"topic\" IS NULL\n\
              OR (r.\"mz_epoch\", r.\"mz_counter\") > (w.\"mz_epoch\", w.\"mz_counter\")\n\
           ON CONFLICT (\"mz_person\", \"mz_record\") DO UPDATE\n\
             SET {updates}, \"mz_stored_at\" = now(), \"mz_withdrawn_at\" = NULL\n\
             WHERE t.\"mz_withdrawn_at\" IS NOT NULL\n\
                OR (EXCLUDED.\"mz_epoch\", EXCLUDED.\"mz_counter\") > (t.\"mz_epoch\", t.\"mz_counter\")\n\
           RETURNING \"mz_lane\"\n\
         ) SELECT \"mz_lane\", count(*) FROM written GROUP BY \"mz_lane\""
    )
}

/// A hold that covers `{person}` now. $1 is the topic.
macro_rules! held {
    ($person:literal, $topic:literal) => {
        concat!(
            "EXISTS (SELECT FROM mz_legal_hold AS h WHERE h.mz_person = ",
            $person,
            " AND (h.topic IS NULL OR h.topic = ",
            $topic,
            ") AND h.since <= now() AND (h.until IS NULL OR h.until > now()))"
        )
    };
}

/// Rows go, are marked, or move to `mz_frozen`; each order gets its receipt. An order that finds
/// nothing but a frozen copy says so, and is bound to that copy's release.
fn end(table: &Ident, on_withdrawal: OnWithdrawal) -> String {
    let freeze = match on_withdrawal {
        OnWithdrawal::Delete => held!("w.person", "$1"),
        OnWithdrawal::Mark => "false",
        OnWithdrawal::Freeze => "true",
    };
    // Without a rule to keep it, a frozen record waits for nothing but the end of the hold.
    let release = match on_withdrawal {
        OnWithdrawal::Delete | OnWithdrawal::Mark => "now()",
        OnWithdrawal::Freeze => "NULL",
    };
    let which = "t.\"mz_person\" = n.person AND t.\"mz_record\" = n.record \
                 AND (t.\"mz_epoch\", t.\"mz_counter\") <= (n.epoch, n.counter)";
    let returning = "t.\"mz_person\" AS person, t.\"mz_record\" AS record, \
                     t.\"mz_epoch\" AS kept_epoch, t.\"mz_counter\" AS kept_counter, \
                     CASE WHEN n.freeze THEN to_jsonb(t) END AS kept";
    let (act, done) = match on_withdrawal {
        OnWithdrawal::Mark => (
            format!(
                "UPDATE {table} AS t SET \"mz_withdrawn_at\" = coalesce(t.\"mz_withdrawn_at\", now()) \
                 FROM n WHERE {which} RETURNING {returning}"
            ),
            "'marked'",
        ),
        OnWithdrawal::Delete | OnWithdrawal::Freeze => (
            format!("DELETE FROM {table} AS t USING n WHERE {which} RETURNING {returning}"),
            "'deleted'",
        ),
    };
    format!(
        "WITH n AS (\n\
           SELECT w.*, {freeze} AS freeze\n\
           FROM unnest($2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], \
                       $7::bytea[], $8::integer[], $9::bigint[], $10::bigint[])\n\
             AS w (person, record, epoch, counter, reason, order_id, lane, \"offset\", sequence)\n\
         ), gone AS ({act}\n\
         ), done AS (\n\
           SELECT n.*, gone.kept_epoch, gone.kept_counter, gone.kept,\n\
             CASE WHEN gone.person IS NOT NULL THEN CASE WHEN n.freeze THEN 'frozen' ELSE {done} END\n\
                  WHEN EXISTS (SELECT FROM mz_frozen AS f WHERE f.topic = $1 \
                               AND f.mz_person = n.person AND f.mz_record = n.record \
                               AND (f.mz_epoch, f.mz_counter) <= (n.epoch, n.counter)) THEN 'frozen'\n\
                  ELSE 'absent' END AS action\n\
           FROM n LEFT JOIN gone ON gone.person = n.person AND gone.record = n.record\n\
         ), frozen AS (\n\
           INSERT INTO mz_frozen (topic, mz_person, mz_record, mz_epoch, mz_counter, record, order_id, \
                                  lane, \"offset\", sequence, reason, release_at)\n\
           SELECT $1, person, record, coalesce(kept_epoch, epoch), coalesce(kept_counter, counter), kept, \
                  order_id, lane, \"offset\", sequence, reason, {release}\n\
           FROM done WHERE action = 'frozen' AND (kept IS NOT NULL OR (order_id IS NOT NULL \
             AND NOT EXISTS (SELECT FROM mz_frozen AS f WHERE f.topic = $1 AND f.mz_person = done.person \
                             AND f.mz_record = done.record AND f.order_id = done.order_id)))\n\
         ), receipts AS (\n\
           INSERT INTO mz_receipts (order_id, topic, lane, \"offset\", sequence, mz_person, mz_record, \
                                    mz_epoch, mz_counter, reason, action)\n\
           SELECT order_id, $1, lane, \"offset\", sequence, person, record, epoch, counter, reason, action\n\
           FROM done WHERE order_id IS NOT NULL\n\
             AND NOT EXISTS (SELECT FROM mz_receipts AS r WHERE r.topic = $1 AND r.order_id = done.order_id \
                             AND r.mz_person = done.person AND r.mz_record = done.record)\n\
           ON CONFLICT DO NOTHING\n\
         ) SELECT lane, action, count(*) FROM done GROUP BY lane, action"
    )
}

/// Deletes what was frozen once its time has come and no hold covers it; each order gets another
/// receipt. Answers how many records that were.
pub(crate) const RELEASE: &str = concat!(
    "WITH gone AS (\
       DELETE FROM mz_frozen AS f WHERE f.release_at <= now() AND NOT ",
    held!("f.mz_person", "f.topic"),
    " RETURNING f.*\
     ), receipts AS (\
       INSERT INTO mz_receipts (order_id, topic, lane, \"offset\", sequence, mz_person, mz_record, \
                                mz_epoch, mz_counter, reason, action) \
       SELECT order_id, topic, lane, \"offset\", sequence, mz_person, mz_record, \
              mz_epoch, mz_counter, reason, 'deleted' \
       FROM gone WHERE order_id IS NOT NULL ON CONFLICT DO NOTHING\
     ) SELECT count(record) FROM gone"
);
