//! docs/subscriber.md as a reader types it: a stock client meets a withdrawal and answers it with a
//! receipt that it wrote by hand. Nothing of ours on its side.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{Fact, World};
use mz_journal::ReceiptAction;
use mz_keys::public::KeyUse;
use mz_stack::testing::python;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python block of the page that begins with this comment, in a file.
fn program(world: &World, name: &str) -> PathBuf {
    let page = std::fs::read_to_string(repository().join("docs/subscriber.md")).unwrap();
    let block = page
        .split("```python\n")
        .map(|rest| rest.split("```").next().unwrap())
        .find(|block| block.starts_with(&format!("# {name}")))
        .unwrap();
    let path = world.folder.path().join(name);
    std::fs::write(&path, block).unwrap();
    path
}

fn said(output: Output) -> String {
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_receipt_written_by_hand_verifies() {
    let world = World::new();
    let mut gateway = world.gateway();
    let fact = Fact::insurance(3, 5);
    let topic = gateway.topic(fact.dataset);
    gateway.skip(&topic, 3, 300);
    let withdrawal = gateway.withdrawal(&fact, 77);
    gateway.send(std::slice::from_ref(&withdrawal));

    let bus = world.bus("police.adapter");
    let tls = bus.tls.clone().unwrap();
    let run = |name: &str| {
        let mut command = Command::new(python());
        command
            .arg(program(&world, name))
            .env("BUS_BOOTSTRAP", &bus.bootstrap)
            // Null values need no schema: nobody listens there.
            .env("BUS_SCHEMAS", "https://127.0.0.1:9")
            .env("BUS_CA", &tls.ca)
            .env("BUS_CERT", &tls.cert)
            .env("BUS_KEY", &tls.key)
            .env(
                "BUS_GROUP",
                format!("{}police.talent-settlement", world.prefix),
            )
            .env("BUS_TOPIC", format!("{}{topic}", world.prefix))
            .env("BUS_PREFIX", &world.prefix)
            .env("BUS_AGREEMENT", "police/talent-settlement")
            .env(
                "BUS_RECEIPT_KEY",
                world.keys.signing_key("police", KeyUse::Receipt),
            )
            .env("BUS_RECEIPT_KEY_ID", world.receipt_signer().key_id());
        command
    };
    let read = said(run("subscriber.py").output().unwrap());
    let line = read.lines().next().unwrap();
    let seen: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(seen["withdrawn"], true, "{line}");
    assert_eq!(seen["reason"], "CONSENT_REVOKED");
    assert_eq!((&seen["lane"], &seen["sequence"]), (&3.into(), &301.into()));

    let mut child = run("receipt.py")
        .arg("MARKED")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), line.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap());
    // Reading checks key, partition and signature against the contract.
    let receipts = world.receipts();
    let [receipt] = receipts.as_slice() else {
        panic!("{} receipts", receipts.len());
    };
    assert_eq!(receipt.action, ReceiptAction::Marked);
    assert_eq!((&receipt.topic, receipt.sequence), (&topic, 301));
    assert_eq!(receipt.key, fact.key());
}
