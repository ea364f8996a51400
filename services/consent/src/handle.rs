//! What others ask of a running consent service. Cheap to clone; async, since HTTP asks. Each call
//! checks who calls: the certificate decides, never the body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mz_contract::{BUS, Contract, IdNumber};
use mz_journal::topics::SlotKind;
use mz_journal::{GrantId, SubjectTag};
use mz_seal::timestamp_text;
use sha2::{Digest as _, Sha256};

use crate::barrier::{Awaited, Standing, slot_name};
use crate::error::ConsentError;
use crate::limits::MAX_REQUEST_ID_BYTES;
use crate::model::{DEFAULT_WAIT_MS, Enforcement, EnforcementState, MAX_WAIT_MS};
use crate::refusal::Refusal;
use crate::shared::{InForceNow, Shared, now_ms};
use crate::store::StoreError;

/// Between two times that a waiting change asks for an owner to be shut out.
const FENCE_AGAIN: Duration = Duration::from_secs(1);

/// Who calls: from the client certificate, nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub department: String,
    pub role: String,
}

impl Caller {
    /// `police.window`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.department, self.role)
    }

    /// The citizen's app: acts for the person who signed in.
    pub(crate) fn is_portal(&self) -> bool {
        self.department == BUS && self.role == "portal"
    }

    /// The security administrator of the bureau.
    pub(crate) fn is_security(&self) -> bool {
        self.department == BUS && self.role == "security"
    }

    /// The bureau's auditor.
    pub(crate) fn is_auditor(&self) -> bool {
        self.department == BUS && self.role == "auditor"
    }

    /// A department's counter.
    pub(crate) fn is_window(&self) -> bool {
        self.department != BUS && self.role == "window"
    }

    /// The counter of this consumer.
    pub(crate) fn is_window_of(&self, consumer: &str) -> bool {
        self.is_window() && self.department == consumer
    }

    pub(crate) fn is_adapter(&self) -> bool {
        self.department != BUS && self.role == "adapter"
    }
}

#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The contract in force.
    pub fn contract(&self) -> Arc<Contract> {
        self.shared.in_force().contract
    }

    /// Enforcement can be told.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    pub(crate) fn in_force(&self) -> InForceNow {
        self.shared.in_force()
    }

    pub(crate) fn place(&self, id: &IdNumber) -> (u16, SubjectTag) {
        self.shared.keys.place(id, self.shared.lanes)
    }

    /// Waits until what is awaited holds, at most `wait`; asks for owners to be shut out that don't
    /// show it in time.
    pub(crate) async fn await_change(
        &self,
        lane: u16,
        awaited: Awaited,
        wait: Duration,
    ) -> Enforcement {
        self.await_since(Instant::now(), lane, awaited, wait).await
    }

    /// The same for a change that was made at `since`: from then on owners have time to show it.
    pub(crate) async fn await_since(
        &self,
        since: Instant,
        lane: u16,
        awaited: Awaited,
        wait: Duration,
    ) -> Enforcement {
        let started = Instant::now();
        let mut changed = self.shared.barrier.subscribe();
        let mut asked: Option<Instant> = None;
        loop {
            let standing = self.shared.barrier.standing(lane, awaited);
            let waited = started.elapsed();
            if standing.holds() || waited >= wait {
                return enforcement(lane, &standing, waited);
            }
            let mut rest = wait - waited;
            if standing.offset.is_some() {
                let due = match asked {
                    Some(asked) => asked + FENCE_AGAIN,
                    None => since + self.shared.fence_after,
                };
                let now = Instant::now();
                if now >= due {
                    for (kind, slot) in &standing.missing {
                        self.shared.fence(*kind, *slot);
                    }
                    asked = Some(now);
                    rest = rest.min(FENCE_AGAIN);
                } else {
                    rest = rest.min(due - now);
                }
            }
            // Nobody tells when the service stops: then the wait ends by itself.
            let _ = tokio::time::timeout(rest, changed.changed()).await;
        }
    }
}

fn enforcement(lane: u16, standing: &Standing, waited: Duration) -> Enforcement {
    let names = |slots: &[(SlotKind, u32)]| slots.iter().copied().map(slot_name).collect();
    let holds = standing.holds();
    let mut missing: Vec<String> = names(&standing.missing);
    if standing.offset.is_none() {
        missing.push(SlotKind::Consent.name().to_owned());
    }
    Enforcement {
        state: match holds {
            true => EnforcementState::Enforced,
            false => EnforcementState::Pending,
        },
        at: holds.then(|| timestamp_text(now_ms())),
        lane,
        position: standing.offset.unwrap_or(-1),
        missing,
        fenced: names(&standing.fenced),
        waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A change that is not known to hold yet.
pub(crate) fn pending(lane: u16) -> Enforcement {
    Enforcement {
        state: EnforcementState::Pending,
        at: None,
        lane,
        position: -1,
        missing: vec![SlotKind::Consent.name().to_owned()],
        fenced: Vec::new(),
        waited_ms: 0,
    }
}

pub(crate) fn wait_of(asked: Option<u64>) -> Duration {
    Duration::from_millis(asked.unwrap_or(DEFAULT_WAIT_MS).min(MAX_WAIT_MS))
}

/// Letters, digits and a few signs: it is stored, and shown again.
pub(crate) fn check_request_id(id: &str) -> Result<(), Refusal> {
    let plain = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if plain && !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES {
        Ok(())
    } else {
        Err(Refusal::RequestIdInvalid)
    }
}

/// SHA-256 of what was asked, so that one request id stands for one request. `what` tells kinds of
/// requests apart. How long the caller waits, and when and by which signature the person's act was shown,
/// don't: who asks again can't show the same act at the same moment.
pub(crate) fn digest_of(what: &str, request: &impl serde::Serialize) -> Result<[u8; 32], Refusal> {
    let mut json = serde_json::to_value(request).map_err(|_| Refusal::Unavailable)?;
    if let Some(body) = json.as_object_mut() {
        body.remove("wait_ms");
        if let Some(evidence) = body.get_mut("evidence").and_then(|it| it.as_object_mut()) {
            for shown in ["at", "session", "key_id", "signature"] {
                evidence.remove(shown);
            }
        }
    }
    let json = serde_json::to_vec(&json).map_err(|_| Refusal::Unavailable)?;
    let mut hash = Sha256::new();
    hash.update(what);
    hash.update([0]);
    hash.update(json);
    Ok(hash.finalize().into())
}

pub(crate) fn parse_id(text: &str) -> Result<IdNumber, Refusal> {
    IdNumber::parse(text).map_err(|fault| Refusal::SubjectInvalid(fault.code()))
}

pub(crate) fn parse_grant(text: &str) -> Result<GrantId, Refusal> {
    GrantId::from_hex(text).ok_or(Refusal::GrantUnknown)
}

/// A failure of the environment: logged here, once; the caller may ask again.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(
            error = mz_bus::chain(&error),
            "the change could not be recorded"
        );
        Self::Unavailable
    }
}

impl From<ConsentError> for Refusal {
    fn from(error: ConsentError) -> Self {
        tracing::error!(
            code = error.code(),
            error = mz_bus::chain(&error),
            "the change could not be made"
        );
        Self::Unavailable
    }
}
