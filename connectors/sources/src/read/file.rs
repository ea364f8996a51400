//! Opens a file for one pass and notices when somebody writes to it meanwhile.

use mz_sdk::SourceError;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    length: u64,
    modified_ns: i128,
    inode: u64,
}

impl Fingerprint {
    fn of(meta: &Metadata) -> Self {
        Self {
            length: meta.len(),
            modified_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            inode: meta.ino(),
        }
    }

    /// Unix milliseconds at which the file was last written.
    #[must_use]
    pub fn written_ms(&self) -> i64 {
        i64::try_from(self.modified_ns / 1_000_000).unwrap_or(0)
    }

    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// A regular, non-empty file, and its state.
pub fn open(path: &Path) -> Result<(File, Fingerprint), SourceError> {
    let fail = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound {
            "INPUT_MISSING"
        } else {
            "INPUT_UNREADABLE"
        };
        SourceError::environment(code, path.display().to_string()).because(error)
    };
    // Asked before opening: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(SourceError::configuration(
            "INPUT_NOT_REGULAR",
            path.display().to_string(),
        ));
    }
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(SourceError::configuration(
            "INPUT_NOT_REGULAR",
            path.display().to_string(),
        ));
    }
    if meta.len() == 0 {
        return Err(SourceError::input(
            "INPUT_EMPTY",
            path.display().to_string(),
        ));
    }
    Ok((file, Fingerprint::of(&meta)))
}

/// The state of a file now; `None` when it can't be seen.
#[must_use]
pub fn fingerprint(path: &Path) -> Option<Fingerprint> {
    std::fs::metadata(path)
        .ok()
        .map(|meta| Fingerprint::of(&meta))
}

/// Refuses a file that is no longer what was opened: half of it may be of another export.
pub fn unchanged(path: &Path, opened: Fingerprint) -> Result<(), SourceError> {
    if fingerprint(path) == Some(opened) {
        return Ok(());
    }
    Err(SourceError::input(
        "INPUT_CHANGED",
        path.display().to_string(),
    ))
}

/// The file a path names. A `*` in the last part stands for any text: the name that sorts last is
/// taken, which for dated exports is the newest.
pub fn resolve(path: &Path) -> Result<PathBuf, SourceError> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let Some((before, after)) = name.split_once('*') else {
        return Ok(path.to_owned());
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let missing = || SourceError::environment("INPUT_MISSING", path.display().to_string());
    let entries = std::fs::read_dir(folder).map_err(|error| missing().because(error))?;
    let fits = |name: &str| {
        name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| fits(name))
        .max()
        .map(|name| folder.join(name))
        .ok_or_else(missing)
}

/// Unix milliseconds now.
#[must_use]
pub fn now_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
