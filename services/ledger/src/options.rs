//! What a ledger is started with.

use std::path::PathBuf;
use std::time::Duration;

use mz_bus::BusOptions;
use mz_contract::{BUS, Contract, KeyUse};
use mz_keys::{KeyError, KeysDir, department_signer};
use mz_seal::Signer;

/// How often a shard closes its log and opens the next. Days are those of Beijing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    #[default]
    Year,
    Month,
}

impl Period {
    /// The period that a moment lies in: `2026`, `2026-11`. Sorts as time runs.
    pub fn name(self, at_ms: i64) -> String {
        let day = mz_seal::timestamp_text(at_ms.saturating_add(8 * 3_600_000));
        match self {
            Self::Year => day.chars().take(4).collect(),
            Self::Month => day.chars().take(7).collect(),
        }
    }
}

/// One shard of the ledger: the lanes whose number leaves the rest `shard` when divided by `shards`.
pub struct Options {
    pub bus: BusOptions,
    /// Of the contract: the first part of every log's name.
    pub bus_id: String,
    pub lanes: u16,
    pub shard: u16,
    /// Chosen once: another number would deal the lanes anew.
    pub shards: u16,
    /// The shard's logs lie in `<folder>/<shard>/<period>`.
    pub folder: PathBuf,
    /// Signs checkpoints.
    pub signer: Box<dyn Signer>,
    /// Its public half: 32 bytes of Ed25519.
    pub public: [u8; 32],
    pub period: Period,
    /// Between two commits while records come: what is logged is durable and signed within this time.
    pub commit_every: Duration,
    /// Now, in milliseconds since 1970. Tests turn it.
    pub clock: fn() -> i64,
}

impl Options {
    /// One shard with all lanes, a log a year, a commit every 50 ms.
    ///
    /// # Errors
    /// The checkpoint key can't be opened, is not listed in the contract, or was revoked.
    pub fn new(
        bus: BusOptions,
        contract: &Contract,
        keys: &KeysDir,
        folder: PathBuf,
    ) -> Result<Self, KeyError> {
        let signer = department_signer(
            keys,
            &contract.root,
            BUS,
            mz_keys::public::KeyUse::Checkpoint,
        )?;
        let listed = contract.key(BUS, KeyUse::Checkpoint, signer.key_id());
        let public = listed
            .map(|key| key.info.public)
            .ok_or_else(|| KeyError::Unlisted {
                department: BUS.to_owned(),
                usage: "checkpoint",
                path: contract.root.clone(),
            })?;
        Ok(Self {
            bus,
            bus_id: contract.bus_id.clone(),
            lanes: contract.lanes,
            shard: 0,
            shards: 1,
            folder,
            signer,
            public,
            period: Period::default(),
            commit_every: Duration::from_millis(50),
            clock: system_clock,
        })
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = u16> + use<> {
        (self.shard..self.lanes).step_by(usize::from(self.shards.max(1)))
    }

    pub(crate) fn origin(&self, period: &str) -> String {
        format!("{}/audit/{}/{period}", self.bus_id, self.shard)
    }

    pub(crate) fn folder_of(&self, origin: &str) -> PathBuf {
        let period = origin.rsplit('/').next().unwrap_or_default();
        self.folder.join(self.shard.to_string()).join(period)
    }
}

/// The machine's clock, milliseconds since 1970.
pub fn system_clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
