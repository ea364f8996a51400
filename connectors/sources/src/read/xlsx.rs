//! Workbooks, read by a process of their own (see [`super::xlsx_child`]): this side only sees lines of
//! bounded length, and a child that dies is a fault of the file.

use super::file::{self, Fingerprint};
use super::lines::{self, Line};
use super::xlsx_child::{Message, Request, Wire};
use super::{Next, Row, Table, header_places};
use crate::cell::Cell;
use crate::clean;
use crate::limits::MAX_ROW_BYTES;
use crate::mapping::plan::XlsxFormat;
use crate::mapping::raw::Formulas;
use mz_sdk::SourceError;
use std::ffi::OsString;
use std::io::{BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// JSON may write a character as six bytes.
const MAX_LINE_BYTES: usize = MAX_ROW_BYTES * 6 + 64 * 1024;
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

/// The program that reads a workbook: this one again, under its hidden subcommand.
#[derive(Clone, Debug)]
pub struct XlsxCommand {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

impl XlsxCommand {
    /// This very program with `__xlsx`.
    pub fn this_program() -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            args: vec!["__xlsx".into()],
        })
    }
}

/// Row number and cells by column, as the child has them.
type SheetRow = (u32, Vec<(u32, Wire)>);

/// One sheet.
pub struct XlsxTable {
    child: Child,
    from: BufReader<ChildStdout>,
    line: Vec<u8>,
    taken: u64,
    places: Vec<usize>,
    last_row: u32,
    path: PathBuf,
}

impl XlsxTable {
    pub fn open(
        path: &Path,
        format: &XlsxFormat,
        columns: &[String],
        command: &XlsxCommand,
    ) -> Result<(Self, Fingerprint), SourceError> {
        let (_, print) = file::open(path)?;
        let path = std::fs::canonicalize(path).map_err(|error| {
            SourceError::environment("INPUT_UNREADABLE", path.display().to_string()).because(error)
        })?;
        let request = Request {
            path: path.clone(),
            sheet: format.sheet.clone(),
            cached: format.formulas == Formulas::Cached,
        };
        let mut child = Command::new(&command.program)
            .args(&command.args)
            // What reads a hostile file gets no secrets from the environment.
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|value| ("LD_LIBRARY_PATH", value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| SourceError::environment("XLSX_READER", "").because(error))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| SourceError::environment("XLSX_READER", "stdout"))?;
        let mut table = Self {
            child,
            from: BufReader::with_capacity(1 << 16, stdout),
            line: Vec::new(),
            taken: 0,
            places: Vec::new(),
            last_row: 0,
            path,
        };
        table.request(&request)?;
        table.read_header(format, columns)?;
        Ok((table, print))
    }

    fn request(&mut self, request: &Request) -> Result<(), SourceError> {
        let text = serde_json::to_string(request)
            .map_err(|error| SourceError::environment("XLSX_READER", "").because(error))?;
        let sent = self
            .child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(text.as_bytes()));
        // A child that is already gone says why below.
        match sent {
            Some(Ok(())) | Some(Err(_)) | None => Ok(()),
        }
    }

    fn read_header(&mut self, format: &XlsxFormat, columns: &[String]) -> Result<(), SourceError> {
        loop {
            let Some((number, cells)) = self.row()? else {
                return Err(SourceError::input(
                    "HEADER_ROW_ABSENT",
                    format.header.to_string(),
                ));
            };
            if number < format.header {
                continue;
            }
            if number > format.header {
                return Err(SourceError::input(
                    "HEADER_ROW_ABSENT",
                    format.header.to_string(),
                ));
            }
            let width = cells.last().map_or(0, |(column, _)| *column as usize + 1);
            let mut header = vec![String::new(); width];
            for (column, wire) in cells {
                if let (Some(name), Ok(text)) = (header.get_mut(column as usize), cell(wire).text())
                {
                    *name = clean::trim(&text).to_owned();
                }
            }
            self.places = header_places(&header, columns)?;
            return Ok(());
        }
    }

    /// The next row, as the child has it.
    fn row(&mut self) -> Result<Option<SheetRow>, SourceError> {
        let found = lines::next(
            &mut self.from,
            &mut self.line,
            MAX_LINE_BYTES,
            &mut self.taken,
        )
        .map_err(|error| SourceError::environment("XLSX_READER", "").because(error))?;
        if found != Line::Whole {
            return Err(self.post_mortem());
        }
        match serde_json::from_slice(&self.line) {
            Ok(Message::Row(number, cells)) if number > self.last_row => {
                self.last_row = number;
                Ok(Some((number, cells)))
            }
            Ok(Message::End) => Ok(None),
            Ok(Message::Fault(code, detail)) => Err(SourceError::input(known_code(&code), detail)),
            _ => Err(SourceError::input("XLSX_DAMAGED", "")),
        }
    }

    /// Why the child ended in the middle.
    fn post_mortem(&mut self) -> SourceError {
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return SourceError::environment("XLSX_READER", "").because(error),
        };
        let code = match status.signal() {
            Some(SIGXCPU) => "XLSX_TOO_SLOW",
            // The kernel kills at the hard limit; an allocation that fails aborts.
            Some(SIGABRT | SIGKILL | SIGSEGV) => "XLSX_TOO_LARGE",
            _ if status.code() == Some(2) => return SourceError::environment("XLSX_READER", ""),
            _ => "XLSX_DAMAGED",
        };
        SourceError::input(code, self.path.display().to_string())
    }
}

impl Table for XlsxTable {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        let Some((number, cells)) = self.row()? else {
            return Ok(Next::End);
        };
        row.number = u64::from(number);
        row.cells.clear();
        row.cells.resize(self.places.len(), Cell::Empty);
        for (column, wire) in cells {
            if let Some(place) = self
                .places
                .iter()
                .position(|place| *place == column as usize)
            {
                row.cells[place] = cell(wire);
            }
        }
        Ok(Next::Row)
    }

    fn progress(&self) -> Option<(u64, u64)> {
        // How many rows a sheet has is known only at its end.
        None
    }
}

impl Drop for XlsxTable {
    fn drop(&mut self) {
        // Gone already, or not needed any more; waited for, so that it leaves no zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cell(wire: Wire) -> Cell {
    match wire {
        Wire::T(text) => Cell::Text(text),
        Wire::N(number) => Cell::Number(number),
        Wire::D(days) => Cell::Serial(days),
        Wire::B(value) => Cell::Bool(value),
        Wire::F(code) => Cell::Fault(known_code(&code)),
    }
}

/// The child's codes; whatever else comes from there is a damaged file.
fn known_code(code: &str) -> &'static str {
    const CODES: [&str; 12] = [
        "INPUT_UNREADABLE",
        "SHEET_MISSING",
        "SHEET_TOO_LARGE",
        "SHEET_DISORDER",
        "CELL_FORMULA",
        "CELL_FORMULA_NO_VALUE",
        "CELL_TOO_LARGE",
        "CELL_ERROR",
        "XLSX_PASSWORD",
        "XLSX_DAMAGED",
        "XLSX_TOO_LARGE",
        "XLSX_TOO_SLOW",
    ];
    CODES
        .into_iter()
        .find(|known| *known == code)
        .unwrap_or("XLSX_DAMAGED")
}
