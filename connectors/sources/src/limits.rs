//! Every limit on what is read from a register, in one place. docs/integrator.md lists them.

use std::time::Duration;

/// One cell, bytes of its text. Longer ones reject their row.
pub const MAX_CELL_BYTES: usize = 1024 * 1024;
/// One row, bytes.
pub const MAX_ROW_BYTES: usize = 4 * 1024 * 1024;
/// How far a quoted cell is followed beyond [`MAX_ROW_BYTES`] before the quote counts as unclosed.
pub const MAX_QUOTED_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes that may be read twice in one CSV file, to go on after a quote that was never closed.
pub const MAX_REREAD_BYTES: u64 = 256 * 1024 * 1024;
/// Columns of a table.
pub const MAX_COLUMNS: usize = 1_024;
/// Rows above the header.
pub const MAX_HEADER_ROW: u32 = 100;
/// Nesting of one JSON record.
pub const MAX_JSON_DEPTH: usize = 16;
/// Rows of one sheet: what the format allows.
pub const MAX_SHEET_ROWS: u32 = 1_048_576;
/// Columns of one sheet: what the format allows.
pub const MAX_SHEET_COLUMNS: u32 = 16_384;
/// Cells of one sheet.
pub const MAX_SHEET_CELLS: u64 = 100_000_000;
/// Address space of the process that reads a workbook, bytes.
pub const XLSX_MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// CPU time of the process that reads a workbook, seconds.
pub const XLSX_CPU_SECONDS: u64 = 600;
/// Bytes of a child table that is joined in; it is held in memory.
pub const MAX_JOIN_BYTES: usize = 512 * 1024 * 1024;
/// Child rows of one parent row.
pub const MAX_CHILDREN: usize = 1_000;
/// Rows that one `read` yields.
pub const CHUNK_ROWS: usize = 500;
/// Rows that one database fetch brings.
pub const FETCH_ROWS: u32 = 2_000;
/// Columns of one row that are reported when it is rejected.
pub const MAX_FAULTS_PER_ROW: usize = 16;
/// A mapping or connector configuration file, bytes.
pub const MAX_YAML_BYTES: u64 = 1024 * 1024;
/// Shortest time between two looks at a register.
pub const MIN_POLL: Duration = Duration::from_millis(200);
/// Time between two looks at a register when the configuration says nothing.
pub const DEFAULT_POLL: Duration = Duration::from_secs(30);
/// Pause before a register that could not be read is tried again.
pub const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Time between two progress lines when there is no terminal.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Longest time one fetch from a database may take.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);
