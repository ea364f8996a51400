//! The audit log at the console's front door: who gets it, what of it, and what is no file of it.

use std::fs;
use std::net::SocketAddr;

use mz_bus::TlsFiles;
use mz_console::Running;

use crate::tls_by_hand::{Answer, ask};
use crate::witness::world::{LOG, World};
use crate::witness_source::console;

struct Front {
    world: World,
    running: Running,
}

impl Front {
    fn new() -> Self {
        let mut world = World::new();
        world.deliver(300);
        world.sign();
        let running = console(&world.bus, &world.logs());
        Self { world, running }
    }

    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    fn as_principal(&self, principal: &str, line: &str) -> Answer {
        let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let tls = self.world.bus.tls(principal);
        ask(self.address(), &tls, request.as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.as_principal("police.adapter", &format!("GET {path}"))
    }

    fn file(&self, path: &str) -> Answer {
        self.get(&format!("/v1/ledger/{LOG}/{path}"))
    }

    fn on_disk(&self, path: &str) -> Vec<u8> {
        fs::read(self.world.logs().join(LOG).join(path)).unwrap()
    }
}

#[test]
fn what_is_signed_is_handed_out_as_it_lies_there() {
    let mut front = Front::new();
    let listed = front.get("/v1/ledger/logs");
    assert_eq!(
        (listed.status, &*listed.body),
        (200, &br#"{"logs":["0/2026"]}"#[..])
    );
    assert_eq!(listed.header("cache-control"), Some("no-store"));
    for (path, kind, caching) in [
        ("checkpoint", "text/plain; charset=utf-8", "no-store"),
        (
            "tile/0/000",
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
        (
            "tile/0/001.p/45",
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
        (
            "tile/1/000.p/1",
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
        (
            "tile/entries/000",
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
        (
            "tile/entries/001.p/45",
            "application/octet-stream",
            "private, max-age=31536000, immutable",
        ),
    ] {
        let answer = front.file(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == front.on_disk(path), "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("cache-control"), Some(caching), "{path}");
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length), "{path}");
        let head = front.as_principal("police.adapter", &format!("HEAD /v1/ledger/{LOG}/{path}"));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(&*length), "{path}");
    }
    // Longer than one piece of an answer.
    assert!(front.on_disk("tile/entries/000").len() > 40_000);
    // What lies behind the checkpoint is nobody's yet, also where it is whole.
    front.world.deliver(300);
    front.world.log.flush().unwrap();
    for path in [
        "tile/entries/001",
        "tile/0/001",
        "tile/entries/002.p/89",
        "tile/1/000.p/2",
    ] {
        assert!(front.world.logs().join(LOG).join(path).is_file(), "{path}");
        let answer = front.file(path);
        assert_eq!(
            (answer.status, answer.code()),
            (404, "HTTP_LOG_UNKNOWN".to_owned()),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    front.world.sign();
    assert_eq!(front.file("tile/entries/001").status, 200);
    // A folder that is away is not an empty log.
    fs::rename(front.world.logs(), front.world.dir.path().join("away")).unwrap();
    for path in [
        "/v1/ledger/logs",
        "/v1/ledger/0/2026/checkpoint",
        "/v1/ledger/0/2026/tile/0/000",
    ] {
        let answer = front.get(path);
        assert_eq!(
            (answer.status, answer.code()),
            (503, "HTTP_LOG_UNREADABLE".to_owned()),
            "{path}"
        );
    }
}

#[test]
fn witnesses_and_auditors_read_it_and_nobody_else_does() {
    let front = Front::new();
    let bus = &front.world.bus;
    // A department that has a certificate, and no place in the contract.
    mz_keys::provision(bus.keys().root(), &bus.contract_root(), &["stranger"]).unwrap();
    let paths = [
        "/v1/ledger/logs".to_owned(),
        format!("/v1/ledger/{LOG}/checkpoint"),
    ];
    for path in &paths {
        for (principal, status) in [
            ("police.adapter", 200),
            ("hrss.adapter", 200),
            ("police.auditor", 200),
            ("bus.auditor", 200),
            ("stranger.adapter", 403),
            ("stranger.auditor", 403),
            ("police.window", 403),
            ("police.connector", 403),
            ("bus.portal", 403),
            ("bus.security", 403),
            ("bus.admin", 403),
            ("bus.gateway", 403),
            ("bus.ledger", 403),
            ("bus.console", 403),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = front.as_principal(principal, &format!("{method} {path}"));
                assert_eq!(answer.status, status, "{principal} {method} {path}");
                if status == 403 && method == "GET" {
                    assert_eq!(answer.code(), "HTTP_ROLE_FORBIDDEN");
                }
            }
        }
        for method in [
            "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND",
        ] {
            let answer = front.as_principal("police.adapter", &format!("{method} {path}"));
            assert_eq!(
                (answer.status, answer.code()),
                (405, "HTTP_METHOD".to_owned()),
                "{method}"
            );
            assert_eq!(answer.header("allow"), Some("get,head"), "{}", answer.head);
        }
        // A body says nothing.
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 18\r\n\r\n{{\"logs\":[\"9/9999\"]}}"
        );
        let answer = ask(
            front.address(),
            &bus.tls("police.adapter"),
            request.as_bytes(),
        );
        assert_eq!(answer.status, 200);
        assert!(!String::from_utf8_lossy(&answer.body).contains("9999"));
    }
    // Schemas are there as before.
    assert_eq!(front.get("/subjects").status, 200);
    assert_eq!(front.get("/nothing").status, 404);
}

#[test]
fn no_path_leads_elsewhere() {
    let front = Front::new();
    let (logs, dir) = (front.world.logs(), front.world.dir.path());
    fs::write(dir.join("secret"), "a secret").unwrap();
    fs::write(logs.join("tlog-policy"), "a secret").unwrap();
    fs::write(logs.join("0/closing.lock"), "a secret").unwrap();
    fs::create_dir_all(logs.join("0/2026-99")).unwrap();
    fs::write(logs.join("0/2026-99/checkpoint"), "a secret").unwrap();
    std::os::unix::fs::symlink(dir, logs.join("1")).unwrap();
    let log = logs.join(LOG);
    std::os::unix::fs::symlink(dir.join("secret"), log.join("checkpoint.cosigned")).unwrap();
    std::os::unix::fs::symlink(dir, log.join("absence")).unwrap();
    fs::create_dir_all(dir.join("0")).unwrap();
    fs::write(dir.join("0/statement"), "a secret").unwrap();
    let long = format!("/v1/ledger/{LOG}/{}checkpoint", "x/".repeat(3_000));
    for path in [
        "/v1/ledger/",
        "/v1/ledger/0",
        "/v1/ledger/0/2026",
        "/v1/ledger/0/2026/",
        "/v1/ledger/tlog-policy",
        "/v1/ledger/0/closing.lock",
        "/v1/ledger/0/2026/tlog-policy",
        "/v1/ledger/0/2026/../../tlog-policy",
        "/v1/ledger/0/2026/../../../secret",
        "/v1/ledger/../secret",
        "/v1/ledger/0/2026/%2e%2e/%2e%2e/tlog-policy",
        "/v1/ledger/0/2026/%2e%2e%2f%2e%2e%2ftlog-policy",
        "/v1/ledger/0/2026/..%2f..%2ftlog-policy",
        "/v1/ledger/0/2026/..%5c..%5ctlog-policy",
        "/v1/ledger/0/2026/%252e%252e/%252e%252e/tlog-policy",
        "/v1/ledger/0/2026//checkpoint",
        "/v1/ledger//0/2026/checkpoint",
        "//v1/ledger/0/2026/checkpoint",
        "/v1/ledger/0/2026/./checkpoint",
        "/v1/ledger/0/2026/checkpoint/",
        "/v1/ledger/0/2026/checkpoint%00",
        "/v1/ledger/0/2026/checkpoint%00.txt",
        "/v1/ledger/0/2026/checkpoin%74",
        "/v1/ledger/0/2026/checkpoint;x",
        "/v1/ledger/0/2026/CHECKPOINT",
        "/v1/ledger/00/2026/checkpoint",
        "/v1/ledger/+0/2026/checkpoint",
        "/v1/ledger/65536/2026/checkpoint",
        "/v1/ledger/0/2026-99/checkpoint",
        "/v1/ledger/0/2026-00/checkpoint",
        "/v1/ledger/0/2026-1/checkpoint",
        "/v1/ledger/0/02026/checkpoint",
        "/v1/ledger/0/%D9%A2%D9%A0%D9%A2%D9%A6/checkpoint",
        "/v1/ledger/0/2026/tile/0/000.p",
        "/v1/ledger/0/2026/tile/0/0",
        "/v1/ledger/0/2026/tile/0/000.p/256",
        "/v1/ledger/0/2026/tile/00/000",
        "/v1/ledger/0/2026/tile/63/x018/x446/x744/x073/x709/x551/615",
        "/v1/ledger/0/2026/tile/entries",
        "/v1/ledger/0/2026/tile/0/../0/000",
        "/v1/ledger/0/2026/absence",
        "/v1/ledger/0/2026/absence/00/statement",
        "/v1/ledger/0/2026/absence/0/../../checkpoint",
        &long,
    ] {
        let answer = front.get(path);
        assert_eq!(answer.status, 404, "{path}");
        let body = String::from_utf8_lossy(&answer.body);
        assert!(
            !body.contains("secret") && !body.contains("2026"),
            "{path}: {body}"
        );
    }
    // Bytes that no path has: refused before anybody looks.
    for path in [
        &b"/v1/ledger/0/2026/\0"[..],
        b"/v1/ledger/0/2026/\xd9\xa0",
        b"/v1/ledger/0/ 2026/x",
    ] {
        let head = b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let request = [&b"GET "[..], path, head].concat();
        let tls: TlsFiles = front.world.bus.tls("police.adapter");
        let answer = ask(front.address(), &tls, &request);
        assert!(
            matches!(answer.status, 400 | 404),
            "{path:?}: {}",
            answer.head
        );
    }
    // Links are there and are not followed.
    for path in [
        "0/2026/checkpoint.cosigned",
        "0/2026/absence/0/statement",
        "1/2026/checkpoint",
    ] {
        let answer = front.get(&format!("/v1/ledger/{path}"));
        assert_eq!(
            (answer.status, answer.code()),
            (503, "HTTP_LOG_UNREADABLE".to_owned()),
            "{path}"
        );
    }
    assert_eq!(front.get("/v1/ledger/logs").body, br#"{"logs":["0/2026"]}"#);
    assert_eq!(
        front
            .get("/v1/ledger/0/2026/checkpoint?x=../../tlog-policy")
            .status,
        200
    );
}
