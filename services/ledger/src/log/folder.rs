//! A folder of logs as others may read it: by names that were read into values, plain files only, no link
//! followed below the folder, nothing longer than such a file can be.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::note::Note;

use super::name::{LogFile, LogName};
use crate::witness::limits::MAX_LOGS;

/// Tries to open a file that is replaced meanwhile: a checkpoint is, once a second.
const TRIES: usize = 8;

/// A mounted or copied folder of logs: `<folder>/<shard>/<period>`.
#[derive(Clone, Debug)]
pub struct LogFolder(PathBuf);

impl LogFolder {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// # Errors
    /// There is no such folder now: nothing can be said about what lies in it.
    pub fn exists(&self) -> io::Result<()> {
        match fs::metadata(&self.0)?.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The logs that lie there, each shard's older ones first.
    ///
    /// # Errors
    /// The folder can't be read, or holds too many.
    pub fn names(&self) -> io::Result<Vec<LogName>> {
        let mut found = Vec::new();
        for shard in fs::read_dir(&self.0)? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() {
                continue;
            }
            for period in fs::read_dir(shard.path())? {
                let period = period?;
                let names = (shard.file_name(), period.file_name());
                let (Some(shard), Some(name)) = (names.0.to_str(), names.1.to_str()) else {
                    continue;
                };
                if let Some(log) = LogName::parse(&format!("{shard}/{name}"))
                    && period.file_type()?.is_dir()
                {
                    found.push(log);
                }
                if found.len() > MAX_LOGS {
                    return Err(io::Error::other("too many logs"));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// A file and its length, `None` when there is none.
    ///
    /// # Errors
    /// It can't be read, is no plain file, is reached through a link, or is longer than such a file can be.
    pub fn open(&self, log: &LogName, file: &LogFile) -> io::Result<Option<(File, u64)>> {
        for _ in 0..TRIES {
            let mut path = self.0.clone();
            let mut last: Option<Metadata> = None;
            for part in format!("{log}/{file}").split('/') {
                // What was passed on the way must be a folder.
                if last.as_ref().is_some_and(|before| !before.is_dir()) {
                    return Err(io::Error::other("not a plain folder"));
                }
                path.push(part);
                match fs::symlink_metadata(&path) {
                    Ok(found) => last = Some(found),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            let Some(seen) = last.filter(Metadata::is_file) else {
                return Err(io::Error::other("not a plain file"));
            };
            let opened = match File::open(&path) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let now = opened.metadata()?;
            if (now.dev(), now.ino()) != (seen.dev(), seen.ino()) {
                continue;
            }
            if now.len() > file.max_bytes() {
                return Err(io::Error::other("a file is too long"));
            }
            return Ok(Some((opened, now.len())));
        }
        Err(io::Error::other("a file is replaced again and again"))
    }

    /// The whole file, `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn bytes(&self, log: &LogName, file: &LogFile) -> io::Result<Option<Vec<u8>>> {
        let Some((opened, _)) = self.open(log, file)? else {
            return Ok(None);
        };
        let (mut bytes, most) = (Vec::new(), file.max_bytes());
        opened.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 <= most {
            true => Ok(Some(bytes)),
            false => Err(io::Error::other("a file is too long")),
        }
    }

    /// How many entries the log's checkpoint is about; nothing is verified.
    ///
    /// # Errors
    /// As [`Self::open`]; a checkpoint that is none.
    pub fn signed_size(&self, log: &LogName) -> io::Result<Option<u64>> {
        let Some(bytes) = self.bytes(log, &LogFile::Checkpoint)? else {
            return Ok(None);
        };
        let note = Note::parse(bytes).ok();
        let said = note.and_then(|note| Checkpoint::parse(note.text()).ok());
        match said {
            Some(said) => Ok(Some(said.size)),
            None => Err(io::Error::other("a checkpoint can't be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_strange_files_are_not_read() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join("2026/tile/0")).unwrap();
        fs::write(outside.path().join("2026/checkpoint"), "secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0/2026");
        fs::create_dir_all(log.join("tile/1")).unwrap();
        fs::create_dir_all(log.join("checkpoint.cosigned")).unwrap();
        symlink(
            outside.path().join("2026/checkpoint"),
            log.join("checkpoint"),
        )
        .unwrap();
        symlink(outside.path().join("2026/tile/0"), log.join("tile/0")).unwrap();
        fs::write(outside.path().join("2026/tile/0/000"), "secret").unwrap();
        fs::write(
            log.join("tile/1/000.p"),
            "a file where a folder is expected",
        )
        .unwrap();
        symlink(outside.path(), dir.path().join("1")).unwrap();
        symlink(outside.path().join("2026"), dir.path().join("0/2025")).unwrap();
        let folder = LogFolder::new(dir.path());
        let name = |name| LogName::parse(name).unwrap();
        assert_eq!(folder.names().unwrap(), [name("0/2026")]);
        let read = |log, file| folder.bytes(&name(log), &LogFile::parse(file).unwrap());
        for (log, file) in [
            ("0/2026", "checkpoint"),
            ("0/2026", "checkpoint.cosigned"),
            ("0/2026", "tile/0/000"),
            ("0/2026", "tile/1/000.p/3"),
            ("1/2026", "checkpoint"),
            ("0/2025", "checkpoint"),
        ] {
            assert!(read(log, file).is_err(), "{log} {file}");
        }
        assert_eq!(read("0/2026", "checkpoint.offered").unwrap(), None);
        assert_eq!(read("7/2026", "checkpoint").unwrap(), None);
        // Longer than such a file can be.
        fs::write(log.join("checkpoint.offered"), vec![b'x'; 70_000]).unwrap();
        assert!(read("0/2026", "checkpoint.offered").is_err());
        fs::write(log.join("tile/1/001"), [0; 8_193]).unwrap();
        assert!(read("0/2026", "tile/1/001").is_err());
        fs::write(log.join("tile/1/001"), [0; 8_192]).unwrap();
        assert_eq!(read("0/2026", "tile/1/001").unwrap().unwrap().len(), 8_192);
    }

    #[test]
    fn a_file_that_is_replaced_is_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0/2026");
        fs::create_dir_all(&log).unwrap();
        fs::write(log.join("checkpoint"), "0").unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(relaxed) {
                    fs::write(log.join("checkpoint.new"), "1").unwrap();
                    fs::rename(log.join("checkpoint.new"), log.join("checkpoint")).unwrap();
                    std::thread::yield_now();
                }
            });
            let folder = LogFolder::new(dir.path());
            let name = LogName::parse("0/2026").unwrap();
            let read = (0..200).map(|_| folder.bytes(&name, &LogFile::Checkpoint));
            let good = read.filter(|read| matches!(read, Ok(Some(bytes)) if bytes.len() == 1));
            let good = good.count();
            stop.store(true, relaxed);
            assert!(good > 150, "{good}");
        });
    }
}
