//! A bus with deliveries, and a log of them that the test itself writes and signs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mz_bus::{Isolation, PlainProducer, Reader, TxProducer, tuning};
use mz_contract::{Agreement, BUS, KeyUse};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, Chain, DELIVERY_HEADER, DeliveryHeader, topics,
};
use mz_keys::department_signer;
use mz_keys::public::KeyUse as SignerUse;
use mz_ledger::log::{CHECKPOINT, Disk as _, Entry, Folder, Log, Opened};
use mz_ledger::quorum::{Polling, Quorum};
use mz_ledger::verifier_key;
use mz_ledger::witness::limits::WINDOW_ENTRIES;
use mz_ledger::witness::{Outcome, Source, Witness, WitnessError, WitnessOptions, witness_name};
use mz_seal::Signer;
use mz_tlog::checkpoint::Checkpoint;
use mz_tlog::note::{self, KeyKind, Note, VerifierKey};
use mz_tlog::policy::Policy;
use mz_vault::testing::{LANES, TestBus, eventually};
use tempfile::TempDir;

pub const LOG: &str = "0/2026";

pub struct World {
    pub bus: TestBus,
    /// Logs below `logs`, the witnesses' states beside them.
    pub dir: TempDir,
    gateway: TxProducer,
    pub log: Log<Folder>,
    pub written: u64,
    pub chains: Vec<Chain>,
    sequences: Vec<u64>,
    /// Where the witnesses read the logs from.
    pub source: Box<dyn Source>,
}

impl World {
    pub fn new() -> Self {
        let bus = TestBus::new();
        let dir = tempfile::tempdir().unwrap();
        let id = topics::SlotKind::Gateway.transactional_id(0);
        let options = bus.bus("bus.gateway");
        let mut gateway = TxProducer::open(&options, &id, tuning::TRANSACTION_TIMEOUT).unwrap();
        gateway.init().unwrap();
        let log = create(&bus, dir.path().join("logs"), LOG, &Opened::default());
        let chain = |lane| Chain::new(AuditWriter::Gateway, lane);
        Self {
            chains: (0..LANES).map(chain).collect(),
            sequences: vec![0; usize::from(LANES)],
            source: crate::witness_source::of(&bus, &dir.path().join("logs")),
            bus,
            dir,
            gateway,
            log,
            written: 0,
        }
    }

    /// The one whose deliveries are tested, and another consumer.
    pub fn departments(&self) -> [String; 2] {
        let mut all: Vec<&str> = self
            .bus
            .contract
            .agreements
            .iter()
            .map(|agreement| agreement.consumer.as_str())
            .collect();
        all.sort_unstable();
        all.dedup();
        [all[0].to_owned(), all[1].to_owned()]
    }

    pub fn agreement(&self) -> Agreement {
        let [department, _] = self.departments();
        let mut all = self.bus.contract.agreements.iter();
        let own = all.find(|agreement| agreement.consumer == department);
        own.unwrap().clone()
    }

    pub fn deliver(&mut self, count: u64) {
        self.deliver_but(count, |_, _| {});
    }

    /// Deliveries with their audit records; `change` alters what is audited before it is numbered.
    pub fn deliver_but(&mut self, count: u64, change: impl Fn(u64, &mut Audit<'_>)) {
        let agreement = self.agreement();
        let section = &agreement.sections[0];
        let dataset = self.bus.contract.datasets[section.dataset_ix].id.clone();
        let digest = self.bus.contract.digest;
        self.gateway.begin().unwrap();
        for at in 0..count {
            let lane = (self.written % u64::from(LANES)) as usize;
            self.sequences[lane] += 1;
            let (kind, cause) = (AuditKind::Delivered, AuditCause::Stream);
            let mut audit = Audit::empty(AuditWriter::Gateway, 0, 1, kind, cause);
            audit.agreement = agreement.id.clone().into();
            audit.consumer = agreement.consumer.clone().into();
            audit.purpose = agreement.purpose.clone().into();
            audit.dataset = dataset.clone().into();
            audit.contract = digest;
            audit.output_sequence = self.sequences[lane];
            audit.nonce[..8].copy_from_slice(&self.written.to_be_bytes());
            change(at, &mut audit);
            let mut bytes = Vec::new();
            self.chains[lane].append(&mut audit, &mut bytes);
            let (mut header, number) = (Vec::new(), self.chains[lane].number());
            let sequence = self.sequences[lane];
            DeliveryHeader::write(
                &mut header,
                &agreement.id,
                &digest,
                (lane as u16, number),
                sequence,
                None,
            );
            let mut key = [0; 32];
            key[..8].copy_from_slice(&self.written.to_be_bytes());
            let headers = [(DELIVERY_HEADER, header.as_slice())];
            self.gateway
                .send(
                    &section.out_topic,
                    lane as i32,
                    &key,
                    Some(b"value"),
                    &headers,
                )
                .unwrap();
            let key = topics::audit_key(AuditWriter::Gateway, lane as u16, number);
            self.gateway
                .send(topics::AUDIT, lane as i32, &key, Some(&bytes), &[])
                .unwrap();
            append(&mut self.log, &Entry::Audit(&bytes));
            self.written += 1;
        }
        self.gateway.commit().unwrap();
        // Readers of committed records see it a little later, lane by lane.
        let reader = Reader::open(&self.bus.bus("bus.admin"), Isolation::Committed).unwrap();
        eventually("all lanes are committed", || {
            (0..LANES).all(|lane| {
                let seen = reader.watermarks(&section.out_topic, i32::from(lane));
                seen.unwrap().1 == self.bus.head(&section.out_topic, lane)
            })
        });
    }

    pub fn signer(&self, owner: &str, usage: SignerUse) -> Box<dyn Signer> {
        department_signer(&self.bus.keys(), &self.bus.contract.root, owner, usage).unwrap()
    }

    pub fn public(&self, owner: &str, usage: KeyUse) -> [u8; 32] {
        let keys = self.bus.contract.keys_of(owner).iter();
        keys.clone()
            .find(|key| key.usage == usage)
            .unwrap()
            .info
            .public
    }

    pub fn note_of(&self, origin: &str, size: u64, root: [u8; 32]) -> String {
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root,
            extensions: vec![],
        };
        let text = checkpoint.encode().unwrap();
        let key = verifier_key(origin, &self.public(BUS, KeyUse::Checkpoint)).unwrap();
        let signer = self.signer(BUS, SignerUse::Checkpoint);
        let line = note::sign_line(&key, &text, |message| signer.sign(message).unwrap()).unwrap();
        Note::assemble(&text, [line]).unwrap().to_string()
    }

    /// Flushes and signs the log as it is.
    pub fn sign(&mut self) -> u64 {
        self.log.flush().unwrap();
        let note = self.note_of(self.log.origin(), self.log.size(), self.log.root());
        self.checkpoint(&note);
        self.log.size()
    }

    pub fn checkpoint(&self, note: &str) {
        let log = self.log.origin().split_once("/audit/").unwrap().1;
        Folder::new(self.logs().join(log))
            .replace(CHECKPOINT, note.as_bytes())
            .unwrap();
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    pub fn witness(&self, department: &str) -> Witness {
        self.witness_of(department, WINDOW_ENTRIES)
    }

    /// With another number of entries in a window.
    pub fn witness_of(&self, department: &str, window: u64) -> Witness {
        let bus = self.bus.bus(&format!("{department}.adapter"));
        let options = WitnessOptions {
            window,
            ..WitnessOptions::new(bus, Arc::clone(&self.bus.contract), department)
        };
        Witness::open(options, &self.bus.keys(), &self.dir.path().join(department)).unwrap()
    }

    pub fn step(&self, witness: &mut Witness) -> Result<Outcome, WitnessError> {
        witness.step(&*self.source, LOG)
    }

    pub fn refused(&self, witness: &mut Witness) -> &'static str {
        let error = self.step(witness).unwrap_err();
        println!("{error}");
        error.code()
    }

    pub fn quorum(&self) -> Quorum {
        self.quorum_of(self.log.origin(), self.logs())
    }

    /// Two witnesses, both needed.
    pub fn policy_text(&self, origin: &str) -> String {
        let log = verifier_key(origin, &self.public(BUS, KeyUse::Checkpoint)).unwrap();
        let keys = self.departments().map(|department| {
            let public = self.public(&department, KeyUse::Witness);
            let name = witness_name(&self.bus.contract.bus_id, &department);
            VerifierKey::new(&name, KeyKind::Cosignature, &public).unwrap()
        });
        format!(
            "log {log}\nwitness a {}\nwitness b {}\ngroup both all a b\nquorum both\n",
            keys[0], keys[1]
        )
    }

    pub fn policy_of(&self, origin: &str) -> Policy {
        Policy::parse(self.policy_text(origin)).unwrap()
    }

    pub fn quorum_of(&self, origin: &str, logs: PathBuf) -> Quorum {
        let policy = self.policy_of(origin);
        let bus = self.bus.bus("bus.ledger");
        Quorum::open(&bus, Arc::clone(&self.bus.contract), logs, policy).unwrap()
    }

    /// As a department's adapter.
    pub fn publish(&self, department: &str, key: &str, value: &str) {
        let bus = self.bus.bus(&format!("{department}.adapter"));
        let mut producer = PlainProducer::open(&bus).unwrap();
        let (key, value) = (key.as_bytes(), Some(value.as_bytes()));
        producer
            .send(topics::COSIGNATURES, 0, key, value, &[])
            .unwrap();
        producer.flush(Duration::from_secs(20)).unwrap();
    }
}

pub fn create(bus: &TestBus, logs: PathBuf, log: &str, before: &Opened) -> Log<Folder> {
    let origin = format!("{}/audit/{log}", bus.contract.bus_id);
    let mut log = Log::create(Folder::new(logs.join(log)), &origin);
    append(&mut log, &Entry::Opened(before.clone()));
    log
}

pub fn append(log: &mut Log<Folder>, entry: &Entry<'_>) {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    log.append(&bytes).unwrap();
}

/// Polls until something was taken `count` times, all in one.
pub fn taken(quorum: &mut Quorum, count: u64) -> Polling {
    let mut all = Polling::default();
    eventually("the quorum has read it", || {
        let polling = quorum.poll(Duration::from_millis(100)).unwrap();
        all.taken += polling.taken;
        all.faulty += polling.faulty;
        all.faults.extend(polling.faults);
        all.met.extend(polling.met);
        all.taken + all.faulty >= count
    });
    all
}
