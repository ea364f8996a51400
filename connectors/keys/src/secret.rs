//! Secrets on disk: 32-byte keys, private files. Written atomically with mode 0600 in 0700
//! directories; refused on reading when anybody but the owner could have read or swapped them.

use crate::KeyError;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Length of a symmetric key, in bytes.
pub const SECRET_LEN: usize = 32;
/// A private file longer than this is not one of ours (bytes).
pub const MAX_PRIVATE_FILE: u64 = 16 * 1024;
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// A 32-byte symmetric key. Wiped when dropped; `Debug` shows nothing.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; SECRET_LEN]>);

impl SecretKey {
    /// A key from bytes that the caller already holds (tests, key ceremonies).
    pub fn from_bytes(bytes: [u8; SECRET_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh key from the operating system's random source.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        fill_random(bytes.as_mut())?;
        Ok(Self(bytes))
    }

    /// Reads a key file: 64 hex digits, optionally one newline. Refuses an exposed file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        hex::decode_to_slice(text.trim_end(), bytes.as_mut()).map_err(|_| KeyError::Malformed {
            path: path.to_owned(),
            reason: "expected 64 hex digits",
        })?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(KeyError::Malformed {
                path: path.to_owned(),
                reason: "the key is all zeros",
            });
        }
        Ok(Self(bytes))
    }

    /// Writes the key file unless one exists. Says whether it wrote.
    pub fn save_new(&self, path: &Path) -> Result<bool, KeyError> {
        let mut text = Zeroizing::new(hex::encode(self.0.as_ref()));
        text.push('\n');
        write_private_new(path, text.as_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Fills a buffer from the operating system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), KeyError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| KeyError::NoRandom)
}

/// Random bytes from the operating system's random source.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Reads a private text file. The checks look at the opened file, not at the path, so that it
/// can't be exchanged between check and read.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let file = File::open(path).map_err(KeyError::io("cannot open", path))?;
    let meta = file
        .metadata()
        .map_err(KeyError::io("cannot inspect", path))?;
    if !meta.is_file() {
        return Err(KeyError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    // Root may have provisioned the file for this user's service manager to pass on.
    if meta.uid() != 0 && Some(meta.uid()) != own_uid() {
        return Err(KeyError::ForeignOwner {
            path: path.to_owned(),
            owner: meta.uid(),
        });
    }
    if meta.len() > MAX_PRIVATE_FILE {
        return Err(KeyError::Malformed {
            path: path.to_owned(),
            reason: "too long for a key file",
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_PRIVATE_FILE as usize));
    file.take(MAX_PRIVATE_FILE)
        .read_to_string(&mut text)
        .map_err(KeyError::io("cannot read", path))?;
    Ok(text)
}

/// Writes a private file once: to a temporary name first, linked into place, so that a reader
/// sees a whole key or none, and two writers at once leave one key. Says whether it wrote.
pub fn write_private_new(path: &Path, bytes: &[u8]) -> Result<bool, KeyError> {
    if path.exists() {
        return Ok(false);
    }
    let temporary = write_beside(path, bytes, PRIVATE_FILE)?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary).map_err(KeyError::io("cannot remove", &temporary))?;
    match linked {
        Ok(()) => {
            sync_parent(path)?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(KeyError::io("cannot create", path)(error)),
    }
}

/// Replaces a public file as a whole (mode 0644).
pub fn replace_public(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let temporary = write_beside(path, bytes, 0o644)?;
    std::fs::rename(&temporary, path).map_err(KeyError::io("cannot replace", path))?;
    sync_parent(path)
}

/// Makes a directory that only its owner may enter; tightens one that exists.
pub fn private_dir(path: &Path) -> Result<(), KeyError> {
    if !path.is_dir() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_DIR)
            .create(path)
            .map_err(KeyError::io("cannot create directory", path))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_DIR))
        .map_err(KeyError::io("cannot set the mode of", path))
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, KeyError> {
    let mut suffix = [0; 8];
    fill_random(&mut suffix)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", hex::encode(suffix)));
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(KeyError::io("cannot create", &temporary))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The half-written secret must not stay; the write error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        return Err(KeyError::io("cannot write", &temporary)(error));
    }
    Ok(temporary)
}

fn sync_parent(path: &Path) -> Result<(), KeyError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(KeyError::io("cannot sync", parent))
}

/// The effective user of this process, from the owner of its own /proc entry: no libc call, and
/// `None` where there is no /proc, in which case only the mode guards the file.
fn own_uid() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|meta| meta.uid())
}
