//! The download cache: Maven resolves both engines once, every stack shares them.
//!
//! One entry per pom text, finished by a marker file, so that an interrupted download is repeated
//! and a new version does not disturb a running stack.

use crate::user::{RunAs, is_root};
use crate::{Progress, StackError, StackOptions, Step, java};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const POM: &str = include_str!("../../local/pom.xml");
/// The unpacked PostgreSQL is 57 MB; a bigger archive is not it (bytes).
const MAX_UNPACKED: u64 = 512 * 1024 * 1024;

/// Where the engines are.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    /// Directory of Kafka's jars.
    pub lib: PathBuf,
    /// PostgreSQL's installation (`bin`, `lib`, `share`).
    pub postgres: PathBuf,
}

/// Downloads what the cache does not hold yet.
pub(crate) fn engines(
    options: &StackOptions,
    run_as: &RunAs,
    progress: &dyn Progress,
) -> Result<Engines, StackError> {
    let platform = platform()?;
    let mut hash = Sha256::new();
    hash.update(POM);
    hash.update(platform);
    let name = hex::encode(&hash.finalize()[..8]);
    let entry = options.cache(is_root()).join(name);
    let engines = Engines {
        lib: entry.join("lib"),
        postgres: entry.join("postgres"),
    };
    let done = entry.join("complete");
    if !done.exists() {
        make_open_dir(&entry)?;
        let lock_path = entry.join("lock");
        let lock = File::create(&lock_path).map_err(StackError::io("cannot create", &lock_path))?;
        lock.lock()
            .map_err(StackError::io("cannot lock", &lock_path))?;
        // Somebody else may have finished while we waited.
        if !done.exists() {
            resolve(options, &entry, &engines.lib, platform, progress)?;
            progress.step(Step::Unpacking);
            unpack(&engines.lib, &engines.postgres)?;
            File::create(&done).map_err(StackError::io("cannot create", &done))?;
        }
    }
    let bin = engines.postgres.join("bin");
    if !run_as.can_use(&bin, false) {
        return Err(StackError::Unreachable {
            user: run_as.name().to_owned(),
            path: bin,
        });
    }
    Ok(engines)
}

fn platform() -> Result<&'static str, StackError> {
    use std::env::consts::{ARCH, OS};
    match (OS, ARCH) {
        ("linux", "x86_64") => Ok("linux-amd64"),
        ("linux", "aarch64") => Ok("linux-arm64v8"),
        ("macos", "x86_64") => Ok("darwin-amd64"),
        ("macos", "aarch64") => Ok("darwin-arm64v8"),
        (os, arch) => Err(StackError::Platform { os, arch }),
    }
}

/// Maven downloads into the user's repository, and copies from there into a fresh directory.
fn resolve(
    options: &StackOptions,
    entry: &Path,
    lib: &Path,
    platform: &str,
    progress: &dyn Progress,
) -> Result<(), StackError> {
    let maven = java::maven(options.install_missing, progress)?;
    let pom = entry.join("pom.xml");
    std::fs::write(&pom, POM).map_err(StackError::io("cannot write", &pom))?;
    let copy = |repository: Option<&Path>| {
        remove_dir(lib)?;
        let mut command = Command::new(&maven);
        command
            .args(["-B", "-Dstyle.color=never", "-f"])
            .arg(&pom)
            .arg(format!("-Dpostgres.platform={platform}"))
            .arg(format!("-DoutputDirectory={}", lib.display()));
        if let Some(repository) = repository {
            command.arg(format!("-Dmaven.repo.local={}", repository.display()));
        }
        command.arg("dependency:copy-dependencies");
        run_maven(command, progress)
    };
    // Once more with a repository of our own: the user's may be damaged, or there is no home to keep
    // one in, or the network was away for a moment.
    let own = entry.join("m2");
    copy(None).or_else(|_| copy(Some(&own)))?;
    remove_dir(&own)
}

/// Runs Maven and tells each file that it downloads.
fn run_maven(mut command: Command, progress: &dyn Progress) -> Result<(), StackError> {
    progress.step(Step::Downloading {
        file: "maven".to_owned(),
        done: 0,
    });
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StackError::run("mvn"))?;
    let (mut done, mut text) = (0, String::new());
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some(rest) = line.split("Downloading from ").nth(1) {
                let file = rest.rsplit('/').next().unwrap_or(rest).to_owned();
                progress.step(Step::Downloading { file, done });
            } else if line.contains("Downloaded from ") {
                done += 1;
            } else {
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    let status = child.wait().map_err(StackError::run("mvn"))?;
    if status.success() {
        return Ok(());
    }
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("ERROR"))
        .take(8)
        .collect();
    Err(StackError::Failed {
        program: "mvn".to_owned(),
        status: status.to_string(),
        tail: errors.join("\n"),
    })
}

/// The jar holds one .txz.
fn unpack(lib: &Path, target: &Path) -> Result<(), StackError> {
    let jar = std::fs::read_dir(lib)
        .map_err(StackError::io("cannot list", lib))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("embedded-postgres-binaries"))
        })
        .ok_or_else(|| StackError::Archive {
            path: lib.to_owned(),
            reason: "no PostgreSQL jar was downloaded".to_owned(),
        })?;
    let broken = |reason: String| StackError::Archive {
        path: jar.clone(),
        reason,
    };
    let file = File::open(&jar).map_err(StackError::io("cannot open", &jar))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|error| broken(error.to_string()))?;
    let index = (0..zip.len())
        .find(|index| {
            zip.by_index(*index)
                .is_ok_and(|file| file.name().is_ok_and(|name| name.ends_with(".txz")))
        })
        .ok_or_else(|| broken("holds no .txz".to_owned()))?;
    let packed = zip
        .by_index(index)
        .map_err(|error| broken(error.to_string()))?;
    remove_dir(target)?;
    let tar_path = target.with_extension("tar");
    let mut tar_file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&tar_path)
        .map_err(StackError::io("cannot create", &tar_path))?;
    lzma_rs::xz_decompress(
        &mut BufReader::new(packed.take(MAX_UNPACKED)),
        &mut tar_file,
    )
    .map_err(|error| broken(format!("{error:?}")))?;
    use std::io::Seek as _;
    tar_file
        .rewind()
        .map_err(StackError::io("cannot read", &tar_path))?;
    make_open_dir(target)?;
    let mut archive = tar::Archive::new(BufReader::new(tar_file));
    archive.set_preserve_ownerships(false);
    archive
        .unpack(target)
        .map_err(StackError::io("cannot unpack into", target))?;
    std::fs::remove_file(&tar_path).map_err(StackError::io("cannot remove", &tar_path))
}

/// A directory that other users may enter: the database's user must read what is in it.
fn make_open_dir(path: &Path) -> Result<(), StackError> {
    std::fs::create_dir_all(path).map_err(StackError::io("cannot create", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(StackError::io("cannot set the mode of", path))
}

fn remove_dir(path: &Path) -> Result<(), StackError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StackError::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}
