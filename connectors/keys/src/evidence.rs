//! What a citizen's app signs as evidence of the person's own act, as bytes: the context line, then
//! the canonical JSON (RFC 8785) of the act. The portal signs, the consent service checks; both build
//! the bytes here, and docs/consent.md states them for everybody else.
//!
//! The person stands in it as a hash of their number: the signature holds for this person alone, and
//! the act can be kept without the number. The request id stands in it, so that the evidence of one
//! request is not evidence of another.

use crate::KeyError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_contract::{BUS, Contract, IdNumber, KeyUse};
use mz_journal::canonical::{CanonicalError, canonical};
use mz_seal::{KeyStatus, Signer, verify_signature};
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

/// First line of the signed bytes: no other signature of the system starts so.
pub const EVIDENCE_CONTEXT: &[u8] = b"mianzheng/evidence/v1\n";
/// Before the identity number, in the hash that stands for the person.
pub const PERSON_CONTEXT: &[u8] = b"mianzheng/evidence-person/v1\n";

/// A consent that is given.
#[derive(Clone, Copy, Debug)]
pub struct GiveAct<'a> {
    /// `<consumer>/<purpose>`.
    pub agreement: &'a str,
    /// Dataset ids as the request lists them, in any order; empty: all of the agreement.
    pub datasets: &'a [String],
    /// Sensitive fields consented to separately, `<dataset>#<field>`, in any order.
    pub separate: &'a [String],
    pub notice_version: u32,
    /// Last day, `2027-11-25`.
    pub valid_until: &'a str,
    pub by: Act<'a>,
}

/// What is done to a consent that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeAction {
    Resume,
    Extend,
}

/// A consent that is resumed or extended.
#[derive(Clone, Copy, Debug)]
pub struct ChangeAct<'a> {
    pub action: ChangeAction,
    /// 32 hexadecimal digits, lower case.
    pub grant: &'a str,
    /// The new last day of an extension.
    pub valid_until: Option<&'a str>,
    pub by: Act<'a>,
}

/// Who acted, when, in which request: the same for every act.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    pub request_id: &'a str,
    /// RFC 3339, the text of the request.
    pub at: &'a str,
    /// The app's own name for the sign-in session.
    pub session: &'a str,
    pub person: &'a IdNumber,
}

/// The bytes that are signed when consent is given.
pub fn give_act(act: &GiveAct<'_>) -> Result<Vec<u8>, CanonicalError> {
    signed(json!({
        "action": "give",
        "agreement": act.agreement,
        "datasets": sorted(act.datasets),
        "separate": sorted(act.separate),
        "notice_version": act.notice_version,
        "valid_until": act.valid_until,
        "request_id": act.by.request_id,
        "at": act.by.at,
        "session": act.by.session,
        "person": person(act.by.person),
    }))
}

/// The bytes that are signed when a consent is resumed or extended.
pub fn change_act(act: &ChangeAct<'_>) -> Result<Vec<u8>, CanonicalError> {
    let action = match act.action {
        ChangeAction::Resume => "resume",
        ChangeAction::Extend => "extend",
    };
    signed(json!({
        "action": action,
        "grant": act.grant,
        "valid_until": act.valid_until.unwrap_or_default(),
        "request_id": act.by.request_id,
        "at": act.by.at,
        "session": act.by.session,
        "person": person(act.by.person),
    }))
}

/// Signs an act. Answers the key's id and the signature in Base64.
pub fn sign(signer: &dyn Signer, act: &[u8]) -> Result<(String, String), KeyError> {
    let signature = signer.sign(act).map_err(KeyError::Sign)?;
    Ok((signer.key_id().to_owned(), BASE64.encode(signature)))
}

/// Whether the portal signed this act with a key that still counts. A revoked key speaks for no new
/// act: evidence is checked when it arrives, and kept as checked.
pub fn verify(contract: &Contract, key_id: &str, act: &[u8], signature: &str) -> bool {
    let Some(key) = contract.key(BUS, KeyUse::Evidence, key_id) else {
        return false;
    };
    let value = BASE64
        .decode(signature)
        .ok()
        .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    matches!(key.info.status, KeyStatus::Active)
        && value.is_some_and(|value| verify_signature(&key.info.public, act, &value).is_ok())
}

fn signed(act: Value) -> Result<Vec<u8>, CanonicalError> {
    let mut bytes = EVIDENCE_CONTEXT.to_vec();
    bytes.extend(canonical(&act)?);
    Ok(bytes)
}

fn sorted(names: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn person(id: &IdNumber) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(PERSON_CONTEXT);
    hash.update(id.as_str().as_bytes());
    hex::encode(hash.finish())
}
