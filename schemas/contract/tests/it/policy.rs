//! The committed `schemas/POLICY.md` is what the contract says. `MIANZHENG_BLESS=1` writes it anew.

use std::path::PathBuf;

use mz_contract::{Contract, Mode, matrix::policy_matrix};

#[test]
fn the_committed_matrix_is_what_the_contract_says() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = policy_matrix(&Contract::load(&root, Mode::Draft).unwrap());
    let path = root.join("POLICY.md");
    if std::env::var_os("MIANZHENG_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "POLICY.md is out of date: run the test with MIANZHENG_BLESS=1 and review the diff"
    );
}

/// What design and law ask for, stated once more by hand, so that a change of the data that opens
/// more than this is seen by a test and not only in a diff.
#[test]
fn nobody_sees_more_than_was_agreed() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let contract = Contract::load(&root, Mode::Draft).unwrap();
    let mut seen: Vec<(String, String, Vec<String>)> = contract
        .sections()
        .map(|section| {
            let dataset = &contract.datasets[section.dataset_ix];
            let fields = section
                .fields
                .iter()
                .map(|&i| dataset.fields[usize::from(i)].name.clone())
                .collect();
            (
                contract.agreements[section.agreement_ix].id.clone(),
                dataset.id.clone(),
                fields,
            )
        })
        .collect();
    seen.sort();
    let row = |agreement: &str, dataset: &str, fields: &str| {
        (
            agreement.to_owned(),
            dataset.to_owned(),
            fields.split(' ').map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        seen,
        vec![
            // Never cause, members, income, or what aid is for.
            row(
                "civil/hardship-check",
                "union.hardship.v1",
                "idNo tier livingAidUntil"
            ),
            row(
                "hrss/talent-status",
                "police.household.v1",
                "change movedOn approvalId"
            ),
            row(
                "police/talent-settlement",
                "hrss.insurance.status.v1",
                "idNo type status monthsTotal asOf"
            ),
            row(
                "police/talent-settlement",
                "hrss.talent.approval.v1",
                "idNo name approvalId category dependents validUntil status"
            ),
            row(
                "police/talent-settlement",
                "police.household.v1",
                "idNo region change movedOn"
            ),
            row(
                "police/talent-settlement",
                "realestate.right.v1",
                "idNo certificateNo share location plannedUse seized status"
            ),
            row(
                "union/hardship-aid",
                "civil.minliving.v1",
                "idNo status asOf"
            ),
            row(
                "union/hardship-aid",
                "hrss.insurance.status.v1",
                "status asOf"
            ),
            // Dwellings are counted: not where they are.
            row("union/hardship-aid", "realestate.right.v1", "plannedUse"),
            row(
                "union/hardship-aid",
                "union.hardship.v1",
                "idNo fileNo tier livingAidUntil status"
            ),
            // Arrears only: never the wage base, never a diagnosis.
            row(
                "union/retirement-help",
                "hrss.insurance.status.v1",
                "idNo type status employerName arrearsMonths"
            ),
        ]
    );
}
