//! Real shards on a real bus: in order, once, whoever dies or freezes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mz_bus::{TxProducer, tuning};
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain, topics};
use mz_ledger::check::{Report, check};
use mz_ledger::log::{CHECKPOINT, Disk, Folder};
use mz_ledger::{LedgerError, Options, Period, Progress, run, system_clock, verifier_key};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::note::Note;
use mz_vault::testing::{LANES, TestBus, eventually};
use tempfile::TempDir;

struct World {
    bus: TestBus,
    folder: TempDir,
    producer: TxProducer,
    chains: Vec<Chain>,
    written: u64,
}

struct Running {
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), LedgerError>>,
}

impl Running {
    fn logged(&self, count: u64) {
        eventually("the ledger has logged it", || {
            self.progress.committed() >= count
        });
    }

    fn runs(&self) {
        eventually("the ledger runs", || self.progress.running());
    }

    /// Waits until it ends by itself.
    fn ended(self) -> Result<(), LedgerError> {
        eventually("the ledger ends", || self.thread.is_finished());
        self.thread.join().unwrap()
    }

    fn end(self) -> Result<(), LedgerError> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

impl World {
    fn new() -> Self {
        let bus = TestBus::new();
        let id = topics::SlotKind::Gateway.transactional_id(0);
        let options = bus.bus("bus.gateway");
        let mut producer = TxProducer::open(&options, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        producer.init().unwrap();
        Self {
            bus,
            folder: tempfile::tempdir().unwrap(),
            producer,
            chains: (0..LANES)
                .map(|lane| Chain::new(AuditWriter::Gateway, lane))
                .collect(),
            written: 0,
        }
    }

    fn options(&self, shard: u16, shards: u16) -> Options {
        let bus = self.bus.bus("bus.ledger");
        let folder = self.folder.path().to_path_buf();
        let options = Options::new(bus, &self.bus.contract, &self.bus.keys(), folder);
        Options {
            shard,
            shards,
            ..options.unwrap()
        }
    }

    fn start(&self, options: Options) -> Running {
        let (progress, stop) = (
            Arc::new(Progress::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let (counted, ended) = (Arc::clone(&progress), Arc::clone(&stop));
        let thread = std::thread::spawn(move || run(&options, &counted, &ended));
        Running {
            progress,
            stop,
            thread,
        }
    }

    /// Writes chained records round the lanes, in one transaction.
    fn write(&mut self, count: u64) {
        self.send(count, |_, _| {});
    }

    fn send(&mut self, count: u64, mut change: impl FnMut(&mut Vec<u8>, &mut Vec<u8>)) {
        self.producer.begin().unwrap();
        for _ in 0..count {
            let lane = (self.written % u64::from(LANES)) as usize;
            let chain = &mut self.chains[lane];
            let (kind, cause) = (AuditKind::Delivered, AuditCause::Stream);
            let mut audit = Audit::empty(AuditWriter::Gateway, 0, system_clock(), kind, cause);
            audit.nonce[..8].copy_from_slice(&self.written.to_be_bytes());
            let mut bytes = Vec::new();
            chain.append(&mut audit, &mut bytes);
            let mut key = topics::audit_key(chain.writer(), chain.lane(), chain.number()).to_vec();
            change(&mut key, &mut bytes);
            let sent = self
                .producer
                .send(topics::AUDIT, lane as i32, &key, Some(&bytes), &[]);
            sent.unwrap();
            self.written += 1;
        }
        self.producer.commit().unwrap();
    }

    /// Writes that a batch was accepted, with a signature that is nobody's.
    fn accept(&mut self, lane: usize, number: u64, root: u8) {
        let chain = &mut self.chains[lane];
        let (kind, cause) = (AuditKind::BatchAccepted, AuditCause::Stream);
        let mut audit = Audit::empty(AuditWriter::Gateway, 0, system_clock(), kind, cause);
        audit.dataset = "hrss.insurance.status.v1".into();
        audit.rule = "hrss/insurance/hrss.insurance.status.v1".into();
        audit.operator = "hrss-seal-1".into();
        audit.reason = BASE64_STANDARD.encode([root; 64]).into();
        (audit.version_epoch, audit.version_counter) = (1, number);
        audit.counts.matched = 5;
        audit.event = [root; 32];
        let mut bytes = Vec::new();
        chain.append(&mut audit, &mut bytes);
        let key = topics::audit_key(chain.writer(), chain.lane(), chain.number());
        self.producer.begin().unwrap();
        let sent = self
            .producer
            .send(topics::AUDIT, lane as i32, &key, Some(&bytes), &[]);
        sent.unwrap();
        self.producer.commit().unwrap();
    }

    fn log_folder(&self, shard: u16, period: &str) -> PathBuf {
        self.folder.path().join(shard.to_string()).join(period)
    }

    /// The log under its signed checkpoint.
    fn report(&self, shard: u16, period: &str) -> Report {
        let disk = Folder::new(self.log_folder(shard, period));
        let note = disk.read(CHECKPOINT).unwrap().expect("a checkpoint");
        let note = Note::parse(&note).unwrap();
        let options = self.options(shard, 1);
        let origin = format!("{}/audit/{shard}/{period}", options.bus_id);
        note.verify(&verifier_key(&origin, &options.public).unwrap())
            .unwrap();
        let head = Checkpoint::parse(note.text()).unwrap();
        assert_eq!(head.origin, origin);
        check(&disk, head.size, &head.root)
    }

    fn this_year() -> String {
        Period::Year.name(system_clock())
    }
}

#[test]
fn records_are_logged_once_in_order_and_signed() {
    let mut world = World::new();
    world.write(10);
    let ledger = world.start(world.options(0, 1));
    // The first entry is the log's own.
    ledger.logged(11);
    for _ in 0..5 {
        world.write(100);
    }
    ledger.logged(511);
    ledger.end().unwrap();
    let report = world.report(0, &World::this_year());
    assert!(report.good(), "{:?}", report.faults);
    assert_eq!((report.size, report.records), (511, 510));
    assert_eq!(report.breaks, []);

    // A new start goes on where the last one ended, and logs what came meanwhile.
    world.write(300);
    let ledger = world.start(world.options(0, 1));
    ledger.logged(300);
    ledger.end().unwrap();
    let report = world.report(0, &World::this_year());
    assert!(report.good(), "{:?}", report.faults);
    assert_eq!((report.size, report.records), (811, 810));
}

#[test]
fn shards_share_the_lanes() {
    let mut world = World::new();
    let ledgers = [0, 1].map(|shard| world.start(world.options(shard, 2)));
    world.write(400);
    for ledger in ledgers {
        ledger.logged(201);
        ledger.end().unwrap();
    }
    for shard in 0..2 {
        let report = world.report(shard, &World::this_year());
        assert!(report.good(), "{:?}", report.faults);
        assert_eq!(report.records, 200);
    }
}

#[test]
fn two_roots_under_one_number_are_reported_with_both_records_and_stop_nothing() {
    let mut world = World::new();
    let ledger = world.start(world.options(0, 1));
    world.accept(0, 7, 1);
    // The same batch in another lane, and an honest next one.
    world.accept(1, 7, 1);
    world.accept(2, 8, 2);
    ledger.logged(4);
    assert_eq!(ledger.progress.equivocated(), 0);
    world.accept(1, 7, 3);
    world.accept(2, 7, 3);
    world.write(20);
    ledger.logged(26);
    assert_eq!(ledger.progress.equivocated(), 1);
    ledger.end().unwrap();
    let report = world.report(0, &World::this_year());
    assert!(report.good(), "{:?}", report.faults);
    let found = &report.equivocations[..];
    let [found] = found else {
        panic!("{found:?}");
    };
    let ids = [found.first.id, found.second.id].map(|id| id.to_string());
    assert_eq!(ids, ["gateway-0-1", "gateway-1-2"]);
    assert_eq!((found.first.root, found.second.root), ([1; 32], [3; 32]));
    // The bus alone can't say this of a department: nobody signed these.
    assert!(!found.is_proven(&world.bus.contract));
}

#[test]
fn two_ledgers_at_once_do_not_fork_a_log() {
    let mut world = World::new();
    let first = world.start(world.options(0, 1));
    first.logged(1);
    // On the same machine the lock says so.
    let second = world.start(world.options(0, 1));
    let refused = second.ended().unwrap_err();
    assert_eq!(refused.code(), "LEDGER_LOCKED");
    world.write(50);
    first.logged(51);
    // On another machine, with a copy of the files: it shuts the first one out, which then ends.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(world.folder.path(), copy.path());
    let mut elsewhere = world.options(0, 1);
    elsewhere.folder = copy.path().to_path_buf();
    let third = world.start(elsewhere);
    third.runs();
    world.write(50);
    third.logged(50);
    let ended = first.ended().unwrap_err();
    assert_eq!(ended.code(), "LEDGER_SUPERSEDED");
    assert!(ended.is_fenced());
    world.write(50);
    third.logged(100);
    third.end().unwrap();
    // The first one's files are behind now: it must not go on with them.
    let behind = world.start(world.options(0, 1));
    let refused = behind.ended().unwrap_err();
    assert_eq!(refused.code(), "LEDGER_TILE_MISSING");
}

#[test]
fn another_prefix_on_disk_stops_the_ledger() {
    let mut world = World::new();
    world.write(300);
    let ledger = world.start(world.options(0, 1));
    ledger.logged(301);
    ledger.end().unwrap();
    let folder = world.log_folder(0, &World::this_year());
    let tile = folder.join("tile/0/001.p/45");
    let good = std::fs::read(&tile).unwrap();
    let mut other = good.clone();
    other[3] ^= 1;
    std::fs::write(&tile, &other).unwrap();
    let refused = world.start(world.options(0, 1)).ended();
    assert_eq!(refused.unwrap_err().code(), "LEDGER_PREFIX_DIFFERS");
    std::fs::write(&tile, &good).unwrap();
    let ledger = world.start(world.options(0, 1));
    world.write(1);
    ledger.logged(1);
    ledger.end().unwrap();
}

#[test]
fn what_does_not_hold_together_is_reported_and_the_rest_is_logged() {
    let mut world = World::new();
    world.write(20);
    let mut at = 0;
    world.send(40, |key, bytes| {
        at += 1;
        match at {
            // An altered record: it is no longer what the next one continues.
            3 => *bytes.last_mut().unwrap() ^= 1,
            // Nobody can read it.
            9 => bytes.truncate(30),
            // Its key names another.
            17 => key[10] ^= 1,
            _ => {}
        }
    });
    // A record that never arrived.
    let lost = &mut world.chains[1];
    let mut audit = Audit::empty(
        AuditWriter::Gateway,
        1,
        0,
        AuditKind::Denied,
        AuditCause::Stream,
    );
    lost.append(&mut audit, &mut Vec::new());
    world.write(20);
    let ledger = world.start(world.options(0, 1));
    eventually("the ledger has met the breaks", || {
        ledger.progress.broken() >= 4
    });
    ledger.logged(80);
    ledger.end().unwrap();
    let report = world.report(0, &World::this_year());
    assert!(report.good(), "{:?}", report.faults);
    let mut codes: Vec<&str> = report
        .breaks
        .iter()
        .map(|(_, broken)| &*broken.code)
        .collect();
    codes.sort_unstable();
    // The unreadable one leaves a gap behind it, the one with another's key too.
    assert_eq!(
        codes,
        [
            "AUDIT_GAP",
            "AUDIT_GAP",
            "AUDIT_GAP",
            "AUDIT_KEY_CONTRADICTS",
            "AUDIT_LINK_BROKEN",
            "AUDIT_MALFORMED"
        ]
    );
    assert_eq!(report.records, 79, "all but the unreadable one");
}

#[test]
fn a_new_period_opens_a_log_that_names_the_closed_one() {
    use std::sync::atomic::AtomicI64;
    // The last second of a year in Beijing.
    static NOW: AtomicI64 = AtomicI64::new(1_798_732_799_000);
    let mut world = World::new();
    let mut options = world.options(0, 1);
    options.clock = || NOW.load(Ordering::Acquire);
    let ledger = world.start(options);
    world.write(30);
    ledger.logged(31);
    NOW.fetch_add(1_000, Ordering::AcqRel);
    ledger.logged(32);
    world.write(30);
    ledger.logged(62);
    ledger.end().unwrap();
    let (old, new) = (world.report(0, "2026"), world.report(0, "2027"));
    assert!(
        old.good() && new.good(),
        "{:?} {:?}",
        old.faults,
        new.faults
    );
    assert_eq!((old.records, new.records), (30, 30));
    let opened = new.opened.unwrap();
    assert_eq!((opened.size, opened.root), (old.size, old.root));
    assert!(opened.origin.ends_with("/audit/0/2026"));
}

/// A shard that is shut out again and again, at any moment of its work: between what is durable and what
/// is committed, between that and its checkpoint.
#[test]
fn whoever_takes_over_loses_and_doubles_nothing() {
    let mut world = World::new();
    for round in 0..12u64 {
        let ledger = world.start(world.options(0, 1));
        ledger.runs();
        for _ in 0..=round % 4 {
            world.write(97);
            std::thread::sleep(Duration::from_millis(13 * (round % 5)));
        }
        let id = topics::ledger_transactional_id(0);
        let options = world.bus.bus("bus.ledger");
        let mut other = TxProducer::open(&options, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        other.init().unwrap();
        world.write(97);
        let error = ledger.ended().unwrap_err();
        assert_eq!(error.code(), "LEDGER_SUPERSEDED");
    }
    let ledger = world.start(world.options(0, 1));
    eventually("all of it is logged", || {
        let folder = world.log_folder(0, &World::this_year());
        let note = Folder::new(folder).read(CHECKPOINT).unwrap().unwrap();
        let note = Note::parse(&note).unwrap();
        Checkpoint::parse(note.text()).unwrap().size > world.written
    });
    ledger.end().unwrap();
    let report = world.report(0, &World::this_year());
    assert!(report.good(), "{:?}", report.faults);
    assert_eq!((report.records, report.breaks.len()), (world.written, 0));
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().filter_map(Result::ok) {
        let target = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_folder(&entry.path(), &target),
            // Files come and go while the log is written.
            _ => drop(std::fs::copy(entry.path(), target)),
        }
    }
}
