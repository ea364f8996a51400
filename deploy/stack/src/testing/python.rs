//! The Python with which tests run what a reader of the docs would run.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with the packages of `tests/requirements.txt`: `MIANZHENG_PYTHON`, else a virtual environment
/// below `target`, filled from PyPI. Never skipped: without one it panics with the reason.
pub fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("MIANZHENG_PYTHON") {
        return python.into();
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let venv = repository.join("target/venv");
    let python = venv.join("bin/python");
    if is_ready(&python) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "-r"])
        .arg(repository.join("tests/requirements.txt")));
    if !is_ready(&python) {
        panic!("the packages of tests/requirements.txt don't import");
    }
    python
}

fn is_ready(python: &Path) -> bool {
    let imports = "import confluent_kafka.schema_registry.avro, cryptography";
    let tried = Command::new(python).args(["-c", imports]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{command:?}:\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{command:?}: {error}"),
    }
}
