//! Checks a consent receipt offline: with the contract's public keys, and nothing else. Every check
//! runs, also after one has failed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_consent::record::{RECEIPT_FORMAT, Receipt, person_digest, signed_bytes};
use mz_contract::{BUS, Contract, IdNumber, KeyUse, Lang, Reasons};
use mz_journal::canonical::parse_strict;
use mz_seal::{KeyStatus, verify_signature};
use serde_json::Value;

use crate::limits::MAX_RECEIPT_BYTES;

const SIGNATURE_VALID: &str = "VERIFY_SIGNATURE_VALID";

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptReport {
    /// What does not hold: the place in the receipt, and a code of `schemas/reasons.yaml`.
    pub failed: Vec<(&'static str, &'static str)>,
    /// What holds.
    pub held: Vec<(&'static str, &'static str)>,
    /// True, and worth knowing.
    pub notes: Vec<(&'static str, &'static str)>,
    /// The receipt as far as it could be read.
    pub receipt: Option<Receipt>,
}

impl ReceiptReport {
    /// Nothing failed, and the bus's signature is among what held.
    pub fn is_valid(&self) -> bool {
        self.failed.is_empty() && self.held.contains(&("signature", SIGNATURE_VALID))
    }

    /// The verdict for people, a line a check.
    pub fn render(&self, reasons: &Reasons, lang: Lang) -> String {
        let verdict = if self.is_valid() {
            "RECEIPT_VALID"
        } else {
            "RECEIPT_INVALID"
        };
        let mut text = format!("{}\n", reasons.text(verdict, lang));
        let parts = [("✗", &self.failed), ("✓", &self.held), ("·", &self.notes)];
        for (mark, lines) in parts {
            for (place, code) in lines {
                let says = reasons.text(code, lang);
                text.push_str(&format!("  {mark} {place}: {says} ({code})\n"));
            }
        }
        text
    }

    fn must(&mut self, holds: bool, place: &'static str, code: &'static str) {
        if !holds {
            self.failed.push((place, code));
        }
    }
}

/// Checks a receipt as the person keeps it. `person`: whether it is this person's, too.
pub fn verify(bytes: &[u8], contract: &Contract, person: Option<&IdNumber>) -> ReceiptReport {
    let mut report = ReceiptReport::default();
    if bytes.len() > MAX_RECEIPT_BYTES {
        report.failed.push(("receipt", "RECEIPT_SHAPE"));
        return report;
    }
    // Names that stand twice: one reader could show one and verify the other.
    let Ok(json) = parse_strict(bytes) else {
        report.failed.push(("receipt", "VERIFY_NOT_JSON"));
        return report;
    };
    let Ok(receipt) = serde_json::from_value::<Receipt>(json.clone()) else {
        report.failed.push(("receipt", "RECEIPT_SHAPE"));
        return report;
    };
    report.must(receipt.format == RECEIPT_FORMAT, "format", "RECEIPT_SHAPE");
    report.must(receipt.bus == contract.bus_id, "bus", "VERIFY_BUS_FOREIGN");
    signature(&receipt, json, contract, &mut report);
    if let Some(person) = person {
        if is_of(&receipt, person) {
            report.held.push(("person", "RECEIPT_PERSON_HOLDS"));
        } else {
            report.failed.push(("person", "RECEIPT_PERSON_DIFFERS"));
        }
    } else {
        report.notes.push(("person", "RECEIPT_PERSON_UNCHECKED"));
    }
    report.notes.push(("consent", "RECEIPT_STATE_UNKNOWN"));
    report.notes.push(("keys", "VERIFY_KEY_STATUS_UNKNOWN"));
    report.receipt = Some(receipt);
    report
}

fn signature(receipt: &Receipt, json: Value, contract: &Contract, report: &mut ReceiptReport) {
    let Some(entry) = &receipt.signature else {
        report
            .failed
            .push(("signature", "VERIFY_SIGNATURE_MISSING"));
        return;
    };
    let Ok(signed) = signed_bytes(json) else {
        report.failed.push(("receipt", "VERIFY_NOT_JSON"));
        return;
    };
    let key = contract.key(BUS, KeyUse::Consent, &entry.key_id);
    let Some(key) = key.filter(|key| key.info.suite.name() == entry.suite) else {
        report.failed.push(("signature.key_id", "KEY_UNKNOWN"));
        return;
    };
    let value = BASE64
        .decode(&entry.value)
        .ok()
        .and_then(|value| <[u8; 64]>::try_from(value).ok());
    if value.is_some_and(|v| verify_signature(&key.info.public, &signed, &v).is_ok()) {
        report.held.push(("signature", SIGNATURE_VALID));
    } else {
        report
            .failed
            .push(("signature", "VERIFY_SIGNATURE_INVALID"));
    }
    // It states no batch and no log position, so nothing shows that it came before the theft.
    let active = matches!(key.info.status, KeyStatus::Active);
    report.must(active, "signature.key_id", "KEY_REVOKED");
}

fn is_of(receipt: &Receipt, person: &IdNumber) -> bool {
    let salt = hex(&receipt.salt);
    salt.is_some_and(|salt| person_digest(&salt, person.as_str()) == receipt.person)
}

fn hex(text: &str) -> Option<[u8; 16]> {
    let mut salt = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in salt.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_is_sixteen_bytes_in_hexadecimal() {
        assert_eq!(hex(&"0f".repeat(16)), Some([15; 16]));
        for bad in [
            "",
            "0f",
            &"0g".repeat(16),
            &"é".repeat(16),
            &"0f".repeat(17),
        ] {
            assert_eq!(hex(bad), None, "{bad}");
        }
    }
}
