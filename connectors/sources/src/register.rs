//! A register as a [`Source`]: opens the table that the mapping names, joins its child tables, maps
//! row by row.

use crate::cell::Cell;
use crate::join::{ChildRow, Children};
use crate::limits::CHUNK_ROWS;
use crate::mapping::plan::{Input, Mapping, Watermark};
use crate::mapping::{Made, Mapper};
use crate::read::csv::CsvTable;
use crate::read::file::{self, Fingerprint};
use crate::read::ndjson::NdjsonTable;
use crate::read::postgres::{PostgresTable, Session, Shared};
use crate::read::xlsx::{XlsxCommand, XlsxTable};
use crate::read::{Next, Row, Table};
use mz_sdk::{Chunk, Pass, PassEnd, Source, SourceError, SourceErrorKind};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a table lies.
#[derive(Clone)]
pub enum Place {
    /// A file; a `*` in its name takes the name that sorts last.
    File(PathBuf),
    /// A database, by its URL. The URL holds a password: it is never shown.
    Database(String),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Database(_) => f.write_str("Database(…)"),
        }
    }
}

/// A register read by a mapping.
pub struct Register {
    mapping: Arc<Mapping>,
    main: Place,
    /// One for each join of the mapping.
    joins: Vec<Place>,
    xlsx: XlsxCommand,
    reading: Option<Reading>,
    /// State of the files at the last pass that need not be repeated.
    settled: Option<Vec<(PathBuf, Fingerprint)>>,
}

/// One pass.
struct Reading {
    table: Box<dyn Table>,
    session: Option<Shared>,
    mapper: Mapper,
    row: Row,
    files: Vec<(PathBuf, Fingerprint)>,
    position: Position,
    complete_to_ms: i64,
    complete: bool,
}

/// Where a watermarked query got to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    /// Highest mark read, in the database's own text.
    mark: Option<String>,
    /// When the register was last read as a whole (Unix milliseconds).
    full_ms: i64,
}

impl Register {
    #[must_use]
    pub fn new(mapping: Arc<Mapping>, main: Place, joins: Vec<Place>, xlsx: XlsxCommand) -> Self {
        Self {
            mapping,
            main,
            joins,
            xlsx,
            reading: None,
            settled: None,
        }
    }

    /// The files as they are now, or `None` when one is no file or is not there.
    fn files(&self) -> Option<Vec<(PathBuf, Fingerprint)>> {
        std::iter::once(&self.main)
            .chain(&self.joins)
            .map(|place| match place {
                Place::File(path) => {
                    let path = file::resolve(path).ok()?;
                    let print = file::fingerprint(&path)?;
                    Some((path, print))
                }
                Place::Database(_) => None,
            })
            .collect()
    }

    fn open_pass(&mut self, after: Option<&[u8]>) -> Result<Pass, SourceError> {
        let mut files = Vec::new();
        let mut session = None;
        let mut children = Vec::new();
        for (join, place) in self.mapping.joins.iter().zip(&self.joins) {
            let mut opener = Opener {
                files: &mut files,
                session: &mut session,
                xlsx: &self.xlsx,
                offset_s: self.mapping.offset_s,
            };
            let mut table = opener.open(&join.input, place, &join.columns, None)?;
            let mut kept = Children::new(&join.name, &join.columns);
            let mut row = Row::default();
            loop {
                match table.next(&mut row)? {
                    Next::End => break,
                    Next::Row if row.cells.iter().all(Cell::is_blank) => {}
                    Next::Row => {
                        let row = ChildRow {
                            number: row.number,
                            cells: row.cells.clone(),
                        };
                        kept.add(join.on.iter().map(|(child, _)| *child), row)?;
                    }
                    // Whose child it is can't be known, so nobody's list would be certain.
                    Next::Bad(bad) => {
                        let detail = format!("{}: {} ({})", join.name, bad.number, bad.code);
                        return Err(SourceError::input("JOIN_ROW", detail));
                    }
                }
            }
            if !table.complete() {
                return Err(SourceError::input("INPUT_TRUNCATED", join.name.clone()));
            }
            children.push(kept);
        }
        let watermark = match &self.mapping.input {
            Input::Postgres(query) => query.watermark.as_ref(),
            _ => None,
        };
        let before: Position = after
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default();
        let changes = watermark.is_some_and(|watermark| !is_full_due(watermark, &before));
        let mark = if changes { before.mark.clone() } else { None };
        let mut opener = Opener {
            files: &mut files,
            session: &mut session,
            xlsx: &self.xlsx,
            offset_s: self.mapping.offset_s,
        };
        let table = opener.open(
            &self.mapping.input,
            &self.main,
            &self.mapping.columns,
            mark.as_deref(),
        )?;
        let complete_to_ms = match &session {
            Some(session) => session.borrow().taken_ms(),
            None => files
                .iter()
                .map(|(_, print)| print.written_ms())
                .min()
                .unwrap_or_default()
                .min(file::now_ms()),
        };
        let full_ms = if changes {
            before.full_ms
        } else {
            complete_to_ms
        };
        self.reading = Some(Reading {
            table,
            session,
            mapper: Mapper::new(Arc::clone(&self.mapping), children),
            row: Row::default(),
            files,
            position: Position {
                mark: before.mark,
                full_ms,
            },
            complete_to_ms,
            complete: true,
        });
        Ok(if changes {
            Pass::Changes
        } else {
            Pass::Snapshot
        })
    }

    /// Place of the watermark in a row.
    fn mark_place(&self) -> Option<usize> {
        let Input::Postgres(query) = &self.mapping.input else {
            return None;
        };
        let watermark = query.watermark.as_ref()?;
        self.mapping
            .columns
            .iter()
            .position(|column| *column == watermark.column)
    }

    /// A bad file stays bad until somebody changes it: it is reported once, not at every look.
    fn settle_if_input(&mut self, error: &SourceError) {
        if error.kind == SourceErrorKind::Input && error.code != "INPUT_CHANGED" {
            self.settled = self.files();
        }
        self.reading = None;
    }
}

fn is_full_due(watermark: &Watermark, before: &Position) -> bool {
    if before.mark.is_none() {
        return true;
    }
    let since_ms = u128::try_from(file::now_ms() - before.full_ms).unwrap_or(0);
    watermark
        .full_every
        .is_some_and(|every| since_ms >= every.as_millis())
}

struct Opener<'a> {
    files: &'a mut Vec<(PathBuf, Fingerprint)>,
    session: &'a mut Option<Shared>,
    xlsx: &'a XlsxCommand,
    offset_s: i32,
}

impl Opener<'_> {
    fn open(
        &mut self,
        input: &Input,
        place: &Place,
        columns: &[String],
        mark: Option<&str>,
    ) -> Result<Box<dyn Table>, SourceError> {
        let path = match (input, place) {
            (Input::Postgres(query), Place::Database(url)) => {
                let session = match &self.session {
                    Some(session) => Shared::clone(session),
                    None => self
                        .session
                        .insert(Session::open(url, self.offset_s)?)
                        .clone(),
                };
                return Ok(Box::new(PostgresTable::open(
                    &session, query, columns, mark,
                )?));
            }
            (Input::Postgres(_), Place::File(_)) | (_, Place::Database(_)) => {
                return Err(SourceError::configuration("CONNECT_PLACE", ""));
            }
            (_, Place::File(path)) => file::resolve(path)?,
        };
        let (table, print): (Box<dyn Table>, _) = match input {
            Input::Csv(format) => boxed(CsvTable::open(&path, format, columns)?),
            Input::Ndjson => boxed(NdjsonTable::open(&path, columns)?),
            Input::Xlsx(format) => boxed(XlsxTable::open(&path, format, columns, self.xlsx)?),
            Input::Postgres(_) => return Err(SourceError::configuration("CONNECT_PLACE", "")),
        };
        self.files.push((path, print));
        Ok(table)
    }
}

fn boxed<T: Table + 'static>((table, print): (T, Fingerprint)) -> (Box<dyn Table>, Fingerprint) {
    (Box::new(table), print)
}

impl Source for Register {
    fn begin(&mut self, after: Option<&[u8]>) -> Result<Pass, SourceError> {
        self.reading = None;
        if self.settled.is_some() && self.settled == self.files() {
            return Ok(Pass::Unchanged);
        }
        let pass = self.open_pass(after);
        if let Err(error) = &pass {
            self.settle_if_input(error);
        }
        pass
    }

    fn read(&mut self, chunk: &mut Chunk) -> Result<bool, SourceError> {
        let mark_place = self.mark_place();
        let Some(reading) = &mut self.reading else {
            return Ok(false);
        };
        for _ in 0..CHUNK_ROWS {
            let Reading {
                table, mapper, row, ..
            } = reading;
            match table.next(row) {
                Err(error) => {
                    self.settle_if_input(&error);
                    return Err(error);
                }
                Ok(Next::Bad(bad)) => chunk.reject(bad.into_reject()),
                Ok(Next::Row) => {
                    if let Some(Ok(mark)) = mark_place
                        .and_then(|place| row.cells.get(place))
                        .map(Cell::text)
                        && !mark.is_empty()
                    {
                        reading.position.mark = Some(mark.into_owned());
                    }
                    mapper.row(row.number, &row.cells, |made| match made {
                        Made::Event(event) => chunk.event(event),
                        Made::Rejects(rejects) => {
                            rejects.into_iter().for_each(|reject| chunk.reject(reject))
                        }
                        Made::Skipped => chunk.skipped(),
                    });
                }
                Ok(Next::End) => {
                    reading.complete = table.complete();
                    let mapper = std::mem::replace(
                        mapper,
                        Mapper::new(Arc::clone(&self.mapping), Vec::new()),
                    );
                    for orphan in mapper
                        .into_children()
                        .into_iter()
                        .flat_map(Children::orphans)
                    {
                        chunk.reject(orphan);
                    }
                    if mark_place.is_some() {
                        chunk.reached(encode(&reading.position)?);
                    }
                    return Ok(false);
                }
            }
        }
        if mark_place.is_some() {
            chunk.reached(encode(&reading.position)?);
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<PassEnd, SourceError> {
        let Some(reading) = self.reading.take() else {
            return Err(SourceError::environment("INPUT_UNREADABLE", ""));
        };
        let Reading {
            table,
            session,
            files,
            complete_to_ms,
            complete,
            ..
        } = reading;
        drop(table);
        if let Some(session) = session {
            Session::close(session);
        }
        for (path, print) in &files {
            file::unchanged(path, *print)?;
        }
        if !files.is_empty() {
            self.settled = self.files();
        }
        Ok(PassEnd {
            complete_to_ms,
            complete,
        })
    }

    fn progress(&self) -> Option<(u64, u64)> {
        self.reading.as_ref()?.table.progress()
    }
}

fn encode(position: &Position) -> Result<Vec<u8>, SourceError> {
    serde_json::to_vec(position)
        .map_err(|error| SourceError::configuration("WATERMARK_TYPE", "").because(error))
}
