//! Finds Java and Maven; under root on Debian and its kin installs what is missing, elsewhere says
//! the one command to type.

use crate::process::run;
use crate::user::is_root;
use crate::{Progress, StackError, Step};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kafka 4 brokers need this version of Java or a later one.
pub const MIN_JAVA: u32 = 17;
const INSTALL_JAVA: &str = "sudo apt-get install -y openjdk-17-jre-headless";
const INSTALL_MAVEN: &str = "sudo apt-get install -y maven";
/// Newest first is wrong here: Kafka is tested most on the older ones.
const JAVA_PACKAGES: [&str; 4] = [
    "openjdk-17-jre-headless",
    "openjdk-21-jre-headless",
    "openjdk-25-jre-headless",
    "default-jre-headless",
];

/// A `java` of at least [`MIN_JAVA`].
pub(crate) fn java(install: bool, progress: &dyn Progress) -> Result<PathBuf, StackError> {
    if let Some(java) = find_java() {
        return Ok(java);
    }
    if install && can_install() {
        progress.step(Step::Installing("Java"));
        for package in JAVA_PACKAGES {
            if apt_install(package).is_ok()
                && let Some(java) = find_java()
            {
                return Ok(java);
            }
        }
    }
    Err(StackError::Missing {
        what: "Java 17 or later",
        command: INSTALL_JAVA,
    })
}

/// A `mvn`.
pub(crate) fn maven(install: bool, progress: &dyn Progress) -> Result<PathBuf, StackError> {
    if let Some(maven) = on_path("mvn") {
        return Ok(maven);
    }
    if install && can_install() {
        progress.step(Step::Installing("Maven"));
        if apt_install("maven").is_ok()
            && let Some(maven) = on_path("mvn")
        {
            return Ok(maven);
        }
    }
    Err(StackError::Missing {
        what: "Maven",
        command: INSTALL_MAVEN,
    })
}

fn find_java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    // An apt install does not change our PATH or JAVA_HOME, hence Debian's own places.
    let debian = std::fs::read_dir("/usr/lib/jvm")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/java"));
    home.into_iter()
        .chain(on_path("java"))
        .chain(debian)
        .find(|java| java.is_file() && version(java).is_some_and(|major| major >= MIN_JAVA))
}

fn version(java: &Path) -> Option<u32> {
    let mut command = Command::new(java);
    command.arg("-version");
    major(&run(command, "java").ok()?)
}

/// The major version in the text of `java -version` (JEP 223; before it 1.x).
fn major(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut parts = quoted.split(|c: char| !c.is_ascii_digit());
    let first: u32 = parts.next()?.parse().ok()?;
    if first == 1 {
        return parts.next()?.parse().ok();
    }
    Some(first)
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

fn can_install() -> bool {
    is_root() && on_path("apt-get").is_some()
}

fn apt_install(package: &str) -> Result<(), StackError> {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        run(command, "apt-get").map(drop)
    };
    let install = ["install", "-y", "--no-install-recommends", package];
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn reads_versions() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("java version \"1.8.0_401\""), Some(8));
        assert_eq!(major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(major("bash: java: command not found"), None);
    }
}
