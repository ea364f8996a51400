//! Where a log's files lie. A trait, so that tests can cut the power: only what was synced is sure to be
//! there afterwards.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Files written and not yet synced that are held open: more are synced at once.
const MAX_PENDING: usize = 512;
/// Threads that sync: a file system joins syncs that come together.
const SYNC_THREADS: usize = 4;

/// Files below one root, by relative path.
pub trait Disk {
    /// The whole file; `None` when there is none.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Writes a whole file. Durable after [`Disk::sync`].
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything durable that was written so far.
    fn sync(&mut self) -> io::Result<()>;
    /// Replaces a file: readers see the old or the new one, a crash leaves one of both. Durable at once.
    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a folder with its files, if it is there.
    fn remove_folder(&mut self, path: &str) -> io::Result<()>;
}

/// A folder of this machine.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    pending: Vec<File>,
    /// Folders in which files were made.
    folders: BTreeSet<PathBuf>,
}

impl Folder {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            pending: Vec::new(),
            folders: BTreeSet::new(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder of a file; notes every folder whose contents that changes.
    fn make_parent(&mut self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        if self.folders.contains(parent) {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut at = parent;
        while !at.exists() {
            missing.push(at.to_path_buf());
            match at.parent() {
                Some(above) => at = above,
                None => break,
            }
        }
        fs::create_dir_all(parent)?;
        self.folders.extend(
            missing
                .iter()
                .filter_map(|folder| folder.parent().map(Path::to_path_buf)),
        );
        self.folders.insert(parent.to_path_buf());
        Ok(())
    }
}

impl Disk for Folder {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        self.make_parent(&path)?;
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        self.pending.push(file);
        if self.pending.len() >= MAX_PENDING {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        sync_all(&std::mem::take(&mut self.pending), File::sync_data)?;
        let folders = std::mem::take(&mut self.folders);
        let folders: Vec<File> = folders.iter().map(File::open).collect::<io::Result<_>>()?;
        sync_all(&folders, File::sync_all)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        self.make_parent(&path)?;
        // A name of its own: `checkpoint` and `checkpoint.cosigned` may be replaced at the same time.
        let mut fresh = path.clone().into_os_string();
        fresh.push(".new");
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.root.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let gone = self.root.join(path);
                self.folders.retain(|folder| !folder.starts_with(&gone));
                Ok(())
            }
        }
    }
}

/// A failed sync must never be taken back by a later one that succeeds: the caller stops.
fn sync_all(files: &[File], sync: fn(&File) -> io::Result<()>) -> io::Result<()> {
    let each = files.len().div_ceil(SYNC_THREADS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks(each)
            .map(|files| scope.spawn(move || files.iter().try_for_each(sync)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread that synced panicked")))
        })
    })
}
