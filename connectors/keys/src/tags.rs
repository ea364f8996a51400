//! Keyed tags: what stands for people and records in topic keys, state and logs.
//!
//! All are HMAC-SHA-256 with keys that are scheduled once. Who holds which key decides what can be
//! linked: connectors and the gateway hold the placement key (it tells a lane, nothing else); a
//! department holds its own record key; subject, pseudonym and audit keys stay with the bureau.

use crate::{KeyError, SecretKey};
use mz_contract::IdNumber;
use mz_journal::{AuditWriter, Pseudonym, RecordTag, SubjectTag};
use ring::hmac;
use std::path::Path;

/// Length of a tag, in bytes.
pub const TAG_LEN: usize = 16;

// First byte (or line) of each HMAC input, so that no two uses of one key share an input.
const SUBJECT: &[u8] = &[0x01];
const RECORD: &[u8] = &[0x02];
const NONCE: &[u8] = &[0x03];
const AGREEMENT: &[u8] = b"mianzheng/pseudonym/v1\n";

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(hmac::Key);

        impl $name {
            /// The key from its secret.
            pub fn new(secret: &SecretKey) -> Self {
                Self(hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()))
            }

            /// Reads the key file; refuses one that others can read.
            pub fn load(path: &Path) -> Result<Self, KeyError> {
                Ok(Self::new(&SecretKey::load(path)?))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

key! {
    /// Places a person's events in a lane. Held by every connector and the gateway.
    PlacementKey
}
key! {
    /// Tags people in the bus's own topics. Bureau only.
    SubjectKey
}
key! {
    /// Root of the per-agreement pseudonyms. Bureau only.
    PseudonymKey
}
key! {
    /// A department's own key: tags people and records in its source topics and checkpoints.
    RecordKey
}
key! {
    /// Tags records in the audit log and blinds its leaves. Bureau only.
    AuditKey
}

impl PlacementKey {
    /// The lane of a person: the first eight bytes of HMAC(key, id) as a big-endian integer,
    /// modulo the number of lanes. A count of zero is taken as one lane.
    pub fn lane(&self, id: &IdNumber, lanes: u16) -> u16 {
        let tag = hmac::sign(&self.0, id.as_str().as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&tag.as_ref()[..8]);
        // The remainder is below a u16.
        (u64::from_be_bytes(head) % u64::from(lanes.max(1))) as u16
    }
}

impl SubjectKey {
    /// The tag of a person in grants, state and audit.
    pub fn tag(&self, id: &IdNumber) -> SubjectTag {
        SubjectTag(subject_mac(&self.0, id))
    }
}

impl PseudonymKey {
    /// The key of one consumer and purpose; keep it, deriving costs two HMACs.
    pub fn agreement(&self, consumer: &str, purpose: &str) -> AgreementKey {
        let derived = mac(
            &self.0,
            &[
                AGREEMENT,
                &length(consumer),
                consumer.as_bytes(),
                &length(purpose),
                purpose.as_bytes(),
            ],
        );
        AgreementKey(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Who a person is to this consumer and purpose.
    pub fn pseudonym(&self, consumer: &str, purpose: &str, subject: SubjectTag) -> Pseudonym {
        self.agreement(consumer, purpose).pseudonym(subject)
    }
}

/// The pseudonym key of one consumer and purpose. It works on the bus's own tags, so that a delivery
/// can be called back by somebody who knows neither the number nor the record's name.
#[derive(Clone)]
pub struct AgreementKey(hmac::Key);

impl AgreementKey {
    /// Who a person is to this consumer and purpose.
    pub fn pseudonym(&self, subject: SubjectTag) -> Pseudonym {
        Pseudonym(cut(mac(&self.0, &[SUBJECT, &subject.0])))
    }

    /// What a record is called towards this consumer and purpose. `record`: the bus's own tag.
    pub fn record_tag(&self, record: RecordTag) -> RecordTag {
        RecordTag(cut(mac(&self.0, &[RECORD, &record.0])))
    }
}

impl std::fmt::Debug for AgreementKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgreementKey(…)")
    }
}

impl RecordKey {
    /// First half of a source record's key, and the connector's name for a person.
    pub fn subject_tag(&self, id: &IdNumber) -> [u8; TAG_LEN] {
        subject_mac(&self.0, id)
    }

    /// Second half of a source record's key, and the connector's name for a record.
    pub fn record_tag(&self, dataset: &str, record: &str) -> [u8; TAG_LEN] {
        record_mac(&self.0, dataset, record)
    }
}

impl AuditKey {
    /// The tag of a record in the audit log.
    pub fn record_tag(&self, dataset: &str, record: &str) -> RecordTag {
        RecordTag(record_mac(&self.0, dataset, record))
    }

    /// The blinding nonce of an audit record: the same after a restart, unknown to outsiders, so
    /// that a leaf of the log can't be found by trying contents.
    pub fn nonce(&self, writer: AuditWriter, lane: u16, number: u64) -> [u8; TAG_LEN] {
        cut(mac(
            &self.0,
            &[
                NONCE,
                &[writer as u8],
                &lane.to_be_bytes(),
                &number.to_be_bytes(),
            ],
        ))
    }
}

fn subject_mac(key: &hmac::Key, id: &IdNumber) -> [u8; TAG_LEN] {
    cut(mac(key, &[SUBJECT, id.as_str().as_bytes()]))
}

fn record_mac(key: &hmac::Key, dataset: &str, record: &str) -> [u8; TAG_LEN] {
    cut(mac(
        key,
        &[
            RECORD,
            &length(dataset),
            dataset.as_bytes(),
            record.as_bytes(),
        ],
    ))
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

fn cut(tag: hmac::Tag) -> [u8; TAG_LEN] {
    let mut head = [0; TAG_LEN];
    head.copy_from_slice(&tag.as_ref()[..TAG_LEN]);
    head
}

/// Big-endian length in front of a part that another part follows.
fn length(part: &str) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}
