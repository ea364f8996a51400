//! Keys through the front door: provisioning, refusals, rotation, revocation, tags.

#![cfg(test)]

use ed25519_dalek::{Signature, VerifyingKey};
use mz_contract::IdNumber;
use mz_journal::{AuditWriter, RecordTag};
use mz_keys::public::{BatchPosition, KeyStatus, KeyUse, PublicKeys};
use mz_keys::{
    AuditKey, KeyError, KeysDir, PlacementKey, PseudonymKey, RecordKey, SecretKey, SubjectKey,
    department_signer, layout, provision, revoke, rotate_seal_key, signer,
};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const DEPARTMENTS: [&str; 2] = ["hrss", "police"];

const LANE_64: u16 = 14;
const SUBJECT_TAG: &str = "31a082c11d37334e101d40611bd95e3b";
const PSEUDONYM: &str = "4a8aa66531c0542eace346b1df877370";
const RECORD_TAG: &str = "89941f712910fa56032bc06e80a8377f";
const NONCE: &str = "9f90cdfab93cb8ba938b955b01d39de8";

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }
    fn keys(&self) -> KeysDir {
        KeysDir::new(self.dir.path().join("keys"))
    }
    fn contract(&self) -> PathBuf {
        self.dir.path().join("contract")
    }
    fn provision(&self) -> Result<mz_keys::Report, KeyError> {
        provision(self.keys().root(), &self.contract(), &DEPARTMENTS)
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir)
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn id(text: &str) -> IdNumber {
    IdNumber::parse(text).unwrap()
}

#[test]
fn provisioning_is_idempotent_and_private() {
    let home = Home::new();
    let first = home.provision().unwrap();
    assert!(first.made.len() > 15);
    assert_eq!(
        first.listed,
        [
            "bus-seal-1",
            "bus-consent-1",
            "bus-evidence-1",
            "bus-checkpoint-1",
            "bus-vrf-1",
            "hrss-seal-1",
            "hrss-approval-1",
            "hrss-receipt-1",
            "hrss-witness-1",
            "police-seal-1",
            "police-approval-1",
            "police-receipt-1",
            "police-witness-1"
        ]
    );
    for path in files(home.keys().root()) {
        let wanted = if path.extension().unwrap() == "crt" {
            0o644
        } else {
            0o600
        };
        assert_eq!(mode(&path), wanted, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{}", path.display());
    }
    let before = contents(home.dir.path());
    let second = home.provision().unwrap();
    assert!(
        second.made.is_empty() && second.listed.is_empty(),
        "{second:?}"
    );
    assert_eq!(second.kept, first.made.len());
    assert_eq!(contents(home.dir.path()), before);

    // One lost file comes back; nothing else moves.
    let lost = home.keys().tls_pem("hrss.connector");
    std::fs::remove_file(&lost).unwrap();
    home.provision().unwrap();
    assert_eq!(contents(home.dir.path()), before);
}

#[test]
fn nothing_public_holds_a_private_key() {
    let home = Home::new();
    let report = home.provision().unwrap();
    let public: Vec<(PathBuf, Vec<u8>)> = contents(&home.contract())
        .into_iter()
        .chain(
            contents(home.keys().root())
                .into_iter()
                .filter(|(path, _)| path.extension().unwrap() == "crt"),
        )
        .collect();
    let shown = format!("{report:?}");
    for path in files(home.keys().root()) {
        if path.extension().unwrap() != "key" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // The end of the first line: of the seed (Ed25519, after 16 bytes of PKCS#8 prefix), of the
        // scalar (P-256, after 36 bytes), of the hex digits. Later lines hold the public half too.
        let line = text.lines().find(|line| !line.starts_with('-')).unwrap();
        let tail = &line[line.len() - 16..];
        assert!(!shown.contains(tail));
        for (name, bytes) in &public {
            let text = String::from_utf8_lossy(bytes);
            assert!(
                !text.contains(tail),
                "{} shows {}",
                name.display(),
                path.display()
            );
        }
    }
}

#[test]
fn provisioning_at_once_leaves_one_set_of_keys() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                provision(home.keys().root(), &home.contract(), &["hrss"; 1]).unwrap();
            });
        }
    });
    // Whoever won, what is listed is what is on disk.
    for (owner, usage) in [
        ("bus", KeyUse::Seal),
        ("hrss", KeyUse::Seal),
        ("hrss", KeyUse::Approval),
    ] {
        department_signer(&home.keys(), &home.contract(), owner, usage).unwrap();
    }
    let leftovers: Vec<PathBuf> = files(home.dir.path())
        .into_iter()
        .filter(|path| path.extension().unwrap() == "tmp")
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn an_exposed_key_is_refused() {
    let home = Home::new();
    home.provision().unwrap();
    let keys = home.keys();
    for bits in [0o640, 0o604, 0o620, 0o601] {
        for path in [keys.subject_key(), keys.seal_key("hrss")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
            let uri = format!("file:{}", path.display());
            let refused = match SubjectKey::load(&path) {
                Err(KeyError::Exposed { mode, .. }) => mode == bits,
                _ => false,
            };
            assert!(refused, "{} with {bits:o}", path.display());
            assert!(matches!(signer(&uri, "k"), Err(KeyError::Exposed { .. })));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    // Provisioning does not bless it either.
    let exposed = keys.placement_key();
    std::fs::set_permissions(&exposed, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(home.provision(), Err(KeyError::Exposed { .. })));
}

#[test]
fn malformed_key_files_are_refused_without_being_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.key");
    for text in [
        "",
        "00",
        &"zz".repeat(32),
        &"00".repeat(32),
        &"ab".repeat(33),
        &"ab".repeat(20_000),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = SecretKey::load(&path).unwrap_err();
        assert!(matches!(error, KeyError::Malformed { .. }), "{error:?}");
        assert!(text.len() < 4 || !format!("{error} {error:?}").contains(text));
        assert!(signer(&format!("file:{}", path.display()), "k").is_err());
    }
    assert!(matches!(
        SecretKey::load(dir.path()),
        Err(KeyError::NotAFile { .. })
    ));
    assert!(matches!(
        SecretKey::load(&dir.path().join("none")),
        Err(KeyError::Io { .. })
    ));
}

#[test]
fn signers_come_from_uris() {
    let home = Home::new();
    home.provision().unwrap();
    let path = home.keys().seal_key("hrss");
    for uri in [
        format!("file:{}", path.display()),
        format!("file://{}", path.display()),
    ] {
        let signer = signer(&uri, "hrss-seal-1").unwrap();
        assert_eq!(signer.key_id(), "hrss-seal-1");
        let listed = PublicKeys::read(&layout::public_file(&home.contract(), "hrss")).unwrap();
        let public = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            &listed.keys[0].public,
        )
        .unwrap();
        let key = VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap();
        let signature = Signature::from_bytes(&signer.sign(b"message").unwrap());
        key.verify_strict(b"message", &signature).unwrap();
        assert!(key.verify_strict(b"massage", &signature).is_err());
    }
    for uri in ["pkcs11:token=hsm;object=seal", "sdf:0/1"] {
        match signer(uri, "k") {
            Err(KeyError::SchemeUnsupported { scheme }) => assert!(uri.starts_with(&scheme)),
            _ => panic!("{uri} was taken"),
        }
    }
    assert!(matches!(
        signer("no scheme", "k"),
        Err(KeyError::UriMalformed)
    ));
    assert!(matches!(signer("file:", "k"), Err(KeyError::UriMalformed)));
}

#[test]
fn a_rotated_key_overlaps_and_a_revoked_one_stops() {
    let home = Home::new();
    home.provision().unwrap();
    let (keys, contract) = (home.keys(), home.contract());
    assert_eq!(
        rotate_seal_key(&keys, &contract, "hrss").unwrap(),
        "hrss-seal-2"
    );
    let now = department_signer(&keys, &contract, "hrss", KeyUse::Seal).unwrap();
    assert_eq!(now.key_id(), "hrss-seal-2");
    let file = layout::public_file(&contract, "hrss");
    let listed = PublicKeys::read(&file).unwrap();
    assert!(
        listed
            .keys
            .iter()
            .all(|key| key.status == KeyStatus::Active)
    );
    let old = keys.root().join("hrss/seal.hrss-seal-1.key");
    let uri = format!("file:{}", old.display());
    signer(&uri, "hrss-seal-1")
        .unwrap()
        .sign(b"in flight")
        .unwrap();

    let at = |epoch, batch| BatchPosition { epoch, batch };
    let first = BTreeMap::from([
        ("talent".to_owned(), at(1, 42)),
        ("insurance".to_owned(), at(2, 7)),
    ]);
    revoke(&contract, "hrss", "hrss-seal-1", "KEY_LOST", &first).unwrap();
    // Loosening is not possible; tightening is.
    let second = BTreeMap::from([
        ("talent".to_owned(), at(1, 99)),
        ("insurance".to_owned(), at(1, 9)),
    ]);
    revoke(&contract, "hrss", "hrss-seal-1", "KEY_LOST", &second).unwrap();
    let listed = PublicKeys::read(&file).unwrap();
    let KeyStatus::Revoked(revocation) = &listed.keys[0].status else {
        panic!("still active");
    };
    assert_eq!(revocation.last_batch["talent"], at(1, 42));
    assert_eq!(revocation.last_batch["insurance"], at(1, 9));
    // A stream that it forgets has nothing left.
    revoke(
        &contract,
        "hrss",
        "hrss-seal-1",
        "KEY_LOST",
        &BTreeMap::new(),
    )
    .unwrap();
    let KeyStatus::Revoked(revocation) = &PublicKeys::read(&file).unwrap().keys[0].status.clone()
    else {
        panic!("still active");
    };
    assert!(revocation.last_batch.is_empty());

    revoke(
        &contract,
        "hrss",
        "hrss-seal-2",
        "KEY_LOST",
        &BTreeMap::new(),
    )
    .unwrap();
    assert!(matches!(
        department_signer(&keys, &contract, "hrss", KeyUse::Seal),
        Err(KeyError::Revoked { .. })
    ));
    assert!(matches!(
        revoke(
            &contract,
            "hrss",
            "hrss-seal-9",
            "KEY_LOST",
            &BTreeMap::new()
        ),
        Err(KeyError::NoSuchKey { .. })
    ));
    // Provisioning again neither revives nor replaces anything.
    let before = contents(home.dir.path());
    home.provision().unwrap();
    assert_eq!(contents(home.dir.path()), before);
    // A new key does.
    assert_eq!(
        rotate_seal_key(&keys, &contract, "hrss").unwrap(),
        "hrss-seal-3"
    );
    department_signer(&keys, &contract, "hrss", KeyUse::Seal).unwrap();
}

#[test]
fn a_foreign_key_on_disk_is_unlisted() {
    let (home, other) = (Home::new(), Home::new());
    home.provision().unwrap();
    other.provision().unwrap();
    std::fs::copy(other.keys().seal_key("hrss"), home.keys().seal_key("hrss")).unwrap();
    assert!(matches!(
        department_signer(&home.keys(), &home.contract(), "hrss", KeyUse::Seal),
        Err(KeyError::Unlisted { .. })
    ));
    // A sealing key is not an approval key.
    std::fs::copy(
        home.keys().seal_key("police"),
        home.keys().approval_key("police"),
    )
    .unwrap();
    assert!(matches!(
        department_signer(&home.keys(), &home.contract(), "police", KeyUse::Approval),
        Err(KeyError::Unlisted { .. })
    ));
}

#[test]
fn hostile_department_names_are_refused() {
    let home = Home::new();
    for name in [
        "",
        "../x",
        "a/b",
        "A",
        "a.b",
        "-a",
        "a-",
        "公安",
        &"a".repeat(41),
    ] {
        let refused = provision(home.keys().root(), &home.contract(), &[name]);
        assert!(matches!(refused, Err(KeyError::BadName { .. })), "{name:?}");
    }
}

/// Known answers, computed with another implementation (Python's hmac), so that other languages
/// can place people in the same lanes.
#[test]
fn tags_are_pinned() {
    let secret = SecretKey::from_bytes(core::array::from_fn(|i| i as u8));
    let person = id("11010519491231002X");
    assert_eq!(PlacementKey::new(&secret).lane(&person, 64), LANE_64);
    assert_eq!(PlacementKey::new(&secret).lane(&person, 8), LANE_64 % 8);
    assert_eq!(PlacementKey::new(&secret).lane(&person, 1), 0);
    assert_eq!(
        hex::encode(SubjectKey::new(&secret).tag(&person).0),
        SUBJECT_TAG
    );
    assert_eq!(
        hex::encode(
            PseudonymKey::new(&secret)
                .pseudonym(
                    "police",
                    "talent-settlement",
                    SubjectKey::new(&secret).tag(&person)
                )
                .0
        ),
        PSEUDONYM
    );
    assert_eq!(
        hex::encode(
            RecordKey::new(&secret)
                .record_tag("hrss.insurance.status.v1", "440524188001010014|医疗")
        ),
        RECORD_TAG
    );
    assert_eq!(
        hex::encode(AuditKey::new(&secret).nonce(AuditWriter::Vault, 3, 7)),
        NONCE
    );
}

#[test]
fn tags_differ_by_key_person_agreement_and_use() {
    let (a, b) = (
        SecretKey::generate().unwrap(),
        SecretKey::generate().unwrap(),
    );
    let people = [
        id("11010519491231002X"),
        id("440524188001010014"),
        id("34052419800101001X"),
    ];
    let mut seen = HashSet::new();
    for secret in [&a, &b] {
        let root = PseudonymKey::new(secret);
        for person in &people {
            assert!(seen.insert(SubjectKey::new(secret).tag(person).0));
            for (consumer, purpose) in [
                ("police", "x"),
                ("hrss", "x"),
                ("police", "xy"),
                ("policex", ""),
            ] {
                let agreement = root.agreement(consumer, purpose);
                let subject = SubjectKey::new(&a).tag(person);
                assert!(seen.insert(agreement.pseudonym(subject).0));
                assert!(seen.insert(agreement.record_tag(RecordTag(subject.0)).0));
                assert_eq!(
                    agreement.pseudonym(subject),
                    root.pseudonym(consumer, purpose, subject)
                );
            }
        }
        let records = RecordKey::new(secret);
        // The border between dataset and record counts.
        for (dataset, record) in [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc")] {
            assert!(seen.insert(records.record_tag(dataset, record)));
        }
    }
    // With one and the same secret, a department's tag of a person equals no other use's.
    let audit = AuditKey::new(&a);
    assert!(seen.insert(audit.nonce(AuditWriter::Gateway, 0, 1)));
    assert!(seen.insert(audit.nonce(AuditWriter::Gateway, 1, 0)));
    assert!(seen.insert(audit.nonce(AuditWriter::Vault, 0, 1)));
}

#[test]
fn lanes_spread() {
    let key = PlacementKey::new(&SecretKey::from_bytes([7; 32]));
    let mut lanes = [0_u32; 8];
    let mut buffer = *b"11010519491231002X";
    for serial in 0..1000_u32 {
        buffer[14..17].copy_from_slice(format!("{serial:03}").as_bytes());
        for check in b"0123456789X" {
            buffer[17] = *check;
            if let Ok(person) = IdNumber::parse(std::str::from_utf8(&buffer).unwrap()) {
                lanes[usize::from(key.lane(&person, 8))] += 1;
            }
        }
    }
    assert_eq!(lanes.iter().sum::<u32>(), 1000);
    assert!(
        lanes.iter().all(|count| (80..180).contains(count)),
        "{lanes:?}"
    );
}
