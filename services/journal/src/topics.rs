//! Names of topics and layouts of keys. Everything that writes or reads a key of the bus does it
//! through here. Names are logical: `mz-bus` puts an installation's prefix before them.

use crate::audit::{AUDIT_WRITERS, AuditWriter};
use crate::tags::{GrantId, Pseudonym, RecordTag, SubjectTag, TAG_BYTES};

/// The slots' own state, one record per slot kind and lane.
pub const STATE: &str = "bus.state";
/// Consents and cases.
pub const GRANTS: &str = "bus.grants";
/// Backfill requests, gateway to vault.
pub const FETCH: &str = "bus.fetch";
/// Backfill answers, vault to gateway.
pub const FACTS: &str = "bus.facts";
/// The audit log before it is logged: numbered and chained per writer and lane.
pub const AUDIT: &str = "bus.audit";
/// How far each shard of the ledger has committed its log.
pub const LEDGER: &str = "bus.ledger";
/// Cosignatures of the ledger's checkpoints, from the departments' witnesses.
pub const COSIGNATURES: &str = "bus.cosignatures";
/// Orders to gateway slots: withdrawals, from consent.
pub const ORDERS: &str = "bus.orders";
/// Signed receipts of withdrawals, from adapters.
pub const RECEIPTS: &str = "bus.receipts";
/// Contract versions, file by file: what a running slot loads.
pub const CONTRACT: &str = "bus.contract";
/// Carries no records: a consumer group on it hands out slots (one partition, one slot).
pub const SLOTS: &str = "bus.slots";

/// `src.<department>.<dataset name>.v<N>` for the dataset id `<department>.<name>.v<N>`.
pub fn source(dataset: &str) -> String {
    format!("src.{dataset}")
}

/// `to.<consumer>.<purpose>.<dataset id>`.
pub fn delivery(consumer: &str, purpose: &str, dataset: &str) -> String {
    format!("to.{consumer}.{purpose}.{dataset}")
}

/// `to.<consumer>.<purpose>.answer.<name>.v<N>`.
pub fn answer(consumer: &str, purpose: &str, name: &str, version: u32) -> String {
    format!("to.{consumer}.{purpose}.answer.{name}.v{version}")
}

/// `state.<department>.<stream>`: a connector's checkpoint.
pub fn checkpoint(department: &str, stream: &str) -> String {
    format!("state.{department}.{stream}")
}

/// `status.<department>.<stream>`: how complete and how fresh a source is.
pub fn status(department: &str, stream: &str) -> String {
    format!("status.{department}.{stream}")
}

/// `quarantine.<department>`: what was refused, by position and code.
pub fn quarantine(department: &str) -> String {
    format!("quarantine.{department}")
}

/// Who owns a slot and its part of [`STATE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SlotKind {
    Gateway,
    Vault,
    /// The consent service: one slot, all lanes.
    Consent,
}

/// All of them.
pub const SLOT_KINDS: [SlotKind; 3] = [SlotKind::Gateway, SlotKind::Vault, SlotKind::Consent];

impl SlotKind {
    /// As written in keys, transactional ids and group names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gw",
            Self::Vault => "vault",
            Self::Consent => "consent",
        }
    }

    /// `mz-gw-<slot>`: ends and fences whoever owned the slot before.
    pub fn transactional_id(self, slot: u32) -> String {
        format!("mz-{}-{slot}", self.name())
    }
}

/// `mz-conn-<department>-<stream>`.
pub fn connector_transactional_id(department: &str, stream: &str) -> String {
    format!("mz-conn-{department}-{stream}")
}

/// Key in [`STATE`]: `gw|<lane>`, `vault|<lane>` or `consent|<lane>`.
pub fn state_key(kind: SlotKind, lane: u16) -> Vec<u8> {
    format!("{}|{lane}", kind.name()).into_bytes()
}

/// Inverse of [`state_key`].
pub fn parse_state_key(key: &[u8]) -> Option<(SlotKind, u16)> {
    let (kind, lane) = std::str::from_utf8(key).ok()?.split_once('|')?;
    let kind = SLOT_KINDS.into_iter().find(|known| known.name() == kind)?;
    let parsed = lane.parse().ok()?;
    // One spelling only: `gw|07` and `gw|+7` would be other keys of the same lane.
    (state_key(kind, parsed) == key).then_some((kind, parsed))
}

/// `mz-ledger-<shard>`: ends and fences whoever wrote the shard's log before.
pub fn ledger_transactional_id(shard: u16) -> String {
    format!("mz-ledger-{shard}")
}

/// Key in [`LEDGER`]: `ledger|<shard>`.
pub fn ledger_key(shard: u16) -> Vec<u8> {
    format!("ledger|{shard}").into_bytes()
}

/// Key in [`STATE`] of the note that a slot's owner was shut out: `fence-gw|<lane>`. The note is a
/// state of that lane; only its time says anything.
pub fn fence_key(kind: SlotKind, lane: u16) -> Vec<u8> {
    format!("fence-{}|{lane}", kind.name()).into_bytes()
}

/// Key in [`GRANTS`] of the contract in force: no person and no grant has it.
pub const IN_FORCE_KEY: [u8; 2 * TAG_BYTES] = [0; 2 * TAG_BYTES];

/// Key in [`GRANTS`]: subject tag ‖ grant id.
pub fn grant_key(subject: SubjectTag, grant: GrantId) -> [u8; 2 * TAG_BYTES] {
    join(subject.0, grant.0)
}

/// Inverse of [`grant_key`].
pub fn parse_grant_key(key: &[u8]) -> Option<(SubjectTag, GrantId)> {
    split(key).map(|(subject, grant)| (SubjectTag(subject), GrantId(grant)))
}

/// Key on `to.*`: pseudonym ‖ record tag, both the consumer's.
pub fn delivery_key(subject: Pseudonym, record: RecordTag) -> [u8; 2 * TAG_BYTES] {
    join(subject.0, record.0)
}

/// Inverse of [`delivery_key`].
pub fn parse_delivery_key(key: &[u8]) -> Option<(Pseudonym, RecordTag)> {
    split(key).map(|(subject, record)| (Pseudonym(subject), RecordTag(record)))
}

/// Key on `src.*`: the department's own tags of subject and record.
pub fn source_key(subject: [u8; TAG_BYTES], record: [u8; TAG_BYTES]) -> [u8; 2 * TAG_BYTES] {
    join(subject, record)
}

/// Length in bytes of a key in [`AUDIT`].
pub const AUDIT_KEY_BYTES: usize = 11;

/// Key in [`AUDIT`]: lane, writer, number, big-endian, so that keys sort as each log runs.
pub fn audit_key(writer: AuditWriter, lane: u16, number: u64) -> [u8; AUDIT_KEY_BYTES] {
    let mut key = [0; AUDIT_KEY_BYTES];
    key[..2].copy_from_slice(&lane.to_be_bytes());
    key[2] = writer as u8;
    key[3..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Inverse of [`audit_key`].
pub fn parse_audit_key(key: &[u8]) -> Option<(AuditWriter, u16, u64)> {
    let (lane, rest) = key.split_first_chunk::<2>()?;
    let (writer, number) = rest.split_first()?;
    Some((
        *AUDIT_WRITERS.get(usize::from(*writer))?,
        u16::from_be_bytes(*lane),
        u64::from_be_bytes(number.try_into().ok()?),
    ))
}

fn join(left: [u8; TAG_BYTES], right: [u8; TAG_BYTES]) -> [u8; 2 * TAG_BYTES] {
    let mut key = [0; 2 * TAG_BYTES];
    key[..TAG_BYTES].copy_from_slice(&left);
    key[TAG_BYTES..].copy_from_slice(&right);
    key
}

fn split(key: &[u8]) -> Option<([u8; TAG_BYTES], [u8; TAG_BYTES])> {
    let (left, right) = key.split_first_chunk::<TAG_BYTES>()?;
    Some((*left, right.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        for lane in [0, 7, u16::MAX] {
            for kind in SLOT_KINDS {
                assert_eq!(parse_state_key(&state_key(kind, lane)), Some((kind, lane)));
            }
            assert_eq!(
                parse_audit_key(&audit_key(AuditWriter::Vault, lane, u64::MAX - 1)),
                Some((AuditWriter::Vault, lane, u64::MAX - 1))
            );
        }
        for bad in ["gw|07", "gw|+7", "gw|70000", "ledger|1", "gw1", ""] {
            assert_eq!(parse_state_key(bad.as_bytes()), None, "{bad}");
        }
        let key = delivery_key(Pseudonym([1; 16]), RecordTag([2; 16]));
        assert_eq!(
            parse_delivery_key(&key),
            Some((Pseudonym([1; 16]), RecordTag([2; 16])))
        );
        assert_eq!(parse_delivery_key(&key[1..]), None);
        assert_eq!(
            parse_grant_key(&grant_key(SubjectTag([3; 16]), GrantId([4; 16]))),
            Some((SubjectTag([3; 16]), GrantId([4; 16])))
        );
        let of = |lane, number| audit_key(AuditWriter::Gateway, lane, number);
        assert!(of(1, 255) < of(1, 256) && of(1, u64::MAX) < of(2, 0));
        assert_eq!(parse_audit_key(&[0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 1]), None);
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let dataset = "hrss.insurance.status.v1";
        assert_eq!(source(dataset), "src.hrss.insurance.status.v1");
        assert_eq!(
            delivery("police", "talent-settlement", dataset),
            "to.police.talent-settlement.hrss.insurance.status.v1"
        );
        assert_eq!(
            answer("police", "talent-settlement", "insured", 1),
            "to.police.talent-settlement.answer.insured.v1"
        );
        assert_eq!(SlotKind::Gateway.transactional_id(3), "mz-gw-3");
    }
}
