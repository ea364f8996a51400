//! Where a witness reads logs from.

use std::io;

use crate::log::{Disk, LogFile, LogFolder, LogName};

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
    /// It can't be read, or is longer than such a file can be ([`LogFile::max_bytes`]).
    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// What came of a log was not what was signed: whatever is kept of it is to be read anew.
    ///
    /// # Errors
    /// It can't be removed.
    fn forget(&self, log: &str) -> io::Result<()> {
        let _ = log;
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn logs(&self) -> io::Result<Vec<String>> {
        (**self).logs()
    }

    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).read(log, path)
    }

    fn forget(&self, log: &str) -> io::Result<()> {
        (**self).forget(log)
    }
}

impl Source for LogFolder {
    fn logs(&self) -> io::Result<Vec<String>> {
        Ok(self.names()?.iter().map(ToString::to_string).collect())
    }

    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        let (Some(log), Some(file)) = (LogName::parse(log), LogFile::parse(path)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.bytes(&log, &file)
    }
}

/// Shard and period of `<shard>/<period>`, one spelling: `0/2026`, `3/2026-11`. Never a path elsewhere.
pub(crate) fn log_name(log: &str) -> Option<(u16, &str)> {
    let shard = LogName::parse(log)?.shard();
    Some((shard, log.split_once('/')?.1))
}

/// One log of a source, as a disk that nobody writes.
pub struct Reading<'s> {
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
