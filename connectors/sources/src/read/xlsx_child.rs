//! The process that reads one sheet of one workbook, started by [`super::xlsx`]. A hostile workbook
//! of 1.5 KB can make the parser allocate until the process is killed; so it is killed here, where it
//! costs nothing but this sheet.
//!
//! Request on standard input (one JSON line), rows on standard output (one JSON line each). Limits
//! are set before the first byte of the workbook is read.

use crate::limits::{
    MAX_CELL_BYTES, MAX_ROW_BYTES, MAX_SHEET_CELLS, MAX_SHEET_COLUMNS, MAX_SHEET_ROWS,
    XLSX_CPU_SECONDS, XLSX_MEMORY_BYTES,
};
use calamine::{DataRef, Reader, Xlsx, XlsxError};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// A request larger than this is not from our parent, bytes.
const MAX_REQUEST_BYTES: u64 = 64 * 1024;
/// The child opens one file, besides what it inherited.
const MAX_OPEN_FILES: u64 = 64;
/// Days between the 1900 and the 1904 epoch.
const EPOCH_1904: f64 = 1462.0;

/// What to read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub path: PathBuf,
    /// Name, or `#1` for the first.
    pub sheet: String,
    /// Formula cells give the value that was stored with them.
    pub cached: bool,
}

/// One cell on its way to the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Wire {
    /// Text.
    T(String),
    /// Number.
    N(f64),
    /// Serial day (1900 epoch).
    D(f64),
    B(bool),
    /// The cell can't be read: reason code.
    F(String),
}

/// One line from the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Row number (1-based) and its cells by column (0-based), both rising.
    Row(u32, Vec<(u32, Wire)>),
    /// The sheet was read to its end.
    End,
    /// Reason code and detail.
    Fault(String, String),
}

type Fault = (&'static str, String);

/// Entry point of the hidden subcommand `__xlsx`.
#[must_use]
pub fn main() -> ExitCode {
    if limit().is_err() {
        return ExitCode::from(2);
    }
    let mut line = String::new();
    if std::io::stdin()
        .take(MAX_REQUEST_BYTES)
        .read_to_string(&mut line)
        .is_err()
    {
        return ExitCode::from(2);
    }
    let Ok(request) = serde_json::from_str::<Request>(&line) else {
        return ExitCode::from(2);
    };
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let last = match read(&request, &mut out) {
        Ok(()) => Message::End,
        Err((code, detail)) => Message::Fault(code.to_owned(), detail),
    };
    match send(&mut out, &last).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Memory, time, no files written, and no core dump that would hold the sheet.
fn limit() -> rustix::io::Result<()> {
    let set = |resource, limit| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            },
        )
    };
    set(Resource::Core, 0)?;
    set(Resource::As, XLSX_MEMORY_BYTES)?;
    set(Resource::Cpu, XLSX_CPU_SECONDS)?;
    set(Resource::Fsize, 0)?;
    set(Resource::Nofile, MAX_OPEN_FILES)
}

fn send(out: &mut impl Write, message: &Message) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, message)?;
    out.write_all(b"\n")
}

fn read(request: &Request, out: &mut impl Write) -> Result<(), Fault> {
    let file = File::open(&request.path)
        .map_err(|error| ("INPUT_UNREADABLE", error.kind().to_string()))?;
    let mut book: Xlsx<_> = Xlsx::new(BufReader::new(file)).map_err(fault)?;
    let sheets = book.sheet_names();
    let wanted = match request
        .sheet
        .strip_prefix('#')
        .and_then(|number| number.parse::<usize>().ok())
    {
        Some(number) => number.checked_sub(1).and_then(|index| sheets.get(index)),
        None => sheets.iter().find(|name| **name == request.sheet),
    };
    let Some(sheet) = wanted.cloned() else {
        return Err(("SHEET_MISSING", request.sheet.clone()));
    };
    let shift = if book.has_1904_epoch() {
        EPOCH_1904
    } else {
        0.0
    };
    let mut cells = book.worksheet_cells_reader(&sheet).map_err(fault)?;
    let mut row: Vec<(u32, Wire)> = Vec::new();
    let (mut current, mut count, mut bytes) = (0_u32, 0_u64, 0_usize);
    while let Some(cell) = cells.next_cell_with_formula_metadata().map_err(fault)? {
        count += 1;
        let (at, column) = cell.pos;
        if count > MAX_SHEET_CELLS || at >= MAX_SHEET_ROWS || column >= MAX_SHEET_COLUMNS {
            return Err((
                "SHEET_TOO_LARGE",
                format!("{MAX_SHEET_ROWS} × {MAX_SHEET_COLUMNS}, {MAX_SHEET_CELLS}"),
            ));
        }
        let number = at + 1;
        let disorder = number < current
            || (number == current && row.last().is_some_and(|(last, _)| *last >= column));
        if disorder {
            return Err(("SHEET_DISORDER", number.to_string()));
        }
        if number > current {
            flush(out, current, &mut row)?;
            (current, bytes) = (number, 0);
        }
        let formula = cell.formula.is_some();
        let wire = match (formula, request.cached) {
            (true, false) => Some(Wire::F("CELL_FORMULA".to_owned())),
            (true, true) if matches!(cell.value, DataRef::Empty) => {
                Some(Wire::F("CELL_FORMULA_NO_VALUE".to_owned()))
            }
            _ => wire(cell.value, shift),
        };
        if let Some(wire) = wire {
            if let Wire::T(text) = &wire {
                bytes += text.len();
            }
            if bytes > MAX_ROW_BYTES {
                return Err((
                    "SHEET_TOO_LARGE",
                    format!("{number}: {MAX_ROW_BYTES} bytes"),
                ));
            }
            row.push((column, wire));
        }
    }
    flush(out, current, &mut row)
}

fn flush(out: &mut impl Write, number: u32, row: &mut Vec<(u32, Wire)>) -> Result<(), Fault> {
    if row.is_empty() {
        return Ok(());
    }
    let message = Message::Row(number, std::mem::take(row));
    send(out, &message).map_err(|error| ("INPUT_UNREADABLE", error.kind().to_string()))
}

fn wire(value: DataRef<'_>, shift: f64) -> Option<Wire> {
    let text = |text: &str| {
        if text.len() > MAX_CELL_BYTES {
            Wire::F("CELL_TOO_LARGE".to_owned())
        } else {
            Wire::T(text.to_owned())
        }
    };
    match value {
        DataRef::Empty => None,
        DataRef::Int(number) => Some(Wire::T(number.to_string())),
        // JSON has no infinity, and no register does.
        DataRef::Float(number) if !number.is_finite() => Some(Wire::F("CELL_ERROR".to_owned())),
        DataRef::Float(number) => Some(Wire::N(number)),
        DataRef::String(value) => Some(text(&value)),
        DataRef::SharedString(value) => Some(text(value)),
        DataRef::Bool(value) => Some(Wire::B(value)),
        DataRef::DateTime(at) if at.is_duration() => Some(Wire::N(at.as_f64())),
        DataRef::DateTime(at) => Some(Wire::D(at.as_f64() + shift)),
        DataRef::DateTimeIso(value) | DataRef::DurationIso(value) => Some(text(&value)),
        DataRef::Error(_) => Some(Wire::F("CELL_ERROR".to_owned())),
    }
}

/// The parser's words are for the log; which part of the file failed is all that is told.
fn fault(error: XlsxError) -> Fault {
    match error {
        XlsxError::Password => ("XLSX_PASSWORD", String::new()),
        XlsxError::WorksheetNotFound(name) => ("SHEET_MISSING", name),
        XlsxError::NotAWorksheet(name) => ("SHEET_MISSING", name),
        XlsxError::Zip(_) => ("XLSX_DAMAGED", "zip".to_owned()),
        XlsxError::Xml(_) | XlsxError::XmlAttr(_) | XlsxError::XmlEof(_) => {
            ("XLSX_DAMAGED", "xml".to_owned())
        }
        _ => ("XLSX_DAMAGED", String::new()),
    }
}
