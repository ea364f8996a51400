//! What was not read about a person: closed, proven, verified, and every way to lie about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use mz_bus::BusOptions;
use mz_contract::IdNumber;
use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter, Chain, RecordTag, SubjectTag};
use mz_keys::{SecretKey, SubjectVrf};
use mz_ledger::absence::{
    Answer, Asked, Checked, CloseError, Leaf, Placed, Proof, SETTLED_MS, SKEW_MS, Statement,
    Verified, VerifyError, check, close_at, key, prove, verify,
};
use mz_ledger::log::{CHECKPOINT, Disk as _, Entry, Folder, Log, LogFolder, Opened};
use mz_ledger::{Options, Period, verifier_key};
use mz_seal::{SignError, Suite};
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::merkle::MemoryTree;
use mz_tlog::note::{Note, sign_line};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::prove::altered;

const BUS: &str = "test";
const DEPARTMENTS: [&str; 3] = ["hrss", "police", "tax"];
/// 2026-03-01T00:00:00Z, and a minute.
const START: i64 = 1_772_323_200_000;
const MINUTE: i64 = 60_000;

struct OwnSigner(SigningKey);

impl mz_seal::Signer for OwnSigner {
    fn key_id(&self) -> &str {
        "bus-checkpoint-1"
    }

    fn suite(&self) -> Suite {
        Suite::Ed25519Sha256
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.0.sign(message).to_bytes())
    }
}

/// People with numbers that nobody has: region 110105, one birthday, running numbers.
fn person(at: usize) -> IdNumber {
    let body = format!("11010519491231{:03}", at + 1);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = body
        .bytes()
        .zip(weights)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    let check = b"10X98765432"[(sum % 11) as usize] as char;
    IdNumber::parse(&format!("{body}{check}")).unwrap()
}

fn tag(at: usize) -> SubjectTag {
    let mut tag = [0x5a; 16];
    tag[..8].copy_from_slice(&(at as u64).to_be_bytes());
    SubjectTag(tag)
}

/// A shard's logs, written and signed by the test.
struct World {
    dir: tempfile::TempDir,
    key: SigningKey,
    vrf: SubjectVrf,
    log: Log<Folder>,
    period: &'static str,
    chains: BTreeMap<AuditWriter, Chain>,
    shard: (u16, u16),
    /// (person, department, time) of everything that was read.
    read: Vec<(usize, &'static str, i64)>,
    bound: BTreeSet<usize>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), 0, "2026", &Opened::default());
        let chain = |writer| (writer, Chain::new(writer, 0));
        let mut world = Self {
            dir,
            key: SigningKey::from_bytes(&[5; 32]),
            vrf: SubjectVrf::new(&SecretKey::from_bytes([9; 32])).unwrap(),
            log,
            period: "2026",
            chains: [AuditWriter::Gateway, AuditWriter::Vault].map(chain).into(),
            shard: (0, 1),
            read: Vec::new(),
            bound: BTreeSet::new(),
        };
        world.announce();
        world
    }

    fn append(&mut self, audit: &mut Audit<'_>) {
        let mut bytes = Vec::new();
        let chain = self.chains.get_mut(&audit.writer).unwrap();
        chain.append(audit, &mut bytes);
        append(&mut self.log, &Entry::Audit(&bytes));
    }

    fn vault(&mut self, kind: AuditKind, subject: SubjectTag, event: [u8; 32]) {
        let mut audit = Audit::empty(AuditWriter::Vault, 0, START, kind, AuditCause::Rule);
        audit.subject = subject;
        audit.record = RecordTag(self.vrf.key_tag());
        audit.event = event;
        self.append(&mut audit);
    }

    fn announce(&mut self) {
        let public = self.vrf.public();
        self.vault(AuditKind::SubjectKey, SubjectTag::default(), public);
    }

    fn bind(&mut self, who: usize) {
        if self.bound.insert(who) {
            let label = self.vrf.label(&person(who));
            self.vault(AuditKind::SubjectBound, tag(who), label);
        }
    }

    fn read_unbound(&mut self, who: usize, department: &'static str, at_ms: i64) {
        let mut audit = Audit::empty(
            AuditWriter::Gateway,
            0,
            at_ms,
            AuditKind::Delivered,
            AuditCause::Stream,
        );
        audit.subject = tag(who);
        audit.consumer = department.into();
        self.append(&mut audit);
        self.read.push((who, department, at_ms));
    }

    fn read(&mut self, who: usize, department: &'static str, at_ms: i64) {
        self.bind(who);
        self.read_unbound(who, department, at_ms);
    }

    fn sign(&mut self) {
        self.log.flush().unwrap();
        let checkpoint = Checkpoint {
            origin: self.log.origin().to_owned(),
            size: self.log.size(),
            root: self.log.root(),
            extensions: Vec::new(),
        };
        let note = self.note(&checkpoint.encode().unwrap());
        let mut disk = Folder::new(self.log.disk().root());
        disk.replace(CHECKPOINT, note.as_bytes()).unwrap();
    }

    fn note(&self, text: &str) -> String {
        let key = verifier_key(self.log.origin(), &self.public()).unwrap();
        let line = sign_line(&key, text, |message| self.key.sign(message).to_bytes()).unwrap();
        Note::assemble(text, [line]).unwrap().to_string()
    }

    fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn options(&self) -> Options {
        Options {
            bus: BusOptions {
                bootstrap: String::new(),
                prefix: String::new(),
                tls: None,
                client_id: String::new(),
            },
            bus_id: BUS.to_owned(),
            lanes: 1,
            shard: self.shard.0,
            shards: self.shard.1,
            folder: self.dir.path().to_owned(),
            signer: Box::new(OwnSigner(self.key.clone())),
            public: self.public(),
            period: Period::Year,
            commit_every: std::time::Duration::from_millis(50),
            clock: || 0,
        }
    }

    fn close(&mut self, until_ms: i64) -> Result<Vec<Statement>, CloseError> {
        self.close_forced(until_ms, false)
    }

    fn close_forced(&mut self, until_ms: i64, forced: bool) -> Result<Vec<Statement>, CloseError> {
        self.sign();
        let (origin, size) = (self.log.origin().to_owned(), self.log.size());
        close_at(&self.options(), &origin, size, until_ms, forced)
    }

    /// The next period's log.
    fn turn(&mut self, period: &'static str) {
        self.sign();
        let before = Opened {
            origin: self.log.origin().to_owned(),
            size: self.log.size(),
            root: self.log.root(),
        };
        self.log = open(self.dir.path(), self.shard.0, period, &before);
        self.period = period;
    }

    fn prove(&self, who: usize, department: &str, from_ms: i64, to_ms: i64) -> String {
        self.try_prove(who, department, from_ms, to_ms).unwrap()
    }

    fn try_prove(
        &self,
        who: usize,
        department: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<String, &'static str> {
        let id = person(who);
        let asked = Asked {
            department,
            from_ms,
            to_ms,
            label: self.vrf.label(&id),
            vrf: self.vrf.prove(&id),
            cosigned: false,
        };
        prove(&LogFolder::new(self.dir.path()), BUS, &asked).map_err(|error| error.code())
    }

    fn verify(&self, text: &str, who: usize) -> Result<Verified, VerifyError> {
        let labels = [self.vrf.public()];
        verify(text, &person(who), &labels, &[self.public()], None)
    }

    fn disk(&self) -> Folder {
        Folder::new(self.dir.path().join("0").join(self.period))
    }

    fn faults(&self) -> Vec<&'static str> {
        let keys = [self.public()];
        let log = Checked {
            origin: self.log.origin(),
            size: self.log.size(),
            root: self.log.root(),
            keys: &keys,
            before: None,
        };
        let mut earlier = |_: &str| None::<Folder>;
        let (faults, _) = check(&self.disk(), &log, &mut earlier);
        faults.into_iter().map(|fault| fault.code).collect()
    }
}

fn open(root: &Path, shard: u16, period: &str, before: &Opened) -> Log<Folder> {
    let folder = Folder::new(root.join(shard.to_string()).join(period));
    let mut log = Log::create(folder, &format!("{BUS}/audit/{shard}/{period}"));
    append(&mut log, &Entry::Opened(before.clone()));
    log
}

fn append(log: &mut Log<Folder>, entry: &Entry<'_>) {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    log.append(&bytes).unwrap();
}

/// Three ranges of ten minutes with forty people, most of whom somebody read.
fn busy() -> World {
    let mut world = World::new();
    let mut rng = StdRng::seed_from_u64(11);
    for range in 0..3 {
        for _ in 0..60 {
            let (who, department) = (rng.random_range(0..40), rng.random_range(0..3));
            let at = START + range * 10 * MINUTE + rng.random_range(0..9 * MINUTE);
            world.read(who, DEPARTMENTS[department], at);
        }
        let until = START + (range + 1) * 10 * MINUTE;
        assert_eq!(world.close(until).unwrap().len(), 1);
    }
    world
}

#[test]
fn what_was_read_and_what_was_not_is_proven_for_everybody() {
    let world = busy();
    let (mut nothing, mut read) = (0, 0);
    // Windows in one range and over two, each well inside of what is closed.
    for (from, to) in [(2, 7), (3, 15), (12, 18), (0, 28)] {
        let (from, to) = (START + from * MINUTE, START + to * MINUTE);
        // Two people were never heard of.
        for who in 0..42 {
            for department in DEPARTMENTS {
                let text = world.prove(who, department, from, to);
                let verified = world.verify(&text, who).unwrap();
                let times = world.read.iter().filter(|(is, whose, at)| {
                    (*is, *whose) == (who, department) && (from..to).contains(at)
                });
                let truth = times.count();
                match verified.answer {
                    Answer::Nothing => {
                        assert_eq!(truth, 0, "{who} {department}");
                        nothing += 1;
                    }
                    Answer::Read(leaves) => {
                        let count: u64 = leaves.iter().map(|leaf| leaf.count).sum();
                        assert!(truth > 0 || count > 1, "{who} {department}: only seems so");
                        assert!(count >= truth as u64);
                        read += 1;
                    }
                }
                assert!(!text.contains(person(who).as_str()));
            }
        }
    }
    println!("{nothing} times nothing, {read} times something");
    assert!(nothing > 100 && read > 100);
    assert_eq!(world.faults(), Vec::<&str>::new());
}

/// Whom a proof is about can't be changed, nor what it says: whatever is altered is refused, or true.
#[test]
fn an_altered_proof_proves_nothing_else() {
    let world = busy();
    let (from, to) = (START + 3 * MINUTE, START + 8 * MINUTE);
    let gone = (0..40).find(|who| {
        let mine = |(is, whose, _): &&(usize, &str, i64)| (*is, *whose) == (*who, "tax");
        world.read.iter().find(mine).is_none()
    });
    let who = gone.unwrap();
    let text = world.prove(who, "tax", from, to);
    assert_eq!(world.verify(&text, who).unwrap().answer, Answer::Nothing);
    let mut refused = 0;
    for at in 0..text.len() {
        let Some(other) = altered(&text, at) else {
            continue;
        };
        match world.verify(&other, who) {
            Err(_) => refused += 1,
            // Another time of the same day, in which nothing was read either.
            Ok(verified) => {
                assert_eq!(verified.department, "tax");
                assert_eq!(verified.answer, Answer::Nothing, "byte {at}");
            }
        }
    }
    assert!(refused + 30 > text.len(), "{refused} of {}", text.len());
    // Another person's number, another key, a thief's signature.
    for other in 0..40 {
        if other != who {
            assert!(matches!(
                world.verify(&text, other),
                Err(VerifyError::Person)
            ));
        }
    }
    let verify_by = |labels: [u8; 32], keys: [u8; 32]| {
        verify(&text, &person(who), &[labels], &[keys], None)
            .map_err(|error| error.code())
            .map(drop)
    };
    let thief = SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes();
    assert_eq!(
        verify_by(world.vrf.public(), thief),
        Err("LEDGER_KEY_UNKNOWN")
    );
    assert_eq!(
        verify_by([7; 32], world.public()),
        Err("LEDGER_KEY_UNKNOWN")
    );
}

/// The bureau itself, with every key but the department's, wants somebody to look unread.
#[test]
fn the_bureau_cannot_prove_that_what_was_read_was_not() {
    let mut world = busy();
    let (from, to) = (START + MINUTE, START + 28 * MINUTE);
    let (who, department, _) = world.read[7];
    let honest = world.prove(who, department, from, to);
    assert!(matches!(
        world.verify(&honest, who).unwrap().answer,
        Answer::Read(_)
    ));
    let code = |world: &World, proof: &Proof| match world.verify(&proof.encode(), who) {
        Ok(verified) => match verified.answer {
            Answer::Nothing => "nothing",
            Answer::Read(_) => "read",
        },
        Err(error) => error.code(),
    };
    let parsed = Proof::parse(&honest).unwrap();
    assert_eq!(code(&world, &parsed), "read");

    // Absence of a stranger's label, under the person's own proof and under the stranger's.
    let stranger = Proof::parse(&world.prove(41, department, from, to)).unwrap();
    let mut wrong = stranger.clone();
    wrong.vrf = parsed.vrf;
    assert_eq!(code(&world, &wrong), "LEDGER_PROOF_WRONG");
    assert_eq!(code(&world, &stranger), "LEDGER_ABSENCE_PERSON");

    // Neighbours that are none, one neighbour only, a leaf of another range, none at all.
    let at = parsed
        .ranges
        .iter()
        .position(|shown| shown.leaves.len() == 1);
    let at = at.unwrap();
    let number = parsed.ranges[at].statement.number;
    let leaves = leaves_of(&world, number);
    let tree: MemoryTree = leaves.iter().map(Leaf::hash).collect();
    let placed = |index: usize| Placed {
        index: index as u64,
        leaf: leaves[index],
        path: mz_tlog::merkle::inclusion(index as u64, leaves.len() as u64, &tree).unwrap(),
    };
    let is = leaves
        .iter()
        .position(|leaf| leaf.key == key(&world.vrf.label(&person(who)), department));
    let is = is.unwrap();
    let around = [is.checked_sub(1), (is + 1 < leaves.len()).then_some(is + 1)];
    let around: Vec<Placed> = around.into_iter().flatten().map(placed).collect();
    for shown in [around.clone(), around[..1].to_vec(), Vec::new()] {
        let mut wrong = parsed.clone();
        wrong.ranges[at].leaves = shown;
        assert_eq!(code(&world, &wrong), "LEDGER_PROOF_WRONG");
    }
    let mut moved = parsed.clone();
    let foreign = parsed
        .ranges
        .iter()
        .find(|shown| shown.statement.number != number && !shown.leaves.is_empty());
    moved.ranges[at].leaves = foreign.unwrap().leaves.clone();
    assert_eq!(code(&world, &moved), "LEDGER_PROOF_WRONG");

    // A range left out, in the middle and at both ends; a range shown twice; another order.
    for gone in 0..parsed.ranges.len() {
        let mut wrong = parsed.clone();
        wrong.ranges.remove(gone);
        assert_eq!(code(&world, &wrong), "LEDGER_ABSENCE_TIME", "{gone}");
    }
    let mut twice = parsed.clone();
    twice.ranges.insert(0, twice.ranges[0].clone());
    assert_eq!(code(&world, &twice), "LEDGER_ABSENCE_TIME");
    let mut order = parsed.clone();
    order.ranges.reverse();
    assert_eq!(code(&world, &order), "LEDGER_ABSENCE_TIME");
    let mut none = parsed.clone();
    none.ranges.clear();
    assert_eq!(code(&world, &none), "LEDGER_ABSENCE_TIME");

    // A statement signed by the bureau that leaves the row out: the log contradicts it.
    let mut fewer = leaves.clone();
    fewer.remove(is);
    forge(&mut world, number, &fewer, |_| {});
    assert_eq!(world.faults(), ["LEDGER_RANGE_DIFFERS"]);
    // The row altered, or one that is nobody's.
    let mut altered = leaves.clone();
    altered[is].first_ms += 60 * MINUTE;
    altered[is].last_ms += 60 * MINUTE;
    forge(&mut world, number, &altered, |_| {});
    assert_eq!(world.faults(), ["LEDGER_RANGE_DIFFERS"]);
    let mut more = leaves.clone();
    more.push(Leaf {
        key: [0xff; 32],
        ..leaves[0]
    });
    forge(&mut world, number, &more, |_| {});
    assert_eq!(world.faults(), ["LEDGER_RANGE_DIFFERS"]);
    // Another end, another time, another number of shards, nobody unbound.
    for change in [
        (|said| said.to -= 1) as fn(&mut Statement),
        |said| said.since_ms += 1,
        |said| said.from += 1,
        |said| said.root[0] ^= 1,
        |said| said.unbound = 1,
        |said| said.key = None,
    ] {
        forge(&mut world, number, &leaves, change);
        assert!(!world.faults().is_empty());
    }
    forge(&mut world, number, &leaves, |_| {});
    assert_eq!(world.faults(), Vec::<&str>::new());
    // Files that are gone or cut.
    let path = world.disk().root().join(format!("absence/{number}/leaves"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(world.faults(), ["LEDGER_RANGE_DIFFERS"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.faults(), ["LEDGER_RANGE_DIFFERS"]);
    assert_eq!(
        world.try_prove(who, department, from, to).unwrap_err(),
        "LEDGER_TILE_MISSING"
    );
}

fn leaves_of(world: &World, number: u64) -> Vec<Leaf> {
    let bytes = world.disk().read(&format!("absence/{number}/leaves"));
    let bytes = bytes.unwrap().unwrap();
    Leaf::all(&bytes).unwrap()
}

/// Signs what the log does not say.
fn forge(world: &mut World, number: u64, leaves: &[Leaf], change: impl Fn(&mut Statement)) {
    // As it was closed: kept beside what is forged.
    let kept = world.disk().root().join(format!("absence/{number}/honest"));
    let path = world
        .disk()
        .root()
        .join(format!("absence/{number}/statement"));
    if !kept.exists() {
        std::fs::copy(&path, &kept).unwrap();
    }
    let note = Note::parse(std::fs::read(&kept).unwrap()).unwrap();
    let mut said = Statement::parse(note.text()).unwrap();
    let tree: MemoryTree = leaves.iter().map(Leaf::hash).collect();
    (said.leaves, said.head) = (leaves.len() as u64, tree.root());
    change(&mut said);
    let note = world.note(&said.encode().unwrap());
    std::fs::write(&path, note).unwrap();
    let bytes: Vec<u8> = leaves.iter().flat_map(Leaf::encode).collect();
    let path = world.disk().root().join(format!("absence/{number}/leaves"));
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_time_that_is_not_closed_is_not_proven() {
    let mut world = busy();
    let last = START + 30 * MINUTE;
    let from = START + 2 * MINUTE;
    assert!(world.try_prove(41, "tax", from, last - SETTLED_MS).is_ok());
    let open = world.try_prove(41, "tax", from, last - SETTLED_MS + 1);
    assert_eq!(open.unwrap_err(), "LEDGER_RANGE_OPEN");
    // A proof of a shorter time, relabelled.
    let honest = world.prove(41, "tax", from, last - SETTLED_MS);
    let mut wrong = Proof::parse(&honest).unwrap();
    wrong.to_ms += 1;
    let verified = world.verify(&wrong.encode(), 41);
    assert!(matches!(verified, Err(VerifyError::Time(_))));
    let mut later =
        Proof::parse(&world.prove(41, "tax", START + 12 * MINUTE, START + 15 * MINUTE)).unwrap();
    later.from_ms = START + 10 * MINUTE + SKEW_MS - 1;
    let verified = world.verify(&later.encode(), 41);
    assert!(matches!(verified, Err(VerifyError::Time(_))));
    // Nothing was logged, and it is closed all the same.
    world.close(last + 20 * MINUTE).unwrap();
    assert_eq!(leaves_of(&world, 3), []);
    let text = world.prove(1, "tax", last + 2 * MINUTE, last + 10 * MINUTE);
    assert_eq!(world.verify(&text, 1).unwrap().answer, Answer::Nothing);
    assert_eq!(world.faults(), Vec::<&str>::new());
}

#[test]
fn people_without_a_label_keep_a_range_open() {
    let mut world = World::new();
    world.read(1, "hrss", START);
    world.read_unbound(2, "police", START);
    let until = START + 10 * MINUTE;
    let error = world.close(until).unwrap_err();
    assert_eq!(error.code(), "LEDGER_RANGE_UNBOUND");
    // By force: then nothing at all is proven about the range.
    assert_eq!(world.close_forced(until, true).unwrap()[0].unbound, 1);
    let text = world.prove(1, "tax", START - MINUTE, START + MINUTE);
    let verified = world.verify(&text, 1);
    assert_eq!(verified.unwrap_err().code(), "LEDGER_RANGE_UNBOUND");
    // The vault has logged it meanwhile: the next range is good.
    world.bind(2);
    world.read(2, "police", until + MINUTE);
    assert_eq!(world.close(until + 10 * MINUTE).unwrap()[0].unbound, 0);
    assert_eq!(world.faults(), Vec::<&str>::new());
}

#[test]
fn labels_that_contradict_each_other_close_nothing() {
    let until = START + 10 * MINUTE;
    let code = |change: fn(&mut World)| {
        let mut world = World::new();
        world.read(1, "hrss", START);
        change(&mut world);
        world.close(until).map(drop).map_err(|error| error.code())
    };
    assert_eq!(code(|_| {}), Ok(()));
    // Told twice, after a crash: the same.
    assert_eq!(
        code(|world| {
            world.bound.clear();
            world.bind(1);
            world.announce();
        }),
        Ok(())
    );
    assert_eq!(
        code(|world| world.vault(AuditKind::SubjectBound, tag(1), [1; 32])),
        Err("LEDGER_LABEL_CONTRADICTS")
    );
    assert_eq!(
        code(|world| world.vault(AuditKind::SubjectKey, SubjectTag::default(), [1; 32])),
        Err("LEDGER_LABEL_KEYS")
    );
    assert_eq!(
        code(|world| {
            world.vrf = SubjectVrf::new(&SecretKey::from_bytes([8; 32])).unwrap();
            world.read(2, "hrss", START);
        }),
        Err("LEDGER_LABEL_KEY_UNKNOWN")
    );
}

#[test]
fn a_time_over_two_logs_is_proven_and_labels_of_the_old_one_count() {
    let mut world = World::new();
    world.read(1, "hrss", START);
    world.read(2, "police", START + MINUTE);
    world.close(START + 10 * MINUTE).unwrap();
    world.read(1, "police", START + 12 * MINUTE);
    world.turn("2027");
    // Nobody is told anew: the labels stand in the log before.
    world.read_unbound(1, "tax", START + 15 * MINUTE);
    let closed = world.close(START + 20 * MINUTE).unwrap();
    let numbers: Vec<_> = closed
        .iter()
        .map(|said| (said.origin.as_str(), said.number, said.leaves))
        .collect();
    assert_eq!(
        numbers,
        [("test/audit/0/2026", 1, 1), ("test/audit/0/2027", 0, 1)]
    );
    // What ends a log vouches for no time of its own.
    assert_eq!(closed[0].since_ms, closed[0].until_ms);
    let (from, to) = (START - MINUTE, START + 18 * MINUTE);
    for who in 0..4 {
        for department in DEPARTMENTS {
            let text = world.prove(who, department, from, to);
            let verified = world.verify(&text, who).unwrap();
            let read = world
                .read
                .iter()
                .any(|(is, whose, _)| (*is, *whose) == (who, department));
            assert_eq!(
                verified.answer != Answer::Nothing,
                read,
                "{who} {department}"
            );
            assert_eq!(verified.logs.len(), 2);
            // Without the old log's last range the chain is broken.
            let mut wrong = Proof::parse(&text).unwrap();
            wrong.ranges.remove(1);
            let verified = world.verify(&wrong.encode(), who);
            assert_eq!(verified.unwrap_err().code(), "LEDGER_ABSENCE_TIME");
        }
    }
}

#[test]
fn every_shard_is_shown() {
    let mut world = World::new();
    world.shard = (0, 2);
    world.read(1, "hrss", START);
    world.close(START + 10 * MINUTE).unwrap();
    let (from, to) = (START - MINUTE, START + 5 * MINUTE);
    let text = world.prove(2, "hrss", from, to);
    let verified = world.verify(&text, 2);
    assert!(matches!(verified, Err(VerifyError::Shard(1))));
    // The other shard's log: its lanes are others.
    world.log = open(world.dir.path(), 1, "2026", &Opened::default());
    world.shard = (1, 2);
    world.close(START + 10 * MINUTE).unwrap();
    let text = world.prove(2, "hrss", from, to);
    let verified = world.verify(&text, 2).unwrap();
    assert_eq!((verified.answer, verified.logs.len()), (Answer::Nothing, 2));
    let chain = Chain::new(AuditWriter::Gateway, 0);
    world.chains.insert(AuditWriter::Gateway, chain);
    world.read_unbound(1, "hrss", START);
    let foreign = world.close(START + 20 * MINUTE).unwrap_err();
    assert_eq!(foreign.code(), "AUDIT_LANE_FOREIGN");
}
