//! Verifies a proof of absence offline, with the person's number in hand.

use std::collections::BTreeMap;

use mz_contract::IdNumber;
use mz_keys::vrf::{SubjectLabel, proven_label};
use mz_tlog::merkle::{empty_root, verify_inclusion};
use mz_tlog::policy::Policy;

use super::check::follows;
use super::leaf::{Leaf, key};
use super::proof::{Placed, Proof, ProofError, Shown};
use super::statement::Statement;
use crate::sign::is_signed;

/// By how much the clocks of those who write records may differ from the ledger's, milliseconds.
pub const SKEW_MS: i64 = 5_000;
/// A record is in `bus.audit` at most so long after the time that it names: a transaction's timeout, the
/// broker's interval of looking for those, and the skew; milliseconds.
pub const SETTLED_MS: i64 = 20_000 + SKEW_MS;

/// What the department read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nothing,
    /// This, in ranges that touch the time.
    Read(Vec<Leaf>),
}

/// What a proof proves.
#[derive(Clone, Debug)]
pub struct Verified {
    pub department: String,
    pub from_ms: i64,
    pub to_ms: i64,
    pub answer: Answer,
    pub ranges: usize,
    /// Origins of the logs.
    pub logs: Vec<String>,
    /// Names of the witnesses that cosigned every range; empty without a policy.
    pub witnesses: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("not a proof: {0}")]
    Malformed(#[from] ProofError),
    #[error("the proof is not about this person")]
    Person,
    #[error("the label's key is none that the contract publishes")]
    LabelKey,
    #[error("none of the ledger's published keys signed {0}")]
    Key(String),
    #[error("{0} has no quorum")]
    Quorum(String),
    #[error("the leaves of {0} prove nothing")]
    Leaves(String),
    #[error("{0} does not continue what is before it")]
    Chain(String),
    #[error("{0}: the time is not covered")]
    Time(String),
    #[error("shard {0} is not shown")]
    Shard(u16),
    #[error("people in {0} have no label")]
    Unbound(String),
}

impl VerifyError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "LEDGER_PROOF_MALFORMED",
            Self::Person => "LEDGER_ABSENCE_PERSON",
            Self::Key(_) | Self::LabelKey => "LEDGER_KEY_UNKNOWN",
            Self::Quorum(_) => "LEDGER_QUORUM",
            Self::Leaves(_) => "LEDGER_PROOF_WRONG",
            Self::Chain(_) | Self::Time(_) | Self::Shard(_) => "LEDGER_ABSENCE_TIME",
            Self::Unbound(_) => "LEDGER_RANGE_UNBOUND",
        }
    }
}

/// Verifies a proof about `person`. `labels`: the keys for labels that the contract publishes; `keys`: the
/// ledger's; with `policy` every range must have its quorum.
///
/// # Errors
/// What does not hold.
pub fn verify(
    text: &str,
    person: &IdNumber,
    labels: &[[u8; 32]],
    keys: &[[u8; 32]],
    policy: Option<&Policy>,
) -> Result<Verified, VerifyError> {
    let proof = Proof::parse(text)?;
    let mut shards: BTreeMap<u16, Vec<&Shown>> = BTreeMap::new();
    let mut witnesses: Option<Vec<String>> = None;
    // One key in most proofs: the label is proven once under each.
    let mut proven: BTreeMap<[u8; 32], Option<SubjectLabel>> = BTreeMap::new();
    let mut read = Vec::new();
    for shown in &proof.ranges {
        let said = &shown.statement;
        let name = || said.name();
        if !is_signed(&shown.note, &said.origin, keys) {
            return Err(VerifyError::Key(name()));
        }
        if let Some(policy) = policy {
            let accepted = policy.check_as(&shown.note, &said.origin);
            let accepted = accepted.map_err(|_| VerifyError::Quorum(name()))?;
            let these = accepted.witnesses.into_iter().map(|(name, _)| name);
            witnesses = Some(match witnesses {
                None => these.collect(),
                Some(all) => these.filter(|name| all.contains(name)).collect(),
            });
        }
        if said.unbound > 0 {
            return Err(VerifyError::Unbound(name()));
        }
        // A range in which nothing was read needs no key, and its empty head no leaves.
        let public = match &said.key {
            Some(key) if labels.contains(&key.public) => Some(key.public),
            None if said.leaves == 0 => None,
            _ => return Err(VerifyError::LabelKey),
        };
        let wanted = match public {
            Some(public) => {
                let label = proven
                    .entry(public)
                    .or_insert_with(|| proven_label(&public, person, &proof.vrf));
                Some(key(&label.ok_or(VerifyError::Person)?, &proof.department))
            }
            None => None,
        };
        if let Some(leaf) =
            find(shown, wanted.as_ref()).ok_or_else(|| VerifyError::Leaves(name()))?
            && leaf.last_ms >= proof.from_ms
            && leaf.first_ms < proof.to_ms
        {
            read.push(leaf);
        }
        let shard = said.shard().ok_or_else(|| VerifyError::Chain(name()))?;
        shards.entry(shard).or_default().push(shown);
    }
    // All say how many shards there are, and all of those are shown.
    let many = proof
        .ranges
        .first()
        .map_or(1, |shown| shown.statement.shards);
    for shard in 0..many.max(1) {
        let shown = shards.get(&shard).ok_or(VerifyError::Shard(shard))?;
        covers(&proof, shown, many)?;
    }
    if shards.len() != usize::from(many.max(1)) {
        return Err(VerifyError::Shard(many));
    }
    let mut logs: Vec<String> = proof
        .ranges
        .iter()
        .map(|shown| shown.statement.origin.clone())
        .collect();
    logs.dedup();
    Ok(Verified {
        ranges: proof.ranges.len(),
        department: proof.department,
        from_ms: proof.from_ms,
        to_ms: proof.to_ms,
        answer: match read.is_empty() {
            true => Answer::Nothing,
            false => Answer::Read(read),
        },
        logs,
        witnesses: witnesses.unwrap_or_default(),
    })
}

/// The leaf of a key, `Some(None)` when it is shown that there is none; `None` when nothing is shown.
fn find(shown: &Shown, wanted: Option<&[u8; 32]>) -> Option<Option<Leaf>> {
    let said = &shown.statement;
    let under = |placed: &Placed| {
        verify_inclusion(
            &placed.leaf.hash(),
            placed.index,
            said.leaves,
            &placed.path,
            &said.head,
        )
        .is_ok()
    };
    if !shown.leaves.iter().all(under) {
        return None;
    }
    let Some(wanted) = wanted else {
        let empty = said.leaves == 0 && said.head == empty_root() && shown.leaves.is_empty();
        return empty.then_some(None);
    };
    match shown.leaves.as_slice() {
        [] => (said.leaves == 0 && said.head == empty_root()).then_some(None),
        [one] if one.leaf.key == *wanted => Some(Some(one.leaf)),
        [first] if first.index == 0 && *wanted < first.leaf.key => Some(None),
        [last] if last.index + 1 == said.leaves && last.leaf.key < *wanted => Some(None),
        [left, right] => {
            let between = left.leaf.key < *wanted && *wanted < right.leaf.key;
            (between && left.index + 1 == right.index).then_some(None)
        }
        _ => None,
    }
}

/// These ranges of one shard follow each other and cover the time.
fn covers(proof: &Proof, shown: &[&Shown], shards: u16) -> Result<(), VerifyError> {
    let mut before: Option<&Statement> = None;
    for shown in shown {
        let said = &shown.statement;
        let good = match before {
            None => said.since_ms <= said.until_ms,
            Some(_) => follows(said, before),
        } && said.shards == shards;
        if !good {
            return Err(VerifyError::Chain(said.name()));
        }
        before = Some(said);
    }
    let (first, last) = match (shown.first(), before) {
        (Some(first), Some(last)) => (&first.statement, last),
        _ => return Err(VerifyError::Time(String::new())),
    };
    let ends = last.until_ms >= proof.to_ms.saturating_add(SETTLED_MS);
    match (
        begins_by(first, proof.from_ms) && proof.from_ms < proof.to_ms,
        ends,
    ) {
        (false, _) => Err(VerifyError::Time(first.name())),
        (_, false) => Err(VerifyError::Time(last.name())),
        _ => Ok(()),
    }
}

/// Whatever was written at `from_ms` or later stands in this range or behind it: it is the first of all, or
/// began before.
pub(super) fn begins_by(first: &Statement, from_ms: i64) -> bool {
    let first_of_all = first.number == 0 && first.from == 0 && first.after.is_none();
    first_of_all || first.since_ms.saturating_add(SKEW_MS) <= from_ms
}
