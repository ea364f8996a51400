//! The rejects file: every row that published nothing, with its values, for the department's own
//! eyes (mode 0600, one JSON object a line). The file of a snapshot is replaced as a whole when the
//! pass ends; changes are appended.

use crate::error::ConnectorError;
use crate::limits::{MAX_REJECT_VALUE_BYTES, MAX_REJECTS_FILE_BYTES};
use crate::source::Reject;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PRIVATE: u32 = 0o600;

/// Writes rejected rows; without a path it only counts.
pub(crate) struct RejectsFile {
    path: Option<PathBuf>,
    /// Open file and where it is renamed to at the end of the pass.
    open: Option<(BufWriter<File>, Option<PathBuf>)>,
    append: bool,
    bytes: u64,
}

impl RejectsFile {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            open: None,
            append: false,
            bytes: 0,
        }
    }

    /// A pass begins. What an interrupted pass wrote is forgotten.
    pub(crate) fn begin(&mut self, append: bool) {
        self.open = None;
        self.append = append;
        self.bytes = 0;
    }

    pub(crate) fn write(&mut self, reject: &Reject, at_ms: i64) -> Result<(), ConnectorError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        if self.bytes > MAX_REJECTS_FILE_BYTES {
            return Ok(());
        }
        let failed = |source| ConnectorError::RejectsFile {
            path: path.clone(),
            source,
        };
        if self.open.is_none() {
            self.open = Some(if self.append {
                (BufWriter::new(append(path).map_err(failed)?), None)
            } else {
                let partial = partial(path);
                (
                    BufWriter::new(create(&partial).map_err(failed)?),
                    Some(partial),
                )
            });
        }
        let values: serde_json::Map<String, serde_json::Value> = reject
            .values
            .iter()
            .map(|(column, value)| (column.clone(), cut(value).into()))
            .collect();
        let line = serde_json::json!({
            "at_ms": at_ms,
            "row": reject.row,
            "column": reject.column,
            "field": reject.field,
            "code": reject.code,
            "values": values,
        });
        let mut line = line.to_string();
        line.push('\n');
        self.bytes += line.len() as u64;
        match &mut self.open {
            Some((file, _)) => file.write_all(line.as_bytes()).map_err(failed),
            None => Ok(()),
        }
    }

    /// The pass was read to its end: the file now says what this pass found, or is gone.
    pub(crate) fn end(&mut self) -> Result<(), ConnectorError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let failed = |source| ConnectorError::RejectsFile {
            path: path.clone(),
            source,
        };
        match self.open.take() {
            Some((mut file, partial)) => {
                file.flush().map_err(failed)?;
                if let Some(partial) = partial {
                    std::fs::rename(partial, path).map_err(failed)?;
                }
            }
            None if !self.append => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(error));
                }
                _ => {}
            },
            None => {}
        }
        Ok(())
    }

    /// The pass ended early: keep what there is where a person can find it.
    pub(crate) fn flush(&mut self) {
        if let Some((file, _)) = &mut self.open {
            // Nothing more can be done about a full disk here; the next write reports it.
            let _ = file.flush();
        }
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

fn create(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new` follows no link that somebody put there in between.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)
}

fn append(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(PRIVATE)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(file)
}

fn cut(value: &str) -> &str {
    match value
        .char_indices()
        .find(|(at, c)| at + c.len_utf8() > MAX_REJECT_VALUE_BYTES)
    {
        Some((at, _)) => &value[..at],
        None => value,
    }
}
