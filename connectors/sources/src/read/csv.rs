//! Delimited text. Rows are cut from bytes before they are decoded, so that a broken character
//! spoils its cell and no more; a quote that is never closed spoils its line and no more.

use super::file::{self, Fingerprint};
use super::{BadRow, Next, Row, Table, header_places, raw_start};
use crate::cell::Cell;
use crate::clean;
use crate::limits::{
    MAX_CELL_BYTES, MAX_COLUMNS, MAX_QUOTED_BYTES, MAX_REREAD_BYTES, MAX_ROW_BYTES,
};
use crate::mapping::plan::CsvFormat;
use csv_core::ReadRecordResult;
use encoding_rs::Encoding;
use mz_sdk::SourceError;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

const WINDOW: usize = 64 * 1024;
/// Starts with this many ends of cells; grows to [`MAX_COLUMNS`].
const FIRST_ENDS: usize = 64;

/// One delimited file.
pub struct CsvTable {
    file: File,
    size: u64,
    encoding: &'static Encoding,
    format: CsvFormat,
    core: csv_core::Reader,
    window: Vec<u8>,
    at: usize,
    filled: usize,
    /// File offset of the end of the window.
    offset: u64,
    line: u64,
    cells: Vec<u8>,
    ends: Vec<usize>,
    /// Columns of the header.
    width: usize,
    /// Places of the wanted columns.
    places: Vec<usize>,
    names: Vec<String>,
    reread: u64,
    complete: bool,
}

/// One record as cut, before anybody looks into its cells.
struct Cut {
    /// File offset and line of its first byte.
    offset: u64,
    line: u64,
    /// Cells; `None` when it did not fit the limits.
    cells: Option<usize>,
    /// The file ended inside it.
    unended: bool,
    /// The file ended inside a quoted cell, or the quoted cell went on beyond the limit.
    open_quote: bool,
    /// The file ended on the record's first line, inside a quoted cell.
    unended_quote: bool,
    /// It goes over line ends: some cell is quoted, or a quote swallowed lines.
    spans_lines: bool,
}

impl CsvTable {
    pub fn open(
        path: &Path,
        format: &CsvFormat,
        columns: &[String],
    ) -> Result<(Self, Fingerprint), SourceError> {
        let (mut file, print) = file::open(path)?;
        let mut encoding = format.encoding;
        let mut size = print.length();
        let mark = byte_order_mark(&mut file)?;
        if let Some((marked, _)) = mark
            && marked != encoding
        {
            return Err(SourceError::input(
                "INPUT_ENCODING",
                format!("{} ≠ {}", marked.name(), encoding.name()),
            ));
        }
        let skip = mark.map_or(0, |(_, length)| length);
        file.seek(SeekFrom::Start(skip)).map_err(unreadable)?;
        if encoding == encoding_rs::UTF_16LE || encoding == encoding_rs::UTF_16BE {
            (file, size) = transcode(&mut file, encoding)?;
            encoding = encoding_rs::UTF_8;
        }
        let offset = file.stream_position().map_err(unreadable)?;
        let mut table = Self {
            file,
            size,
            encoding,
            format: format.clone(),
            core: core(format),
            window: vec![0; WINDOW],
            at: 0,
            filled: 0,
            offset,
            line: 1,
            cells: vec![0; WINDOW],
            ends: vec![0; FIRST_ENDS],
            width: 0,
            places: Vec::new(),
            names: columns.to_vec(),
            reread: 0,
            complete: true,
        };
        table.read_header(columns)?;
        Ok((table, print))
    }

    fn read_header(&mut self, columns: &[String]) -> Result<(), SourceError> {
        loop {
            let Some(cut) = self.cut()? else {
                return Err(SourceError::input(
                    "HEADER_ROW_ABSENT",
                    self.format.header.to_string(),
                ));
            };
            if cut.line < u64::from(self.format.header) {
                continue;
            }
            let Some(count) = cut.cells else {
                return Err(SourceError::input(
                    "HEADER_ROW_ABSENT",
                    self.format.header.to_string(),
                ));
            };
            let header = (0..count)
                .map(|index| {
                    let text = self
                        .encoding
                        .decode_without_bom_handling_and_without_replacement(self.bytes(index));
                    let text = text.ok_or_else(|| {
                        SourceError::input("INPUT_ENCODING", self.encoding.name())
                    })?;
                    Ok(clean::trim(&text).to_owned())
                })
                .collect::<Result<Vec<_>, SourceError>>()?;
            self.places = header_places(&header, columns)?;
            self.width = header.len();
            return Ok(());
        }
    }

    fn bytes(&self, cell: usize) -> &[u8] {
        let start = if cell == 0 { 0 } else { self.ends[cell - 1] };
        &self.cells[start..self.ends[cell]]
    }

    /// Fills the window when it is used up. `false` at the end of the file.
    fn refill(&mut self) -> Result<bool, SourceError> {
        if self.at < self.filled {
            return Ok(true);
        }
        self.filled = self.file.read(&mut self.window).map_err(unreadable)?;
        self.at = 0;
        self.offset += self.filled as u64;
        Ok(self.filled > 0)
    }

    fn here(&self) -> u64 {
        self.offset - (self.filled - self.at) as u64
    }

    /// Cuts the next record out of the bytes. Its cells are in `cells` and `ends`.
    fn cut(&mut self) -> Result<Option<Cut>, SourceError> {
        // Line ends before the record, so that its own first line is known.
        loop {
            if !self.refill()? {
                return Ok(None);
            }
            match self.window[self.at] {
                b'\n' => self.line += 1,
                b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
        let mut cut = Cut {
            offset: self.here(),
            line: self.line,
            cells: None,
            unended: false,
            open_quote: false,
            unended_quote: false,
            spans_lines: false,
        };
        let (mut out, mut ended, mut quotes, mut consumed) = (0, 0, 0_usize, 0_u64);
        let mut fits = true;
        let mut last = 0;
        loop {
            let more = self.refill()?;
            let input = if more {
                &self.window[self.at..self.filled]
            } else {
                &[][..]
            };
            let (result, used, written, ends) =
                self.core
                    .read_record(input, &mut self.cells[out..], &mut self.ends[ended..]);
            let taken = &input[..used];
            self.line += taken.iter().filter(|byte| **byte == b'\n').count() as u64;
            if let Some(quote) = self.format.quote {
                quotes += taken.iter().filter(|byte| **byte == quote).count();
            }
            last = taken.last().copied().unwrap_or(last);
            self.at += used;
            consumed += used as u64;
            out += written;
            ended += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.cells.len() < MAX_ROW_BYTES => {
                    let larger = (self.cells.len() * 2).min(MAX_ROW_BYTES);
                    self.cells.resize(larger, 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < MAX_COLUMNS + 1 => {
                    self.ends
                        .resize((self.ends.len() * 2).min(MAX_COLUMNS + 1), 0);
                }
                // Too much of something: go on cutting, keep nothing.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    fits = false;
                    (out, ended) = (0, 0);
                    if consumed > MAX_QUOTED_BYTES {
                        cut.open_quote = true;
                        break;
                    }
                }
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
            if !more && used == 0 && result == ReadRecordResult::InputEmpty {
                break;
            }
        }
        let at_end = !self.refill()?;
        cut.unended = at_end && !matches!(last, b'\n' | b'\r');
        // The record's own line end may have been counted with it.
        let lines = self.line - cut.line;
        cut.spans_lines = lines > u64::from(last == b'\n');
        // Quotes come in pairs; at the end of the file an odd one is still open, and the line end
        // went into its cell.
        let line_end_inside =
            fits && out > 0 && matches!(self.cells.get(out - 1), Some(b'\n' | b'\r'));
        let odd = quotes % 2 == 1;
        cut.open_quote |= at_end && odd && (cut.spans_lines || line_end_inside);
        cut.unended_quote = cut.unended && odd;
        cut.cells = fits.then_some(ended);
        Ok(Some(cut))
    }

    /// Goes on at the line after the first line of a record that can't be believed.
    fn resume_after(&mut self, cut: &Cut) -> Result<(), SourceError> {
        let read = self.here() - cut.offset;
        self.reread += read;
        if self.reread > MAX_REREAD_BYTES {
            return Err(SourceError::input("CSV_QUOTES", cut.line.to_string()));
        }
        self.seek(cut.offset)?;
        self.line = cut.line;
        loop {
            if !self.refill()? {
                break;
            }
            let window = &self.window[self.at..self.filled];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.at += end + 1;
                    self.line += 1;
                    break;
                }
                None => self.at = self.filled,
            }
        }
        self.core = core(&self.format);
        Ok(())
    }

    fn seek(&mut self, offset: u64) -> Result<(), SourceError> {
        self.file
            .seek(SeekFrom::Start(offset))
            .map_err(unreadable)?;
        (self.at, self.filled, self.offset) = (0, 0, offset);
        Ok(())
    }

    /// The first bytes of a record, read again for the rejects file.
    fn raw(&mut self, cut: &Cut) -> Result<String, SourceError> {
        let here = self.here();
        self.file
            .seek(SeekFrom::Start(cut.offset))
            .map_err(unreadable)?;
        let mut head = Vec::new();
        (&mut self.file)
            .take(800)
            .read_to_end(&mut head)
            .map_err(unreadable)?;
        let end = head
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .unwrap_or(head.len());
        self.seek(here)?;
        Ok(raw_start(&head[..end], self.encoding))
    }

    fn bad(&mut self, cut: &Cut, code: &'static str) -> Result<Next, SourceError> {
        let raw = self.raw(cut)?;
        Ok(Next::Bad(BadRow {
            number: cut.line,
            code,
            raw,
        }))
    }

    fn cell(&self, place: usize) -> Cell {
        let bytes = self.bytes(place);
        if bytes.is_empty() {
            return Cell::Empty;
        }
        if bytes.len() > MAX_CELL_BYTES {
            return Cell::Fault("CELL_TOO_LARGE");
        }
        match self
            .encoding
            .decode_without_bom_handling_and_without_replacement(bytes)
        {
            Some(text) => Cell::Text(text.into_owned()),
            None => Cell::Fault("CELL_ENCODING"),
        }
    }
}

impl Table for CsvTable {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        let Some(cut) = self.cut()? else {
            return Ok(Next::End);
        };
        if cut.open_quote {
            let bad = self.bad(&cut, "CSV_QUOTE_OPEN")?;
            self.resume_after(&cut)?;
            return Ok(bad);
        }
        let Some(count) = cut.cells else {
            return self.bad(&cut, "ROW_TOO_LARGE");
        };
        if count != self.width || cut.unended_quote {
            if cut.unended_quote || (cut.unended && count < self.width) {
                self.complete = false;
                return self.bad(&cut, "INPUT_TRUNCATED");
            }
            let bad = self.bad(&cut, "ROW_COLUMNS")?;
            if cut.spans_lines {
                // A quote swallowed the lines after this one; they may be good.
                self.resume_after(&cut)?;
            }
            return Ok(bad);
        }
        row.number = cut.line;
        row.cells.clear();
        for index in 0..self.places.len() {
            row.cells.push(self.cell(self.places[index]));
        }
        debug_assert_eq!(row.cells.len(), self.names.len());
        Ok(Next::Row)
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.here(), self.size))
    }

    fn complete(&self) -> bool {
        self.complete
    }
}

fn core(format: &CsvFormat) -> csv_core::Reader {
    let mut builder = csv_core::ReaderBuilder::new();
    builder.delimiter(format.delimiter);
    match format.quote {
        Some(quote) => builder.quote(quote),
        None => builder.quoting(false),
    };
    builder.build()
}

fn unreadable(error: std::io::Error) -> SourceError {
    SourceError::environment("INPUT_UNREADABLE", "").because(error)
}

/// What the first bytes say about the encoding, and how many they are.
fn byte_order_mark(file: &mut File) -> Result<Option<(&'static Encoding, u64)>, SourceError> {
    let mut head = Vec::with_capacity(3);
    file.take(3).read_to_end(&mut head).map_err(unreadable)?;
    Ok(Encoding::for_bom(&head).map(|(encoding, length)| (encoding, length as u64)))
}

/// UTF-16 can't be cut at bytes: the file is converted into an unnamed temporary one. What can't be
/// converted becomes U+FFFD, which no field accepts.
fn transcode(from: &mut File, encoding: &'static Encoding) -> Result<(File, u64), SourceError> {
    let mut to = tempfile::tempfile().map_err(unreadable)?;
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut input = vec![0; WINDOW];
    let mut output = vec![0; WINDOW * 3 + 16];
    let mut size = 0;
    loop {
        let count = from.read(&mut input).map_err(unreadable)?;
        let (_, _, written, _) = decoder.decode_to_utf8(&input[..count], &mut output, count == 0);
        to.write_all(&output[..written]).map_err(unreadable)?;
        size += written as u64;
        if count == 0 {
            break;
        }
    }
    to.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    Ok((to, size))
}
