//! P6, from a department's own premises: with its certificate, its witness key and the contract, and no file of
//! the bureau's, it witnesses the log over the network and proves what was delivered to it.

use crate::p6_auditor::CATCH_UP;
use mz_e2e::people::reads;
use mz_e2e::{Exit, World, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};

const INSURANCE: &str = "to.police.talent-settlement.hrss.insurance.status.v1";

/// What docs/operator.md says that a department's witness needs.
fn premises(world: &World) -> PathBuf {
    let (from, to) = (world.it.dir(), world.it.dir().join("premises"));
    let copy = |file: &Path| {
        let target = to.join(file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(from.join(file), target).unwrap();
    };
    for file in [
        "instance.yaml",
        "keys/ca/ca.crt",
        "keys/tls/police.adapter.crt",
        "keys/tls/police.adapter.key",
        "keys/police/witness.key",
    ] {
        copy(Path::new(file));
    }
    let mut folders = vec![PathBuf::from("contract")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(from.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            match entry.path().is_dir() {
                true => folders.push(path),
                false => copy(&path),
            }
        }
    }
    to
}

/// The console is away when the witness starts: that is an alarm and no end.
pub fn a_department_checks_from_its_own_premises(world: &mut World) {
    let premises = premises(world);
    let dir = premises.display().to_string();
    let url = format!("https://{}", world.it.address("console"));
    world.console.terminate();
    assert_eq!(world.console.wait(CATCH_UP), Exit::Code(0));
    let keep = premises.join("kept").display().to_string();
    let args = [
        "witness",
        "--dir",
        &dir,
        "--department",
        "police",
        "--url",
        &url,
        "--keep",
        &keep,
    ];
    let mut witness = world.it.start("witness-police", &args);
    wait::until(
        "the alarm",
        CATCH_UP,
        || witness.said(),
        |said| said.contains("HTTP_UNREACHABLE"),
    );
    let once = world.it.output(&["ledger", "status", "--json"], None);
    assert!(once.status.success());
    assert_eq!(witness.ended(), None);
    world.console = world.it.start("console", &["console"]);
    wait::until(
        "the cosignature",
        CATCH_UP,
        || witness.said(),
        |said| said.contains("cosigned at"),
    );
    let said = witness.said();
    assert!(!said.contains(" 0 deliveries compared"), "{said}");
    witness.terminate();
    assert_eq!(witness.wait(CATCH_UP), Exit::Code(0));
    assert!(!premises.join("ledger").exists());
    assert!(premises.join("kept/0").is_dir());

    // Its own delivery, proven without the bureau's disk, and verified without the bureau.
    let id = reads(&world.it, "police", INSURANCE)[0]["audit_id"].clone();
    let (id, file) = (id.as_str().unwrap(), premises.join("own.tlog-proof"));
    let (file, contract) = (file.display().to_string(), format!("{dir}/contract"));
    let policy = world.it.dir().join("ledger/tlog-policy");
    let prove = |principal: &str, more: &[&str], code: i32| {
        let mut args = vec!["prove", "--dir", &dir, "--audit-id", id, "--url", &url];
        args.extend(["--principal", principal, "--cosigned", "--out", &file]);
        args.extend(more);
        world.it.run_with(&args, None, &[code])
    };
    prove("police.adapter", &[], 0);
    let verify = [
        "verify",
        "--dir",
        &dir,
        &file,
        "--contract",
        &contract,
        "--policy",
        &policy.display().to_string(),
        "--json",
    ];
    let proven: Value = serde_json::from_str(&world.it.run(&verify)).unwrap();
    assert_eq!(proven["audit_id"], id);
    assert_eq!(proven["witnesses"], serde_json::json!(["police"]));
    // Another's certificate is not there; a folder and a network are two things; a number that nobody gave.
    prove("hrss.adapter", &[], 1);
    prove("police.adapter", &["--folder", "elsewhere"], 2);
    let unknown = [
        "prove",
        "--audit-id",
        "gateway-0-999999",
        "--url",
        &url,
        "--principal",
    ];
    world
        .it
        .run_with(&[&unknown[..], &["police.adapter"]].concat(), None, &[1]);
    // A counter's certificate, of the same department, does not open the log.
    world
        .it
        .run_with(&[&unknown[..], &["police.window"]].concat(), None, &[1]);
    let plain = [
        "witness",
        "--department",
        "police",
        "--once",
        "--url",
        "http://localhost:1",
    ];
    world.it.run_with(&plain, None, &[2]);
}
