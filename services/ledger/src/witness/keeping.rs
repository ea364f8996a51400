//! A source whose full tiles are kept: what was read over a network once is not asked for again, although a
//! range that is closed is made from the whole log. What is kept is believed no more than what comes.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::log::{LogFile, LogFolder, LogName};
use crate::witness::Source;

/// In front of a source. One process for each folder.
pub struct Keeping<S> {
    source: S,
    folder: PathBuf,
}

impl<S: Source> Keeping<S> {
    pub fn new(source: S, folder: impl Into<PathBuf>) -> Self {
        Self {
            source,
            folder: folder.into(),
        }
    }
}

impl<S: Source> Source for Keeping<S> {
    fn logs(&self) -> io::Result<Vec<String>> {
        self.source.logs()
    }

    fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
        let names = (LogName::parse(log), LogFile::parse(path));
        let (Some(name), Some(file @ LogFile::Tile(tile))) = names else {
            return self.source.read(log, path);
        };
        if !tile.is_full() {
            return self.source.read(log, path);
        }
        // What can't be read there is replaced.
        if let Ok(Some(kept)) = LogFolder::new(&self.folder).bytes(&name, &file) {
            return Ok(Some(kept));
        }
        let come = self.source.read(log, path)?;
        if let Some(bytes) = &come {
            keep(&self.folder.join(format!("{name}/{file}")), bytes)?;
        }
        Ok(come)
    }

    fn forget(&self, log: &str) -> io::Result<()> {
        if let Some(name) = LogName::parse(log) {
            match fs::remove_dir_all(self.folder.join(name.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.source.forget(log)
    }
}

/// Whole or not at all, but not durable: after a power cut it may be nonsense, and is forgotten.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    io::Write::write_all(&mut options.open(&fresh)?, bytes)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Says what it was asked for.
    #[derive(Default)]
    struct Asked(RefCell<Vec<String>>);

    impl Source for Asked {
        fn logs(&self) -> io::Result<Vec<String>> {
            Ok(vec!["0/2026".to_owned()])
        }

        fn read(&self, log: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
            self.0.borrow_mut().push(format!("{log}/{path}"));
            Ok((path != "tile/0/001").then(|| vec![7; 8_192]))
        }
    }

    #[test]
    fn full_tiles_are_asked_for_once_and_after_they_were_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let keeping = Keeping::new(Asked::default(), dir.path().join("kept"));
        let asked = |path: &str| {
            keeping.source.0.borrow_mut().clear();
            let _ = keeping.read("0/2026", path);
            keeping.source.0.borrow().len()
        };
        for (path, again) in [
            ("checkpoint", 1),
            ("tile/0/000.p/3", 1),
            ("absence/0/statement", 1),
            ("tile/0/001", 1),
            ("tile/0/000", 0),
            ("tile/entries/x001/234", 0),
            ("../../elsewhere", 1),
        ] {
            assert_eq!((asked(path), asked(path)), (1, again), "{path}");
        }
        let kept = dir.path().join("kept/0/2026/tile/0/000");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));
        assert!(!dir.path().join("elsewhere").exists());
        // What is too long for a tile is none.
        fs::write(&kept, vec![0; 9_000]).unwrap();
        assert_eq!((asked("tile/0/000"), asked("tile/0/000")), (1, 0));
        keeping.forget("0/2026").unwrap();
        keeping.forget("0/2027").unwrap();
        keeping.forget("../..").unwrap();
        assert_eq!((asked("tile/0/000"), asked("tile/0/000")), (1, 0));
    }
}
