//! Reads the contract's files into memory, bounded, and computes their digest.
//!
//! Only known places are looked at, so the crates that live beside the data are no part of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_saphyr::Location;
use sha2::{Digest, Sha256};

use crate::fault::Faults;
use crate::status::STATUS_FILE;

/// One contract file, in bytes.
pub const MAX_FILE_BYTES: u64 = 512 * 1024;
/// Files of one contract.
pub const MAX_FILES: usize = 10_000;
/// All files of one contract, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 128 * 1024 * 1024;
/// Folders below a root folder.
const MAX_FOLDER_DEPTH: usize = 4;

const ROOT_FILES: [&str; 5] = [
    STATUS_FILE,
    "installation.yaml",
    "schema-ids.yaml",
    "reasons.yaml",
    "bus.keys.yaml",
];
/// Folders, and the endings that a file in them may have.
const FOLDERS: [(&str, &[&str]); 6] = [
    ("departments", &["yaml"]),
    ("catalogue", &["yaml", "avsc"]),
    ("agreements", &["yaml"]),
    ("items", &["yaml"]),
    ("calendars", &["yaml"]),
    ("bus", &["avsc"]),
];

/// Path below the root, with `/` → text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    pub(crate) fn read(root: &Path, faults: &mut Faults) -> Self {
        let mut reader = Reader {
            tree: Self::default(),
            total: 0,
            faults,
        };
        for name in ROOT_FILES {
            let path = root.join(name);
            // `symlink_metadata`: a link is refused below, not followed.
            if fs::symlink_metadata(&path).is_ok() {
                reader.file(&path, name);
            }
        }
        for (name, endings) in FOLDERS {
            let path = root.join(name);
            if path.is_dir() {
                reader.folder(&path, name, endings, 0);
            }
        }
        reader.tree
    }

    /// The same from memory: files as another copy of the contract had them. Only places that
    /// [`Self::read`] would look at are taken.
    pub(crate) fn from_files(files: BTreeMap<String, String>, faults: &mut Faults) -> Self {
        let mut reader = Reader {
            tree: Self::default(),
            total: 0,
            faults,
        };
        for (path, text) in files {
            if is_known_place(&path) {
                reader.keep(&path, text.into_bytes());
            } else {
                reader.fault("FILE_NAME", &path, "");
            }
        }
        reader.tree
    }

    pub(crate) fn into_files(self) -> BTreeMap<String, String> {
        self.files
    }

    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Files below a folder, in path order.
    pub(crate) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .range(format!("{folder}/")..)
            .take_while(move |(path, _)| {
                path.starts_with(folder) && path.as_bytes().get(folder.len()) == Some(&b'/')
            })
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// SHA-256 over, in byte order of the paths: u32 BE length of the path, the path, u64 BE length of
    /// the file, the file.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (path, text) in &self.files {
            hash.update(u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(path);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }
}

/// A root file, or a file of a known ending in a known folder, with no step up or out.
fn is_known_place(path: &str) -> bool {
    let Some((folder, below)) = path.split_once('/') else {
        return ROOT_FILES.contains(&path);
    };
    let parts: Vec<&str> = below.split('/').collect();
    let plain = parts
        .iter()
        .all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains('\\'));
    let ending = below.rsplit_once('.').map_or("", |(_, ending)| ending);
    plain
        && parts.len() <= MAX_FOLDER_DEPTH + 2
        && FOLDERS
            .iter()
            .any(|(name, endings)| *name == folder && endings.contains(&ending))
}

struct Reader<'f> {
    tree: Tree,
    total: u64,
    faults: &'f mut Faults,
}

impl Reader<'_> {
    fn fault(&mut self, code: &'static str, file: &str, detail: &str) {
        self.faults.push(code, file, &Location::UNKNOWN, "", detail);
    }

    fn folder(&mut self, path: &Path, name: &str, endings: &[&str], depth: usize) {
        if depth > MAX_FOLDER_DEPTH {
            self.fault("FILE_TOO_DEEP", name, "");
            return;
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.fault("FILE_UNREADABLE", name, &error.kind().to_string());
                return;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.fault("FILE_UNREADABLE", name, &error.kind().to_string());
                    continue;
                }
            };
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                self.fault("FILE_NAME", name, &file_name.to_string_lossy());
                continue;
            };
            // Editors and file systems leave dot files about; notes for people are no part of the data.
            if file_name.starts_with('.') || file_name.ends_with(".md") {
                continue;
            }
            let below = format!("{name}/{file_name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.folder(&entry.path(), &below, endings, depth + 1),
                Ok(kind) if kind.is_file() => {
                    if file_name
                        .rsplit_once('.')
                        .is_some_and(|(_, ending)| endings.contains(&ending))
                    {
                        self.file(&entry.path(), &below);
                    } else {
                        // `.yml` would otherwise be ignored without a word.
                        self.fault("FILE_NAME", &below, &endings.join(", "));
                    }
                }
                _ => self.fault("FILE_LINK", &below, ""),
            }
        }
    }

    fn file(&mut self, path: &Path, name: &str) {
        if fs::symlink_metadata(path).map_or(true, |meta| !meta.is_file()) {
            self.fault("FILE_LINK", name, "");
            return;
        }
        let mut bytes = Vec::new();
        let read = fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            self.fault("FILE_UNREADABLE", name, &error.kind().to_string());
            return;
        }
        self.keep(name, bytes);
    }

    fn keep(&mut self, name: &str, bytes: Vec<u8>) {
        if self.tree.files.len() >= MAX_FILES {
            self.fault("CONTRACT_TOO_LARGE", name, &MAX_FILES.to_string());
            return;
        }
        self.total += bytes.len() as u64;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            self.fault("FILE_TOO_LARGE", name, &MAX_FILE_BYTES.to_string());
        } else if self.total > MAX_TOTAL_BYTES {
            self.fault("CONTRACT_TOO_LARGE", name, &MAX_TOTAL_BYTES.to_string());
        } else {
            match String::from_utf8(bytes) {
                Ok(text) => drop(self.tree.files.insert(name.to_owned(), text)),
                Err(_) => self.fault("FILE_NOT_UTF8", name, ""),
            }
        }
    }
}
