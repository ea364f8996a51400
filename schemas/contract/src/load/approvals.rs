//! `agreements/<consumer>/<purpose>.approvals/<provider>.yaml`: the providers' signatures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mz_seal::{KeyStatus, verify_signature};
use serde_saphyr::Location;

use super::agreements::Written;
use super::departments::has_seal_key;
use crate::approval::{approval_payload, section_digest};
use crate::contract::Mode;
use crate::dataset::Dataset;
use crate::department::Department;
use crate::fault::Faults;
use crate::keys::KeyUse;
use crate::raw::{RawApprovals, RawSignature};
use crate::schema_ids::hex_digest;
use crate::tree::Tree;
use crate::yaml::{self, Located};

pub(super) struct World<'a> {
    pub(super) tree: &'a Tree,
    pub(super) bus_id: &'a str,
    pub(super) departments: &'a [Department],
    pub(super) datasets: &'a [Dataset],
    pub(super) mode: Mode,
}

/// Computes what each section's approval is about, then looks for the signatures. In a draft, what is
/// unsigned or signed over an older text is no fault; a malformed file always is.
pub(super) fn load(world: &World<'_>, agreements: &mut [Written], faults: &mut Faults) {
    for written in agreements.iter_mut() {
        let digests: Vec<_> = written
            .agreement
            .sections
            .iter()
            .map(|section| {
                section_digest(world.bus_id, &written.agreement, section, world.datasets)
            })
            .collect();
        for (section, digest) in written.agreement.sections.iter_mut().zip(digests) {
            section.approval.digest = digest;
        }
    }
    for (file, source) in world.tree.below("agreements") {
        let Some((agreement_id, provider)) = parse_path(file) else {
            continue;
        };
        let Some(written) = agreements
            .iter_mut()
            .find(|written| written.agreement.id == agreement_id)
        else {
            // The agreement's own file may be there and faulty: that has been said.
            if world
                .tree
                .get(&format!("agreements/{agreement_id}.yaml"))
                .is_none()
            {
                faults.push(
                    "APPROVAL_ORPHAN",
                    file,
                    &Location::UNKNOWN,
                    agreement_id,
                    "",
                );
            }
            continue;
        };
        let Some(raw) = yaml::parse::<RawApprovals>(file, source, faults) else {
            continue;
        };
        for signature in raw.approvals {
            check(
                world,
                &Given {
                    file,
                    provider,
                    signature: &signature,
                },
                written,
                faults,
            );
        }
    }
    if world.mode == Mode::Signed {
        for written in agreements.iter() {
            for (section, at) in written
                .agreement
                .sections
                .iter()
                .zip(&written.section_places)
            {
                if section.approval.signed_by.is_none() {
                    let dataset = &world.datasets[section.dataset_ix];
                    faults.push(
                        "APPROVAL_MISSING",
                        &written.file,
                        at,
                        &dataset.id,
                        &dataset.department,
                    );
                }
            }
        }
        for department in world.departments {
            let publishes = world
                .datasets
                .iter()
                .any(|dataset| dataset.department == department.id);
            if publishes && !has_seal_key(department) {
                let file = format!("departments/{}.keys.yaml", department.id);
                faults.push(
                    "KEYS_MISSING",
                    &file,
                    &Location::UNKNOWN,
                    &department.id,
                    "",
                );
            }
        }
    }
}

/// `agreements/police/talent-settlement.approvals/hrss.yaml` → agreement id, provider.
fn parse_path(file: &str) -> Option<(&str, &str)> {
    let (agreement, provider) = file.strip_prefix("agreements/")?.rsplit_once('/')?;
    Some((
        agreement.strip_suffix(".approvals")?,
        provider.strip_suffix(".yaml")?,
    ))
}

struct Given<'a> {
    file: &'a str,
    provider: &'a str,
    signature: &'a Located<RawSignature>,
}

fn check(world: &World<'_>, given: &Given<'_>, written: &mut Written, faults: &mut Faults) {
    let raw = &given.signature.value;
    let name = &raw.dataset;
    let section = written.agreement.sections.iter_mut().find(|section| {
        let dataset = &world.datasets[section.dataset_ix];
        dataset.id == name.value && dataset.department == given.provider
    });
    let Some(section) = section else {
        faults.push(
            "APPROVAL_ORPHAN",
            given.file,
            &name.referenced,
            &name.value,
            "",
        );
        return;
    };
    let signature: Option<[u8; 64]> = STANDARD
        .decode(raw.signature.value.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    let Some(signature) = signature else {
        faults.push(
            "SIGNATURE_MALFORMED",
            given.file,
            &raw.signature.referenced,
            &name.value,
            "",
        );
        return;
    };
    let Some(digest) = hex_digest(&raw.digest.value) else {
        faults.push(
            "DIGEST_MALFORMED",
            given.file,
            &raw.digest.referenced,
            &name.value,
            "",
        );
        return;
    };
    let mut fault = |code, at: &Location, detail: &str| {
        if world.mode == Mode::Signed {
            faults.push(code, given.file, at, &name.value, detail);
        }
    };
    if digest != section.approval.digest {
        fault(
            "APPROVAL_STALE",
            &raw.digest.referenced,
            &hex::encode(section.approval.digest),
        );
        return;
    }
    let key = world
        .departments
        .iter()
        .filter(|department| department.id == given.provider)
        .flat_map(|department| &department.keys)
        .find(|key| key.usage == KeyUse::Approval && key.id == raw.key.value);
    let Some(key) = key else {
        fault("APPROVAL_KEY_UNKNOWN", &raw.key.referenced, &raw.key.value);
        return;
    };
    if key.info.status != KeyStatus::Active {
        fault("APPROVAL_KEY_REVOKED", &raw.key.referenced, &raw.key.value);
        return;
    }
    let payload = approval_payload(
        world.bus_id,
        &written.agreement.id,
        given.provider,
        &name.value,
        &key.id,
        &digest,
    );
    if verify_signature(&key.info.public, &payload, &signature).is_err() {
        fault(
            "APPROVAL_SIGNATURE",
            &raw.signature.referenced,
            &raw.key.value,
        );
        return;
    }
    section.approval.signed_by = Some(key.id.clone());
}
