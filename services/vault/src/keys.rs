//! The secrets a vault works with. None of them leaves the bureau's services.

use std::sync::Arc;

use mz_contract::IdNumber;
use mz_journal::SubjectTag;
use mz_keys::{AuditKey, KeyWrapper, PlacementKey, PseudonymKey, SubjectKey, SubjectVrf};
use mz_seal::Signer;

#[derive(Clone)]
pub struct VaultKeys {
    pub placement: PlacementKey,
    pub subject: SubjectKey,
    pub pseudonym: PseudonymKey,
    pub audit: AuditKey,
    /// Labels people in the ledger.
    pub vrf: SubjectVrf,
    /// The bus's seal key: signs bundles.
    pub signer: Arc<dyn Signer>,
    /// The master key: wraps the keys under which people's facts rest.
    pub wrapper: Arc<dyn KeyWrapper>,
}

impl VaultKeys {
    /// A person's lane and tag.
    pub fn place(&self, id: &IdNumber, lanes: u16) -> (u16, SubjectTag) {
        (self.placement.lane(id, lanes), self.subject.tag(id))
    }
}

impl std::fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultKeys")
            .field("signer", &self.signer.key_id())
            .field("master", &self.wrapper.key_id())
            .finish_non_exhaustive()
    }
}
