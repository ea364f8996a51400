//! Closed ranges before real witnesses: made again, cosigned, proven under a quorum; refused when they lie.

use std::fs;
use std::time::Duration;

use mz_contract::{BUS, IdNumber, KeyUse};
use mz_journal::{AuditCause, AuditKind, AuditWriter, Chain, RecordTag};
use mz_keys::SubjectVrf;
use mz_keys::public::KeyUse as SignerUse;
use mz_ledger::absence::{Answer, Asked, Statement, close_at, prove, verify};
use mz_ledger::log::{Entry, Opened};
use mz_ledger::witness::{Keeping, LogFolder, Witness, WitnessError};
use mz_ledger::{Options, verifier_key};
use mz_tlog::note::{Note, sign_line};
use mz_tlog::policy::Policy;

use super::world::{LOG, World, append, create, taken};

pub const MINUTE: i64 = 60_000;

pub fn somebody() -> IdNumber {
    IdNumber::parse("11010519491231002X").unwrap()
}

impl World {
    pub fn vrf(&self) -> SubjectVrf {
        SubjectVrf::listed(&self.bus.keys(), &self.bus.contract.root).unwrap()
    }

    /// Labels the person as a vault would, and delivers something about them.
    pub fn read_about_somebody(&mut self) {
        let (vrf, id) = (self.vrf(), somebody());
        let (_, subject) = self.bus.vault_keys().place(&id, 4);
        let mut chain = Chain::new(AuditWriter::Vault, 0);
        for (kind, event) in [
            (AuditKind::SubjectKey, vrf.public()),
            (AuditKind::SubjectBound, vrf.label(&id)),
        ] {
            let (writer, cause) = (AuditWriter::Vault, AuditCause::Rule);
            let mut audit = mz_journal::Audit::empty(writer, 0, 1, kind, cause);
            audit.record = RecordTag(vrf.key_tag());
            audit.event = event;
            if kind == AuditKind::SubjectBound {
                audit.subject = subject;
            }
            let mut bytes = Vec::new();
            chain.append(&mut audit, &mut bytes);
            append(&mut self.log, &Entry::Audit(&bytes));
        }
        self.deliver_but(1, |_, audit| audit.subject = subject);
    }

    pub fn close(&mut self, until_ms: i64) -> Statement {
        let size = self.sign();
        let bus = self.bus.bus("bus.ledger");
        let options = Options::new(bus, &self.bus.contract, &self.bus.keys(), self.logs());
        let origin = self.log.origin().to_owned();
        let closed = close_at(&options.unwrap(), &origin, size, until_ms, false).unwrap();
        closed.into_iter().next().unwrap()
    }

    fn policy(&self) -> Policy {
        Policy::parse(self.policy_text(self.log.origin())).unwrap()
    }

    /// A statement of the ledger's own key that says something else.
    fn forge(&self, number: u64, change: impl Fn(&mut Statement)) {
        let path = self
            .logs()
            .join(LOG)
            .join(format!("absence/{number}/statement"));
        let note = Note::parse(fs::read(&path).unwrap()).unwrap();
        let mut said = Statement::parse(note.text()).unwrap();
        change(&mut said);
        let text = said.encode().unwrap();
        let public = self.public(BUS, KeyUse::Checkpoint);
        let key = verifier_key(self.log.origin(), &public).unwrap();
        let signer = self.signer(BUS, SignerUse::Checkpoint);
        let line = sign_line(&key, &text, |message| signer.sign(message).unwrap()).unwrap();
        fs::write(&path, Note::assemble(&text, [line]).unwrap().to_string()).unwrap();
    }

    pub fn round(&self, witness: &mut Witness) -> Result<Vec<u64>, WitnessError> {
        let mut all = witness.round(&*self.source).unwrap();
        all.remove(0).1.map(|outcome| outcome.ranges)
    }
}

#[test]
fn absence_is_proven_under_a_quorum_that_made_the_range_again() {
    let mut world = World::new();
    let [first, second] = world.departments();
    let now = mz_ledger::system_clock();
    world.read_about_somebody();
    world.deliver(20);
    world.close(now - 10 * MINUTE);
    let (mut a, mut b) = (world.witness(&first), world.witness(&second));
    let mut quorum = world.quorum();
    assert_eq!(world.round(&mut a).unwrap(), [0]);
    let (id, vrf) = (somebody(), world.vrf());
    let asked = |department| Asked {
        department,
        from_ms: 1,
        to_ms: now - 15 * MINUTE,
        label: vrf.label(&id),
        vrf: vrf.prove(&id),
        cosigned: true,
    };
    let bus_id = &world.bus.contract.bus_id;
    let absent = |department| prove(&*world.source, bus_id, &asked(department));
    taken(&mut quorum, 3);
    // One of two is no quorum.
    assert_eq!(absent(&second).unwrap_err().code(), "LEDGER_RANGE_OPEN");
    assert_eq!(world.round(&mut b).unwrap(), [0]);
    taken(&mut quorum, 3);
    let keys = [world.public(BUS, KeyUse::Checkpoint)];
    let labels = [world.bus.contract.vrf_keys[0].public];
    let checked = |text: &str| verify(text, &id, &labels, &keys, Some(&world.policy()));
    let nothing = checked(&absent(&second).unwrap()).unwrap();
    assert_eq!(nothing.answer, Answer::Nothing);
    assert_eq!(nothing.witnesses.len(), 2);
    let read = checked(&absent(&first).unwrap()).unwrap();
    let Answer::Read(leaves) = read.answer else {
        panic!("the first department did read");
    };
    assert_eq!(leaves[0].count, 1);
    // Without cosignatures the same ranges don't meet the policy.
    let bare = Asked {
        cosigned: false,
        ..asked(&second)
    };
    let bare = prove(&*world.source, bus_id, &bare).unwrap();
    assert_eq!(checked(&bare).unwrap_err().code(), "LEDGER_QUORUM");
    // The ledger's side starts anew and reads every cosignature again: the quorum's file stays as it is.
    let path = world.logs().join(LOG).join("absence/0/statement.cosigned");
    let before = fs::read(&path).unwrap();
    let mut again = world.quorum();
    taken(&mut again, 6);
    assert_eq!(fs::read(&path).unwrap(), before);
    // A later start cosigns what was closed meanwhile, and nothing twice.
    drop(a);
    world.deliver(5);
    world.close(now - 9 * MINUTE);
    world.close(now - 8 * MINUTE);
    quorum.poll(Duration::ZERO).unwrap();
    let mut a = world.witness(&first);
    assert_eq!(world.round(&mut a).unwrap(), [1, 2]);
    assert_eq!(world.round(&mut a).unwrap(), [0; 0]);
}

#[test]
fn a_range_that_is_not_what_the_log_says_is_refused_for_good() {
    let now = mz_ledger::system_clock();
    for change in [
        (|said: &mut Statement| (said.leaves, said.head) = (0, mz_tlog::merkle::empty_root()))
            as fn(&mut Statement),
        |said| said.head[0] ^= 1,
        |said| said.from = 1,
        |said| said.to -= 1,
        |said| said.since_ms = 5,
        |said| said.unbound = 2,
        |said| said.shards = 2,
    ] {
        let mut world = World::new();
        let [first, _] = world.departments();
        world.read_about_somebody();
        world.deliver(8);
        world.close(now - 10 * MINUTE);
        world.forge(0, change);
        let mut witness = world.witness(&first);
        let error = world.round(&mut witness).unwrap_err();
        println!("{error}");
        assert_eq!(error.code(), "WITNESS_RANGE_DIFFERS");
        assert!(error.is_refusal());
        // Also when the truth comes back.
        let again = world.round(&mut witness).unwrap_err();
        assert_eq!(again.code(), "WITNESS_RANGE_DIFFERS");
    }
    // A time that has not come is not vouched for; and not held against the ledger.
    let mut world = World::new();
    let [first, _] = world.departments();
    world.read_about_somebody();
    world.close(now + 10 * MINUTE);
    let mut witness = world.witness(&first);
    assert_eq!(world.round(&mut witness).unwrap(), [0; 0]);
}

#[test]
fn of_two_statements_about_one_range_only_one_is_cosigned() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let now = mz_ledger::system_clock();
    world.read_about_somebody();
    world.close(now - 10 * MINUTE);
    let mut witness = world.witness(&first);
    assert_eq!(world.round(&mut witness).unwrap(), [0]);
    // The ledger says something else about it later: what is true of a longer log.
    world.forge(0, |said| said.until_ms += MINUTE);
    assert_eq!(world.round(&mut witness).unwrap(), [0; 0]);
    // The next one does not follow what was cosigned.
    world.deliver(3);
    world.close(now - 5 * MINUTE);
    let error = world.round(&mut witness).unwrap_err();
    assert_eq!(error.code(), "WITNESS_RANGE_DIFFERS");
    // And the ledger's own side does not count a cosignature for the other one.
    let polling = taken(&mut world.quorum(), 3);
    let codes: Vec<_> = polling.faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["WITNESS_STATEMENT_DIFFERS"]);
}

/// Labels may stand in the log before: it counts as the log after it names it, and as nothing else.
#[test]
fn labels_of_a_log_before_count_under_its_own_head_alone() {
    let mut world = World::new();
    let [first, _] = world.departments();
    let now = mz_ledger::system_clock();
    world.read_about_somebody();
    world.close(now - 10 * MINUTE);
    let mut witness = world.witness(&first);
    assert_eq!(world.round(&mut witness).unwrap(), [0]);
    let opened = Opened {
        origin: world.log.origin().to_owned(),
        size: world.log.size(),
        root: world.log.root(),
    };
    world.log = create(&world.bus, world.logs(), "0/2027", &opened);
    let (_, subject) = world.bus.vault_keys().place(&somebody(), 4);
    world.deliver_but(1, |_, audit| audit.subject = subject);
    world.close(now - 5 * MINUTE);
    // Another label, where nobody looks any more but for labels.
    let size = opened.size;
    let path = world
        .logs()
        .join(LOG)
        .join(format!("tile/entries/000.p/{size}"));
    let good = fs::read(&path).unwrap();
    let label = world.vrf().label(&somebody());
    let at = good.windows(32).position(|bytes| bytes == label).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    fs::write(&path, &bad).unwrap();
    let second = |world: &World, witness: &mut Witness| {
        let mut all = witness.round(&*world.source).unwrap();
        assert!(all[0].1.is_ok(), "{all:?}");
        all.remove(1).1.map(|outcome| outcome.ranges)
    };
    let error = second(&world, &mut witness).unwrap_err();
    println!("{error}");
    assert_eq!(error.code(), "WITNESS_ENTRY_ALTERED");
    assert!(!error.is_refusal());
    fs::write(&path, &good).unwrap();
    assert_eq!(second(&world, &mut witness).unwrap(), [0]);
}

/// A bad copy is no lie of the ledger's.
#[test]
fn entries_that_were_not_signed_are_held_against_nobody() {
    let mut world = World::new();
    let [first, _] = world.departments();
    world.read_about_somebody();
    world.deliver(300);
    world.close(mz_ledger::system_clock() - 10 * MINUTE);
    let mut witness = world.witness(&first);
    world.step(&mut witness).unwrap();
    let path = world.logs().join(LOG).join("tile/entries/000");
    let good = fs::read(&path).unwrap();
    for at in [2, 4, good.len() - 1] {
        let mut bad = good.clone();
        // The kind of the first entry, its text, the last record's nonce or what stands beside it.
        bad[at] ^= 8;
        fs::write(&path, &bad).unwrap();
        let error = witness.cosign_ranges(&*world.source, LOG).unwrap_err();
        assert_eq!(error.code(), "WITNESS_ENTRY_ALTERED", "{at}: {error}");
        assert!(!error.is_refusal());
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(witness.cosign_ranges(&*world.source, LOG).unwrap(), [0]);
}

/// What a witness keeps of what came is read once, and anew when it was not what was signed.
#[test]
fn kept_tiles_are_believed_no_more_than_others() {
    let mut world = World::new();
    let [first, _] = world.departments();
    world.read_about_somebody();
    world.deliver(600);
    world.close(mz_ledger::system_clock() - 10 * MINUTE);
    let kept = world.dir.path().join("kept");
    let source = Keeping::new(LogFolder::new(world.logs()), &kept);
    let mut witness = world.witness(&first);
    witness.step(&source, LOG).unwrap();
    let bundle = kept.join(LOG).join("tile/entries/001");
    let mut bad = fs::read(&bundle).unwrap();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&bundle, &bad).unwrap();
    let round = |witness: &mut Witness| {
        let mut all = witness.round(&source).unwrap();
        all.remove(0).1.map(|outcome| outcome.ranges)
    };
    let error = round(&mut witness).unwrap_err();
    assert_eq!(
        (error.code(), error.is_refusal()),
        ("WITNESS_ENTRY_ALTERED", false)
    );
    assert!(!kept.join(LOG).exists(), "it is forgotten");
    assert_eq!(round(&mut witness).unwrap(), [0]);
    assert!(bundle.is_file());
    // The log's own full tiles may go away: what is kept is enough to look on.
    world.deliver(3);
    world.close(mz_ledger::system_clock() - 5 * MINUTE);
    fs::remove_file(world.logs().join(LOG).join("tile/entries/000")).unwrap();
    assert_eq!(round(&mut witness).unwrap(), [1]);
}
