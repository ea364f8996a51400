//! P6, what was not read: closed, cosigned, proven to somebody who trusts nobody.

use crate::p6_auditor::{CATCH_UP, ask};
use mz_e2e::{World, wait};
use serde_json::Value;
use std::process::Output;

/// As docs/auditor.md has it: police never asked about the outsider, and nobody can prove the same about the
/// settler.
pub fn what_was_not_read_is_proven(world: &World, settler: &str, outsider: &str, until: &str) {
    let contract = world.it.contract_root().display().to_string();
    let policy = world
        .it
        .dir()
        .join("ledger/tlog-policy")
        .display()
        .to_string();
    let file = world.it.dir().join("x.absence").display().to_string();
    let console = format!("https://{}", world.it.address("console"));
    let asked = |department: &str, id: &str| {
        let args = [
            "ledger",
            "absence",
            "--id",
            "-",
            "--department",
            department,
            "--from",
            "2026-01-01",
            "--to",
            until,
            "--operator",
            "sj-1",
            "--reason",
            "信访 119",
            "--cosigned",
            "--url",
            &console,
            "--out",
            &file,
            "--lang",
            "en",
        ];
        world.it.output(&args, Some(&format!("{id}\n")))
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let prove = |department: &str, id: &str, code: i32| {
        let output = asked(department, id);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    };
    prove("police", outsider, 1);
    // Until the vault has labelled everybody, and what is asked for is long enough ago.
    wait::until(
        "the range to be closed and cosigned",
        2 * CATCH_UP,
        || {
            let closed = world.it.output(&["ledger", "close"], None);
            assert!(matches!(closed.status.code(), Some(0 | 1)));
            world
                .it
                .run(&["witness", "--department", "police", "--once"]);
            let output = asked("police", outsider);
            (output.status.success(), said(&closed), said(&output))
        },
        |(proven, ..)| *proven,
    );
    let verify = |id: &str, code: i32| -> Value {
        let args = [
            "verify",
            &file,
            "--contract",
            &contract,
            "--policy",
            &policy,
            "--id",
            "-",
            "--json",
        ];
        let text = world.it.run_with(&args, Some(&format!("{id}\n")), &[code]);
        serde_json::from_str(&text).unwrap_or_default()
    };
    let proven = verify(outsider, 0);
    assert_eq!(proven["nothing"], true, "{proven:#}");
    assert_eq!(proven["department"], "police");
    assert_eq!(proven["witnesses"], serde_json::json!(["police"]));
    // It is about nobody else.
    verify(settler, 4);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(outsider));
    prove("police", settler, 0);
    let read = verify(settler, 0);
    assert_eq!(read["nothing"], false, "{read:#}");
    assert!(read["read"][0]["count"].as_u64() > Some(3), "{read:#}");
    prove("union", settler, 0);
    assert_eq!(verify(settler, 0)["nothing"], true);
    prove("polcie", settler, 2);
    // Asking was recorded.
    let question = |entry: &Value| entry["reason"] == "信访 119";
    wait::value("the question to be logged", CATCH_UP, || {
        let entries = ask(world, &["who-read", "--id", "-"], Some(outsider));
        entries.iter().any(question).then_some(())
    });
}
