//! Builds the statements that read a register. The only place where SQL is put together from text:
//! the mapping's query is the integrator's own and is wrapped, names are quoted, marks are literals.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Name of the one cursor of a pass.
const CURSOR: &str = "mz_rows";

/// A name in double quotes.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes; the session has `standard_conforming_strings` on, so that a backslash is
/// a backslash. NUL can't stand in SQL at all and is refused by the database.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Where a pass over changes starts.
#[derive(Clone, Debug)]
pub(super) struct Since {
    pub column: String,
    /// PostgreSQL's name of the column's type, as it told us.
    pub kind: MarkKind,
    pub mark: String,
    pub overlap: u64,
}

/// What a watermark column may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind {
    Time(&'static str),
    Number(&'static str),
}

impl MarkKind {
    /// From the type's name; `None` for a type that has no order in time.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "TIMESTAMPTZ" => Self::Time("timestamptz"),
            "TIMESTAMP" => Self::Time("timestamp"),
            "DATE" => Self::Time("date"),
            "INT2" | "INT4" | "INT8" => Self::Number("int8"),
            "NUMERIC" => Self::Number("numeric"),
            _ => return None,
        })
    }
}

/// The mapping's query, to ask which columns it has.
pub(super) fn shape(query: &str) -> SqlStr {
    AssertSqlSafe(format!("SELECT * FROM (\n{query}\n) AS mz")).into_sql_str()
}

/// Opens the cursor over the wanted columns as text, in the order of the watermark.
pub(super) fn open(
    query: &str,
    columns: &[String],
    order: Option<&str>,
    since: Option<&Since>,
) -> SqlStr {
    let list: Vec<String> = columns
        .iter()
        .map(|name| format!("mz.{}::text", identifier(name)))
        .collect();
    let mut sql = format!(
        "DECLARE {CURSOR} NO SCROLL CURSOR FOR SELECT {} FROM (\n{query}\n) AS mz",
        list.join(", ")
    );
    if let Some(since) = since {
        let mark = literal(&since.mark);
        let from = match since.kind {
            MarkKind::Time(kind) => {
                format!(
                    "CAST({mark} AS {kind}) - make_interval(secs => {})",
                    since.overlap
                )
            }
            MarkKind::Number(kind) => format!("CAST({mark} AS {kind}) - {}", since.overlap),
        };
        sql.push_str(&format!(
            " WHERE mz.{} >= {from}",
            identifier(&since.column)
        ));
    }
    if let Some(column) = order {
        sql.push_str(&format!(" ORDER BY mz.{} NULLS FIRST", identifier(column)));
    }
    AssertSqlSafe(sql).into_sql_str()
}

/// The next rows of the cursor.
pub(super) fn fetch(rows: u32) -> SqlStr {
    AssertSqlSafe(format!("FETCH FORWARD {rows} FROM {CURSOR}")).into_sql_str()
}

pub(super) fn close() -> &'static str {
    "CLOSE mz_rows"
}

/// Settings of the session: texts come in one form whatever the database's defaults are.
pub(super) fn settings(offset_s: i32, timeout_ms: u128) -> Vec<SqlStr> {
    let sign = if offset_s < 0 { '-' } else { '+' };
    let minutes = offset_s.abs() / 60;
    [
        "SET standard_conforming_strings = on".to_owned(),
        "SET DateStyle = 'ISO, YMD'".to_owned(),
        "SET bytea_output = 'hex'".to_owned(),
        format!(
            "SET TIME ZONE INTERVAL '{sign}{:02}:{:02}' HOUR TO MINUTE",
            minutes / 60,
            minutes % 60
        ),
        format!("SET statement_timeout = {timeout_ms}"),
        "SET idle_in_transaction_session_timeout = 0".to_owned(),
    ]
    .into_iter()
    .map(|sql| AssertSqlSafe(sql).into_sql_str())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_marks_can_not_leave_their_quotes() {
        let since = Since {
            column: "a\"; DROP TABLE x; --".into(),
            kind: MarkKind::Time("timestamptz"),
            mark: "'; DROP TABLE x; --".into(),
            overlap: 60,
        };
        let sql = open("SELECT 1", &["b\"c".into()], Some("d"), Some(&since));
        let sql = sql.as_str();
        assert!(sql.contains("mz.\"b\"\"c\"::text"), "{sql}");
        assert!(
            sql.contains(
                "mz.\"a\"\"; DROP TABLE x; --\" >= CAST('''; DROP TABLE x; --' AS timestamptz)"
            ),
            "{sql}"
        );
    }
}
