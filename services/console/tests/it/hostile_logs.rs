//! A witness before a bureau that plays foul over the network: it costs no more than a limit, and leads to no
//! refusal and no cosignature.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mz_bus::TlsFiles;
use mz_console::{ClientError, HttpSource};
use mz_ledger::log::{LogFile, LogFolder, LogName};
use mz_ledger::witness::Source as _;
use mz_vault::testing::TestBus;

use crate::tls_by_hand::{Accepted, accept, server};
use crate::witness::world::{LOG, World};

/// What it does with a request.
enum Foul {
    Says(Vec<u8>),
    /// Bytes without an end, with or without a length.
    Endless(&'static str),
    /// A byte now and then.
    Trickles,
    /// Nothing.
    Hangs,
}

struct Bureau {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bureau {
    fn new(bus: &TestBus, plays: impl FnMut(&str) -> Foul + Send + 'static) -> Self {
        Self::of(&bus.tls("bus.console"), plays)
    }

    fn of(tls: &TlsFiles, mut plays: impl FnMut(&str) -> Foul + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let config = server(tls);
        let (asked, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Some((stream, path)) = socket.ok().and_then(|socket| accept(&config, socket))
                else {
                    continue;
                };
                counted.fetch_add(1, Ordering::AcqRel);
                let (foul, stopped) = (plays(&path), Arc::clone(&stopped));
                std::thread::spawn(move || play(stream, foul, &stopped));
            }
        });
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    fn source(&self, bus: &TestBus) -> HttpSource {
        let base = format!("https://localhost:{}", self.address.port());
        HttpSource::within(&base, &bus.tls("police.adapter"), Duration::from_secs(2)).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::AcqRel)
    }
}

impl Drop for Bureau {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn play(mut stream: Accepted, foul: Foul, stop: &AtomicBool) {
    let mut send = |bytes: &[u8]| {
        stream
            .write_all(bytes)
            .and_then(|()| stream.flush())
            .is_ok()
    };
    let going = || !stop.load(Ordering::Acquire);
    match foul {
        Foul::Says(bytes) => {
            send(&bytes);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        Foul::Endless(head) => {
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let mut good = send(head.as_bytes());
            while good && going() {
                good = send(piece.as_bytes());
            }
        }
        Foul::Trickles => {
            let mut good = send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            while good && going() {
                std::thread::sleep(Duration::from_millis(100));
                good = send(b"x");
            }
        }
        Foul::Hangs => {
            let started = Instant::now();
            while going() && started.elapsed() < Duration::from_secs(4) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn problem(status: &str, code: &str, en: &str) -> Vec<u8> {
    let body = serde_json::json!({"code": code, "zh": en, "en": en});
    answer(status, body.to_string().as_bytes())
}

fn named(error: &std::io::Error) -> (&'static str, String) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let code = match inner.map(ClientError::code) {
        Some("HTTP_UNREACHABLE") => "HTTP_UNREACHABLE",
        Some("HTTP_ANSWER_INVALID") => "HTTP_ANSWER_INVALID",
        Some("HTTP_BUSY") => "HTTP_BUSY",
        Some("HTTP_ROLE_FORBIDDEN") => "HTTP_ROLE_FORBIDDEN",
        _ => "?",
    };
    (code, error.to_string())
}

#[test]
fn every_foul_answer_is_named_and_costs_a_limit() {
    let bus = TestBus::new();
    let elsewhere = Bureau::new(&bus, |_| Foul::Says(answer("200 OK", b"stolen")));
    let away = elsewhere.address;
    let redirect = move |status: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nlocation: https://localhost:{}/v1/ledger/0/2026/checkpoint\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            away.port()
        );
        head.into_bytes()
    };
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let unending = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let cases: Vec<(Foul, &str, usize)> = vec![
        (Foul::Endless(chunked), "HTTP_ANSWER_INVALID", 1),
        (Foul::Endless(unending), "HTTP_ANSWER_INVALID", 1),
        (
            Foul::Endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        (
            Foul::Endless("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n"),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        (
            Foul::Says(answer("200 OK", &[b'x'; 65_537])),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        (Foul::Says(redirect("302 Found")), "HTTP_ANSWER_INVALID", 1),
        (
            Foul::Says(redirect("308 Permanent Redirect")),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        // Not the service that was asked: no word about the file.
        (
            Foul::Says(answer("404 Not Found", b"<html>nothing</html>")),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        (
            Foul::Says(problem("404 Not Found", "HTTP_BUSY", "x")),
            "HTTP_BUSY",
            1,
        ),
        (
            Foul::Says(answer("204 No Content", b"")),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        (
            Foul::Says(problem("403 Forbidden", "HTTP_ROLE_FORBIDDEN", "x")),
            "HTTP_ROLE_FORBIDDEN",
            1,
        ),
        (
            Foul::Says(problem("418 Tea", "\u{1b}[2JPWNED", "\u{1b}[2J")),
            "HTTP_ANSWER_INVALID",
            1,
        ),
        (
            Foul::Says(problem("403 Forbidden", "HTTP_BUSY", "\u{1b}[2Jcall 555")),
            "HTTP_BUSY",
            1,
        ),
        (Foul::Says(answer("999", b"")), "?", 0),
        (
            Foul::Says(b"nonsense\r\n\r\n".to_vec()),
            "HTTP_UNREACHABLE",
            3,
        ),
        (
            Foul::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_vec()),
            "HTTP_UNREACHABLE",
            3,
        ),
        (Foul::Trickles, "HTTP_UNREACHABLE", 1),
        (Foul::Hangs, "HTTP_UNREACHABLE", 1),
    ];
    for (at, (foul, code, asked)) in cases.into_iter().enumerate() {
        let again = matches!(foul, Foul::Says(_));
        let mut foul = Some(foul);
        let bureau = Bureau::new(&bus, move |_| match &foul {
            Some(Foul::Says(bytes)) if again => Foul::Says(bytes.clone()),
            _ => foul.take().unwrap_or(Foul::Hangs),
        });
        let started = Instant::now();
        let error = bureau.source(&bus).read(LOG, "checkpoint").unwrap_err();
        let (named, text) = named(&error);
        println!("{at}: {named} {text}");
        if code != "?" {
            assert_eq!((named, bureau.asked()), (code, asked), "{at}: {text}");
        }
        assert!(started.elapsed() < Duration::from_secs(8), "{at}");
        assert!(
            !text.contains('\u{1b}') && !text.contains("555"),
            "{at}: {text}"
        );
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
}

#[test]
fn a_busy_moment_passes_and_none_is_said_by_the_service_alone() {
    let bus = TestBus::new();
    let mut times = 0;
    let bureau = Bureau::new(&bus, move |_| {
        times += 1;
        Foul::Says(match times {
            1 => problem("503 Busy", "HTTP_BUSY", "x"),
            2 => Vec::new(),
            3 => answer("200 OK", b"here"),
            4 => problem("404 Not Found", "HTTP_LOG_UNKNOWN", "x"),
            _ => problem("503 Busy", "HTTP_BUSY", "x"),
        })
    });
    let source = bureau.source(&bus);
    assert_eq!(source.read(LOG, "checkpoint").unwrap().unwrap(), b"here");
    assert_eq!(bureau.asked(), 3);
    assert_eq!(source.read(LOG, "checkpoint").unwrap(), None);
    assert_eq!(bureau.asked(), 1);
    assert_eq!(
        named(&source.read(LOG, "checkpoint").unwrap_err()).0,
        "HTTP_BUSY"
    );
    assert_eq!(bureau.asked(), 3);
    // What is no name is not even asked for.
    for (log, path) in [
        ("0/2026-99", "checkpoint"),
        (LOG, "../checkpoint"),
        (LOG, "tlog-policy"),
    ] {
        assert!(source.read(log, path).is_err());
    }
    assert_eq!(bureau.asked(), 0);
}

#[test]
fn a_list_of_logs_is_one_or_is_named() {
    let bus = TestBus::new();
    let said = Arc::new(Mutex::new(Vec::new()));
    let says = Arc::clone(&said);
    let bureau = Bureau::new(&bus, move |_| {
        Foul::Says(answer("200 OK", &says.lock().unwrap()))
    });
    let source = bureau.source(&bus);
    let many: Vec<String> = (0..5_000).map(|shard| format!("{shard}/2026")).collect();
    for bad in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        "{\"logs\":null}".to_owned(),
        "{\"logs\":[1]}".to_owned(),
        "{\"logs\":[\"../../etc\"]}".to_owned(),
        "{\"logs\":[\"0/2026\",\"0/2026-13\"]}".to_owned(),
        "{\"logs\":[\"0/2026\\u0000\"]}".to_owned(),
        serde_json::json!({"logs": many}).to_string(),
        format!("{{\"logs\":{}", "[".repeat(100_000)),
        " ".repeat(300_000),
    ] {
        *said.lock().unwrap() = bad.clone().into_bytes();
        let error = source.logs().unwrap_err();
        assert_eq!(
            named(&error).0,
            "HTTP_ANSWER_INVALID",
            "{}",
            &bad[..bad.len().min(60)]
        );
    }
    *said.lock().unwrap() = br#"{"logs":["1/2026","0/2027","0/2026","0/2026"]}"#.to_vec();
    assert_eq!(source.logs().unwrap(), ["0/2026", "0/2027", "1/2026"]);
}

#[test]
fn only_the_buss_own_service_under_its_own_name_is_asked() {
    let bus = TestBus::new();
    let tls = bus.tls("police.adapter");
    for base in [
        "",
        "localhost:1",
        "http://localhost:1",
        "https://",
        "https://user:secret@localhost:1",
        "https://localhost:1/elsewhere",
        "https://localhost:1?x",
        "https://localhost:1#x",
        "https://local host:1",
        "https://localhost:1\r\nx: y",
        &format!("https://{}", "x".repeat(300)),
    ] {
        let error = HttpSource::new(base, &tls)
            .err()
            .map(|error| error.code().to_owned());
        assert_eq!(error.as_deref(), Some("HTTP_URL"), "{base}");
    }
    // Nobody listens; somebody with a certificate of another authority does.
    let nobody = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let base = format!("https://localhost:{}", nobody.port());
    let error = HttpSource::new(&base, &tls).unwrap().logs().unwrap_err();
    assert_eq!(named(&error).0, "HTTP_UNREACHABLE");
    let foreign = tempfile::tempdir().unwrap();
    let (keys, root) = (foreign.path().join("keys"), foreign.path().join("contract"));
    std::fs::create_dir_all(root.join("departments")).unwrap();
    mz_keys::provision(&keys, &root, &["police"]).unwrap();
    let theirs = TlsFiles::of(&keys, "police.adapter");
    let bureau = Bureau::of(&theirs, |_| Foul::Says(answer("200 OK", b"{\"logs\":[]}")));
    let error = bureau.source(&bus).logs().unwrap_err();
    assert_eq!((named(&error).0, bureau.asked()), ("HTTP_UNREACHABLE", 0));
}

/// The bureau hands out what it likes; the witness neither cosigns nor accuses, and goes on when the truth comes.
#[test]
fn foul_files_are_an_alarm_and_no_refusal() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let mut witness = world.witness(&first);
    world.deliver(400);
    let size = world.sign();
    let wrong = Arc::new(AtomicUsize::new(0));
    let (how, folder) = (Arc::clone(&wrong), LogFolder::new(world.logs()));
    let bureau = Bureau::new(&world.bus, move |path| {
        let name = path.strip_prefix("/v1/ledger/0/2026/").unwrap_or_default();
        let file = LogFile::parse(name);
        let log = LogName::parse(LOG).unwrap();
        let found = file.and_then(|file| folder.bytes(&log, &file).unwrap());
        let Some(mut bytes) = found else {
            return Foul::Says(problem("404 Not Found", "HTTP_LOG_UNKNOWN", "x"));
        };
        let entries = name == "tile/entries/000";
        match how.load(Ordering::Acquire) {
            0 if entries => bytes.truncate(1_000),
            1 if entries => bytes.resize(20 << 20, 0),
            2 if entries => return Foul::Says(answer("302 Found", b"")),
            3 if entries => return Foul::Says(problem("404 Not Found", "HTTP_LOG_UNKNOWN", "x")),
            4 if entries => bytes.clear(),
            5 if entries => *bytes.last_mut().unwrap() ^= 1,
            6 if name == "checkpoint" => bytes.truncate(40),
            7 if name == "checkpoint" => return Foul::Hangs,
            _ => {}
        }
        Foul::Says(answer("200 OK", &bytes))
    });
    let source = bureau.source(&world.bus);
    for (at, code) in [
        "WITNESS_LOG_UNREADABLE",
        "WITNESS_LOG_UNREADABLE",
        "WITNESS_LOG_UNREADABLE",
        "WITNESS_LOG_UNREADABLE",
        "WITNESS_LOG_UNREADABLE",
        "WITNESS_ENTRY_ALTERED",
        "WITNESS_CHECKPOINT_MALFORMED",
        "WITNESS_LOG_UNREADABLE",
    ]
    .into_iter()
    .enumerate()
    {
        wrong.store(at, Ordering::Release);
        let error = witness.step(&source, LOG).unwrap_err();
        println!("{at}: {}", mz_bus::chain(&error));
        assert_eq!((error.code(), error.is_refusal()), (code, false), "{at}");
    }
    wrong.store(99, Ordering::Release);
    let outcome = witness.step(&source, LOG).unwrap();
    assert_eq!(
        (outcome.size, outcome.compared, outcome.cosigned),
        (size, 400, true)
    );
    // The next look asks for what is new alone.
    bureau.asked();
    world.deliver(8);
    world.sign();
    assert_eq!(witness.step(&source, LOG).unwrap().compared, 8);
    let asked = bureau.asked();
    assert!(asked <= 12, "{asked}");
}
