//! Where a witness reads logs from.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;

use crate::log::Disk;
use crate::witness::limits::{MAX_FILE_BYTES, MAX_LOGS};

/// Logs of a ledger, however they come here. Nothing that it says is believed.
pub trait Source {
    /// `<shard>/<period>` of each log, each shard's older logs first.
    ///
    /// # Errors
    /// The place can't be read.
    fn logs(&self) -> io::Result<Vec<String>>;

    /// A file of a log, `None` when there is none.
    ///
    /// # Errors
    /// It can't be read, or is longer than [`MAX_FILE_BYTES`].
    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>>;
}

/// A mounted or copied folder of logs: `<folder>/<shard>/<period>`.
#[derive(Clone, Debug)]
pub struct LogFolder(PathBuf);

impl LogFolder {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }
}

impl Source for LogFolder {
    fn logs(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for shard in fs::read_dir(&self.0)? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() {
                continue;
            }
            for period in fs::read_dir(shard.path())? {
                let names = (shard.file_name(), period?.file_name());
                let (Some(shard), Some(period)) = (names.0.to_str(), names.1.to_str()) else {
                    continue;
                };
                let log = format!("{shard}/{period}");
                if log_name(&log).is_some() {
                    found.push(log);
                }
                if found.len() > MAX_LOGS {
                    return Err(io::Error::other("too many logs"));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.0.join(log).join(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other("a file is too long"));
        }
        Ok(Some(bytes))
    }
}

/// Shard and period of `<shard>/<period>`, one spelling: `0/2026`, `3/2026-11`. Never a path elsewhere.
pub(crate) fn log_name(log: &str) -> Option<(u16, &str)> {
    let (shard, period) = log.split_once('/')?;
    let number: u16 = shard.parse().ok()?;
    let digits = |text: &str, many: usize| {
        text.len() == many && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let good = match period.split_once('-') {
        None => digits(period, 4),
        Some((year, month)) => digits(year, 4) && digits(month, 2),
    };
    (good && number.to_string() == shard).then_some((number, period))
}

/// One log of a source, as a disk that nobody writes.
pub(super) struct Reading<'s> {
    pub source: &'s dyn Source,
    pub log: &'s str,
}

impl Disk for Reading<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.source.read(self.log, path)
    }

    fn write(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn replace(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove_folder(&mut self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
