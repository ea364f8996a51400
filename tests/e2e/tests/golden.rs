//! The golden set of tests/vectors through a running gateway: every altered or replayed event ends
//! in quarantine with its own code, at its own offset, and stops nothing that is good.

use mz_bus::{BusOptions, Isolation, TxProducer};
use mz_contract::IdNumber;
use mz_e2e::audit::{Log, deliveries, kinds, outcomes};
use mz_e2e::bus::read_topic;
use mz_e2e::check::assert_all;
use mz_e2e::{Installation, wait};
use mz_journal::{AuditKind, Quarantine, Record as _, topics};
use mz_keys::{PlacementKey, SecretKey};
use mz_seal::schema_digest;
use mz_seal::testing::{Golden, TestSigner, WireEvent};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const DATASET: &str = "hrss.insurance.status.v1";
const AVSC: &str = include_str!("golden/source.avsc");
const AGREEMENT: &str = "police/golden";
const LIMIT: Duration = Duration::from_secs(60);

struct Sent {
    name: String,
    lane: i32,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

fn sent(name: &str, event: &WireEvent) -> Sent {
    Sent {
        name: name.to_owned(),
        lane: i32::from(event.lane),
        value: event.value.clone(),
        headers: event.headers.clone(),
    }
}

/// The vectors were made for these lanes: finds a placement key that puts their people there.
fn placement(people: &[(IdNumber, u16)], lanes: u16) -> SecretKey {
    (1_u32..)
        .map(|count| {
            let mut bytes = [0x5a; 32];
            bytes[..4].copy_from_slice(&count.to_be_bytes());
            SecretKey::from_bytes(bytes)
        })
        .find(|secret| {
            let key = PlacementKey::new(secret);
            people.iter().all(|(id, lane)| key.lane(id, lanes) == *lane)
        })
        .unwrap()
}

/// A contract in which hrss publishes the vectors' schema under the vectors' keys, and police read it.
fn golden_contract(it: &Installation, golden: &Golden) {
    let root = it.contract_root();
    for part in ["catalogue", "agreements", "items"] {
        std::fs::remove_dir_all(root.join(part)).unwrap();
    }
    let put = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("catalogue/hrss/insurance.status.v1.avsc", AVSC);
    put(
        "catalogue/hrss/insurance.status.v1.yaml",
        include_str!("golden/dataset.yaml"),
    );
    put(
        "agreements/police/golden.yaml",
        include_str!("golden/agreement.yaml"),
    );
    let digest = hex::encode(schema_digest(AVSC.as_bytes()));
    let id = golden.schema_id;
    put(
        "schema-ids.yaml",
        &format!(
            "ids:\n  - id: {id}\n    schema: {{source: {{dataset: {DATASET}}}}}\n    digest: {digest}\n"
        ),
    );
    let key = |signer: &TestSigner, status: &str| {
        let public = signer.info(mz_seal::KeyStatus::Active).public;
        let public = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, public);
        let id = mz_seal::Signer::key_id(signer);
        format!(
            "  - {{id: {id}, use: seal, suite: ed25519-sha256, public: \"{public}\", status: {status}}}\n"
        )
    };
    let revoked = "{revoked: {reason: KEY_LOST, last_batch: {insurance: {epoch: 1, batch: 6}}}}";
    let keys = key(&golden.signer, "active") + &key(&golden.revoked, revoked);
    put("departments/hrss.keys.yaml", &format!("keys:\n{keys}"));
    it.run(&["contract", "ids", &root.display().to_string()]);
}

fn publish(bus: &BusOptions, events: &[Sent]) {
    let id = topics::connector_transactional_id("hrss", "insurance");
    let mut producer = TxProducer::open(bus, &id, Duration::from_secs(10)).unwrap();
    producer.init().unwrap();
    producer.begin().unwrap();
    for event in events {
        let headers: Vec<(&str, &[u8])> = event
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        producer
            .send(
                &topics::source(DATASET),
                event.lane,
                &[7; 32],
                Some(&event.value),
                &headers,
            )
            .unwrap();
    }
    producer.commit().unwrap();
}

fn save(path: &Path, secret: &SecretKey) {
    std::fs::remove_file(path).unwrap();
    assert!(secret.save_new(path).unwrap());
}

#[test]
fn every_altered_event_is_quarantined_and_every_good_one_delivered() {
    let golden = Golden::make_with(AVSC.as_bytes().to_vec());
    let people: Vec<(IdNumber, u16)> = golden
        .events
        .iter()
        .map(|vector| (IdNumber::parse(&vector.subject).unwrap(), vector.event.lane))
        .collect();
    let it = Installation::with("golden", |it| {
        save(
            &it.keys().placement_key(),
            &placement(&people, golden.lanes),
        );
        golden_contract(it, &golden);
    });
    let contract = it.contract();
    let bus = it.bus("bus.admin");

    // An event whose seal holds uses up its number even when a header condemns it: its good twin
    // would be a replay. Those two are published in their altered form only.
    let spent: Vec<usize> = golden
        .altered
        .iter()
        .filter(|altered| ["header-contradicts-meta", "header-missing"].contains(&&*altered.name))
        .map(|altered| altered.of)
        .collect();
    assert_eq!(spent.len(), 2);
    let good: Vec<Sent> = golden
        .events
        .iter()
        .enumerate()
        .filter(|(index, _)| !spent.contains(index))
        .map(|(_, vector)| sent(&vector.name, &vector.event))
        .collect();
    let connector = it.bus("hrss.connector");
    publish(&connector, &good);
    let bad: Vec<Sent> = golden
        .altered
        .iter()
        .map(|altered| sent(&altered.name, &altered.event))
        .collect();
    publish(&connector, &bad);

    let mut gateway = it.start("gateway", &["gateway"]);
    let notes = wait::until(
        "a note in quarantine for every altered event",
        LIMIT,
        || {
            assert_eq!(gateway.ended(), None, "{}", gateway.tail());
            read_topic(&bus, &topics::quarantine("hrss"), 1, Isolation::Committed).unwrap()
        },
        |notes| notes.len() >= bad.len(),
    );

    // The n-th record of a lane, good ones first, is the n-th that was sent to it.
    let source = read_topic(&bus, &topics::source(DATASET), 8, Isolation::Committed).unwrap();
    assert_eq!(source.len(), good.len() + bad.len());
    let found: BTreeMap<(i32, i64), String> = notes
        .iter()
        .map(|note| {
            let note = Quarantine::decode(note.value.as_deref().unwrap()).unwrap();
            assert_eq!(note.topic, topics::source(DATASET));
            ((note.partition, note.offset), note.code)
        })
        .collect();
    let mut wrong = Vec::new();
    for (event, vector) in bad.iter().zip(&golden.altered) {
        let nth = good.iter().filter(|other| other.lane == event.lane).count()
            + bad
                .iter()
                .take_while(|other| other.name != event.name)
                .filter(|other| other.lane == event.lane)
                .count();
        let record = source
            .iter()
            .filter(|record| record.partition == event.lane)
            .nth(nth)
            .unwrap();
        assert_eq!(
            record.value.as_deref(),
            Some(&*event.value),
            "{}",
            event.name
        );
        let code = found.get(&(record.partition, record.offset));
        let expected = vector.code.as_str();
        if code.map(String::as_str) != Some(expected) {
            wrong.push(format!("{}: {code:?}, expected {expected}", event.name));
        }
        // A person can read why, in both languages.
        let reason = contract.reasons.get(expected).unwrap();
        assert!(!reason.text.zh.is_empty() && !reason.text.en.is_empty());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(found.len(), bad.len(), "something good was quarantined");

    // The forged huge sequence did not move the stream: what comes next is no replay.
    let log = Log::read(&bus, contract.lanes).unwrap();
    assert_eq!(log.count(AuditKind::Delivered), good.len() as u64);
    assert!(
        log.of(AuditKind::Delivered)
            .all(|entry| entry.agreement == AGREEMENT)
    );
    let decided = BTreeMap::from([(DATASET.to_owned(), good.len() as u64)]);
    assert_all(&[
        deliveries(&bus, &contract, &log).unwrap(),
        outcomes(&contract, &log, &decided),
        kinds(&bus, &contract, &log, &[]).unwrap(),
    ]);
    // Neither topics of quarantine nor logs name a person.
    for note in &notes {
        for (id, _) in &people {
            let needle = id.as_str().as_bytes();
            assert!(
                !note
                    .bytes()
                    .windows(needle.len())
                    .any(|part| part == needle)
            );
        }
    }
    let said = gateway.said();
    assert!(
        people.iter().all(|(id, _)| !said.contains(id.as_str())),
        "an identity number in the log"
    );
}
