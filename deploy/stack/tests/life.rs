//! The life of a stack: up, up again, a killed engine, down, up with the data still there, reset,
//! two side by side. One test, because each stack costs seconds and half a gigabyte.

#![cfg(test)]

use mz_stack::{Health, Quiet, Stack, StackError, StackInfo, StackOptions};
use sqlx::{Connection as _, PgConnection};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

fn stack(dir: &Path) -> Stack {
    Stack::new(StackOptions {
        kafka_heap: "512m".to_owned(),
        fsync: false,
        ..StackOptions::new(dir)
    })
}

fn on_database<T>(
    info: &StackInfo,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let mut connection = PgConnection::connect(&info.pg_url).await.unwrap();
            work(&mut connection).await.unwrap()
        })
}

fn execute(info: &StackInfo, statement: &'static str) {
    on_database(info, async |connection| {
        sqlx::query(statement).execute(connection).await
    });
}

fn number(info: &StackInfo, query: &'static str) -> i64 {
    on_database(info, async |connection| {
        sqlx::query_scalar(query).fetch_one(connection).await
    })
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_stack_lives_dies_and_starts_again() {
    let home = tempfile::tempdir().unwrap();
    // As a fresh clone has it: others may enter.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let one = stack(&home.path().join("one"));
    let two = stack(&home.path().join("two"));

    assert!(matches!(one.info(), Err(StackError::NotUp { .. })));
    assert!(!one.down(&Quiet).unwrap(), "down of nothing");

    let begun = Instant::now();
    let info = one.up(&Quiet).unwrap();
    eprintln!("first up: {:.1?}", begun.elapsed());
    assert!(one.status().unwrap().ready());
    execute(&info, "CREATE TABLE kept AS SELECT 42::bigint AS n");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.path().join("one/stack.json")), 0o600);
    assert_eq!(mode(&home.path().join("one/postgres/password")), 0o600);
    assert_eq!(mode(&home.path().join("one/keys")), 0o700);

    // Idempotent: the same processes, the same ports.
    let again = one.up(&Quiet).unwrap();
    assert_eq!(again.kafka.process, info.kafka.process);
    assert_eq!(again.postgres.process, info.postgres.process);

    // Side by side.
    let other = two.up(&Quiet).unwrap();
    assert_ne!(other.bootstrap, info.bootstrap);
    assert_ne!(other.postgres.port, info.postgres.port);
    two.down(&Quiet).unwrap();

    // A dead engine is started again on its port; the living one is left alone.
    kill(info.kafka.process.as_ref().unwrap().pid);
    while one.status().unwrap().kafka != Health::Down {}
    let healed = one.up(&Quiet).unwrap();
    assert_eq!(healed.bootstrap, info.bootstrap);
    assert_eq!(healed.postgres.process, info.postgres.process);

    // Down leaves no process; up finds keys, ports and data again.
    assert!(one.down(&Quiet).unwrap());
    let status = one.status().unwrap();
    assert_eq!(
        (status.kafka, status.postgres),
        (Health::Down, Health::Down)
    );
    let begun = Instant::now();
    let up = one.up(&Quiet).unwrap();
    eprintln!("second up: {:.1?}", begun.elapsed());
    assert_eq!(up.bootstrap, info.bootstrap);
    assert_eq!(up.pg_url, info.pg_url);
    assert_eq!(
        number(&up, "SELECT n FROM kept"),
        42,
        "data outlives a restart"
    );

    // A stack file whose process id now belongs to somebody else must not harm them.
    let mut bystander = std::process::Command::new("sleep")
        .arg("300")
        .spawn()
        .unwrap();
    let path = home.path().join("one/stack.json");
    let kafka = up.kafka.process.unwrap();
    let forged = std::fs::read_to_string(&path).unwrap().replace(
        &format!("\"pid\": {}", kafka.pid),
        &format!("\"pid\": {}", bystander.id()),
    );
    std::fs::write(&path, forged).unwrap();
    assert_eq!(one.status().unwrap().kafka, Health::Down);
    one.down(&Quiet).unwrap();
    assert!(
        bystander.try_wait().unwrap().is_none(),
        "killed a bystander"
    );
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    kill(kafka.pid);

    one.reset(&Quiet).unwrap();
    assert!(!home.path().join("one/kafka").exists());
    assert!(!home.path().join("one/postgres").exists());
    assert!(!home.path().join("one/stack.json").exists());
    assert!(
        home.path().join("one/keys").exists(),
        "keys outlive a reset"
    );
    two.reset(&Quiet).unwrap();
}
