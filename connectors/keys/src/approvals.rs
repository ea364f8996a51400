//! A provider signs what an agreement opens of its data: one signature per section, over the
//! section's digest, with the department's approval key. Nobody but the provider opens its data.

use crate::layout::{self, KeysDir};
use crate::public::{KeyUse, quoted};
use crate::secret::replace_public;
use crate::{KeyError, department_signer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mz_contract::{Agreement, Contract, Mode, Section, approval_payload};
use std::fmt::Write as _;
use std::path::Path;

/// Signs every section over `department`'s datasets and writes
/// `agreements/<consumer>/<purpose>.approvals/<department>.yaml` below `contract_root`. Answers
/// what was signed, as `<agreement> <dataset>`. The same contract and key give the same bytes, so
/// signing twice changes nothing.
///
/// Whoever runs this has the approval key: it belongs to the provider, not to the bureau.
pub fn sign_approvals(
    contract_root: &Path,
    department: &str,
    keys: &KeysDir,
) -> Result<Vec<String>, KeyError> {
    layout::check_name(department)?;
    let contract = Contract::load(contract_root, Mode::Draft)
        .map_err(|faults| KeyError::Contract { faults })?;
    let signer = department_signer(keys, contract_root, department, KeyUse::Approval)?;
    let mut signed = Vec::new();
    for agreement in &contract.agreements {
        let sections: Vec<&Section> = agreement
            .sections
            .iter()
            .filter(|section| contract.datasets[section.dataset_ix].department == department)
            .collect();
        if sections.is_empty() {
            continue;
        }
        let mut text = format!(
            "# What {department} approves of {}: written by `mianzheng contract sign`. A change of\n\
             # the agreement, of a schema or of the approval makes a signature stale.\napprovals:\n",
            agreement.id
        );
        for section in sections {
            let dataset = &contract.datasets[section.dataset_ix].id;
            let payload = approval_payload(
                &contract.bus_id,
                &agreement.id,
                department,
                dataset,
                signer.key_id(),
                &section.approval.digest,
            );
            let signature = signer.sign(&payload).map_err(KeyError::Sign)?;
            // Writing into a String can't fail.
            let _ = write!(
                text,
                "  - dataset: {}\n    key: {}\n    digest: {}\n    signature: {}\n",
                quoted(dataset),
                quoted(signer.key_id()),
                quoted(&hex::encode(section.approval.digest)),
                quoted(&BASE64.encode(signature))
            );
            signed.push(format!("{} {dataset}", agreement.id));
        }
        write_approvals(contract_root, agreement, department, &text)?;
    }
    Ok(signed)
}

fn write_approvals(
    contract_root: &Path,
    agreement: &Agreement,
    department: &str,
    text: &str,
) -> Result<(), KeyError> {
    // The id is `<consumer>/<purpose>`, checked by the contract's lint.
    let folder = contract_root
        .join("agreements")
        .join(format!("{}.approvals", agreement.id));
    std::fs::create_dir_all(&folder).map_err(KeyError::io("cannot create directory", &folder))?;
    replace_public(&folder.join(format!("{department}.yaml")), text.as_bytes())
}
