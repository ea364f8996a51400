//! Consent terms, the status file, and what one version changes against another.

use std::collections::BTreeMap;

use crate::tree::{self, Tree};
use mz_contract::{
    AgreementState, Contract, ContractDiff, Lang, Mode, Reading, Refusal, Representation,
    STATUS_FILE, SectionChange, StatusEntry, Text, allocate_schema_ids, diff, parse_date,
    status_file,
};
use proptest::prelude::*;

const SETTLEMENT: &str = "police/talent-settlement";
const SETTLEMENT_FILE: &str = "agreements/police/talent-settlement.yaml";
const HELP: &str = "union/retirement-help";
const HELP_FILE: &str = "agreements/union/retirement-help.yaml";

fn load(tree: &Tree) -> Contract {
    Contract::load(tree.root(), Mode::Draft).unwrap()
}

fn entry(state: AgreementState) -> StatusEntry {
    StatusEntry {
        state,
        since: parse_date("2026-11-26").unwrap(),
        reason: Text {
            zh: "超范围使用".to_owned(),
            en: "Use out of scope".to_owned(),
        },
        by: "A0001".to_owned(),
    }
}

fn mark(tree: &Tree, agreement: &str, state: AgreementState) {
    let mut entries = load(tree).status;
    entries.insert(agreement.to_owned(), entry(state));
    tree.write(STATUS_FILE, &status_file(&entries));
}

fn change(what: impl FnOnce(&Tree)) -> ContractDiff {
    let old = Contract::load(&tree::repository(), Mode::Draft).unwrap();
    let tree = Tree::copy();
    what(&tree);
    let _ = allocate_schema_ids(tree.root(), Lang::En);
    diff(&old, &load(&tree))
}

fn pairs<'a>(readings: impl Iterator<Item = &'a Reading>) -> Vec<(&'a str, &'a str)> {
    readings
        .map(|reading| (reading.agreement.as_str(), reading.dataset.as_str()))
        .collect()
}

#[test]
fn terms_of_consent_stand_where_consent_is_the_basis() {
    let contract = Contract::load(&tree::repository(), Mode::Draft).unwrap();
    for agreement in &contract.agreements {
        assert_eq!(
            agreement.consent.is_some(),
            agreement.basis.kind.as_str() == "consent"
        );
    }
    let terms = contract.agreement(HELP).unwrap().consent.as_ref().unwrap();
    assert_eq!(
        (terms.notice_version, terms.max_days, terms.minor_age),
        (1, 365, 14)
    );
    assert!(terms.accepts(Representation::Guardian) && !terms.accepts(Representation::Heir));
    let sensitive = |agreement: &str| -> Vec<String> {
        let agreement = contract.agreement(agreement).unwrap();
        let names = |section: &mz_contract::Section| {
            let dataset = &contract.datasets[section.dataset_ix];
            let field = |&index: &u16| {
                format!("{}.{}", dataset.id, dataset.fields[usize::from(index)].name)
            };
            section.sensitive.iter().map(field).collect::<Vec<_>>()
        };
        agreement.sections.iter().flat_map(names).collect()
    };
    assert_eq!(sensitive(HELP), ["hrss.insurance.status.v1.arrearsMonths"]);
    assert_eq!(
        sensitive("civil/hardship-check"),
        ["union.hardship.v1.tier", "union.hardship.v1.livingAidUntil"]
    );
}

#[test]
fn what_a_filter_or_an_answer_tells_is_sensitive_too() {
    let tree = Tree::copy();
    tree.replace(
        "agreements/union/hardship-aid.yaml",
        "filter: status == \"CURRENT\"",
        "filter: \"!seized && status == \\\"CURRENT\\\"\"",
    );
    tree.replace(
        "agreements/union/hardship-aid.yaml",
        " && plannedUse in [\"DWELLING_UNIT\", \"DWELLING_OTHER\"]\n",
        "\n    answers: [{name: burdened, version: 1, title: {zh: 甲, en: A}, expr: mortgaged}]\n",
    );
    allocate_schema_ids(tree.root(), Lang::En).unwrap();
    let contract = load(&tree);
    let dataset = contract.dataset("realestate.right.v1").unwrap();
    let section = contract
        .sections()
        .find(|s| s.out_topic == "to.union.hardship-aid.realestate.right.v1")
        .unwrap();
    let index = |name| u16::try_from(dataset.field_index(name).unwrap()).unwrap();
    assert_eq!(section.sensitive, [index("mortgaged"), index("seized")]);
}

/// The provider approves how long and from whom; notice and way to withdraw are the consumer's.
#[test]
fn an_approval_covers_the_terms_that_widen() {
    let digest = |tree: &Tree| {
        load(tree).agreement(HELP).unwrap().sections[0]
            .approval
            .digest
    };
    let tree = Tree::copy();
    let signed = digest(&tree);
    for (from, to, stale) in [
        ("notice_version: 1", "notice_version: 2", false),
        ("zh: 在粤省事", "zh: 在莞家政务", false),
        ("max: 365d ", "max: 366d ", true),
        ("[guardian, agent]", "[guardian, heir, agent]", true),
        ("minor_age: 14", "minor_age: 16", true),
        ("per_day: 2000", "per_day: 2001", true),
        ("    frequency: {per_day: 2000}\n", "", true),
    ] {
        let tree = Tree::copy();
        tree.replace(HELP_FILE, from, to);
        assert_eq!(digest(&tree) != signed, stale, "{to}");
    }
    // The order in which representatives are listed says nothing.
    tree.replace(HELP_FILE, "[guardian, agent]", "[agent, guardian]");
    assert_eq!(digest(&tree), signed);
}

#[test]
fn a_status_stops_an_agreement_without_anybodys_approval() {
    let tree = Tree::copy();
    tree.sign();
    let before = Contract::load(tree.root(), Mode::Signed).unwrap();
    mark(&tree, SETTLEMENT, AgreementState::Suspended);
    mark(&tree, HELP, AgreementState::Terminated);
    let contract = Contract::load(tree.root(), Mode::Signed).unwrap();
    assert_ne!(contract.digest, before.digest);
    let suspended = contract.agreement(SETTLEMENT).unwrap();
    assert!(suspended.suspended() && !suspended.ended());
    let since = suspended.suspension.as_ref().map(|s| s.since);
    assert_eq!(since, parse_date("2026-11-26"));
    let ended = contract.agreement(HELP).unwrap();
    // Who only asks whether it is suspended must not let it through.
    assert!(ended.suspended() && ended.ended() && ended.suspension.is_none());
    assert_eq!(ended.ended.as_ref().map(|e| e.by.as_str()), Some("A0001"));
    assert_eq!(contract.status.len(), 2);
    // From the files of a version come the files of the next.
    let mut files = Contract::files(tree.root()).unwrap();
    files.insert(STATUS_FILE.to_owned(), status_file(&BTreeMap::new()));
    let resumed = Contract::from_files(files, Mode::Signed).unwrap();
    assert!(resumed.status.is_empty() && !resumed.agreement(SETTLEMENT).unwrap().suspended());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever an operator types as a reason comes back, and the same entries are the same bytes.
    #[test]
    fn a_status_file_gives_its_entries_back(
        zh in "\\PC{0,20}",
        en in any::<String>(),
        by in "[a-z:#{}\"'\\\\\n\t&*!|>%@`-]{0,12}",
        terminated in any::<bool>(),
    ) {
        let mut entry = entry(if terminated { AgreementState::Terminated } else { AgreementState::Suspended });
        entry.reason = Text { zh: format!("因{zh}"), en: format!("For {en}") };
        entry.by = format!("x{by}");
        let entries = BTreeMap::from([(SETTLEMENT.to_owned(), entry)]);
        let text = status_file(&entries);
        prop_assert_eq!(&text, &status_file(&entries));
        prop_assert_eq!(text.lines().count(), 3);
        let mut files = Contract::files(&tree::repository()).unwrap();
        files.insert(STATUS_FILE.to_owned(), text);
        let contract = Contract::from_files(files, Mode::Draft);
        prop_assert!(contract.is_ok(), "{:?}", contract.err());
        prop_assert_eq!(contract.unwrap().status, entries);
    }
}

#[test]
fn the_same_contract_changes_nothing() {
    let changed = change(|_| ());
    assert!(changed.is_empty());
    let reasons = mz_contract::Reasons::built_in();
    assert_eq!(changed.lines(&reasons, Lang::En), ["Nothing changes."]);
    assert_eq!(changed.lines(&reasons, Lang::Zh), ["没有变化"]);
}

#[test]
fn fields_that_come_are_fetched_and_fields_that_go_are_withdrawn() {
    let right = [(SETTLEMENT, "realestate.right.v1")];
    let grew = change(|t| {
        t.replace(
            SETTLEMENT_FILE,
            "certificateNo, share,",
            "certificateNo, area, share,",
        )
    });
    assert_eq!(pairs(grew.refetch()), right);
    assert_eq!(grew.withdraw().count(), 0);
    let [section] = grew.sections.as_slice() else {
        panic!("{grew:?}");
    };
    assert!(section.case);
    assert!(
        matches!(&section.change, SectionChange::Changed { gained, lost, .. } if gained == &["area"] && lost.is_empty())
    );

    let shrank = change(|t| t.replace(SETTLEMENT_FILE, "certificateNo, share,", "certificateNo,"));
    assert_eq!(pairs(shrank.withdraw()), right);
    assert_eq!(pairs(shrank.refetch()), right, "comes again as it may be");

    // A list that everybody is in can't be fetched for one person.
    let shrank = change(|t| t.replace(SETTLEMENT_FILE, "approvalId, category,", "approvalId,"));
    assert_eq!(
        pairs(shrank.withdraw()),
        [(SETTLEMENT, "hrss.talent.approval.v1")]
    );
    assert_eq!(shrank.refetch().count(), 0);

    let answer = change(|t| t.replace(SETTLEMENT_FILE, "monthsLast12 >= 6", "monthsLast12 >= 9"));
    let insurance = [(SETTLEMENT, "hrss.insurance.status.v1")];
    assert_eq!(
        (pairs(answer.refetch()), pairs(answer.withdraw())),
        (insurance.to_vec(), insurance.to_vec())
    );
    let lines = answer.lines(&mz_contract::Reasons::built_in(), Lang::En);
    assert_eq!(
        lines,
        [
            "police/talent-settlement · hrss.insurance.status.v1: also answer.insured6of12.v1.",
            "police/talent-settlement · hrss.insurance.status.v1: no longer answer.insured6of12.v1.",
        ]
    );

    let filter = change(|t| t.replace(HELP_FILE, "arrearsMonths > 0", "arrearsMonths > 1"));
    assert_eq!(pairs(filter.refetch()), pairs(filter.withdraw()));
    let narrowed = change(|t| {
        t.replace(
            SETTLEMENT_FILE,
            "scope: matching\n    filter: status == \"APPROVED\"",
            "scope: case\n    filter: status == \"APPROVED\"",
        );
    });
    assert_eq!(
        pairs(narrowed.withdraw()),
        [(SETTLEMENT, "hrss.talent.approval.v1")]
    );
}

#[test]
fn agreements_and_datasets_come_and_go() {
    let gone = change(|t| {
        t.remove(HELP_FILE);
        t.remove("items/retirement-help.yaml");
        t.replace("installation.yaml", "zh: 东莞市,", "zh: 东莞,");
    });
    assert_eq!(gone.agreements_removed, [HELP]);
    assert_eq!(pairs(gone.withdraw()), [(HELP, "hrss.insurance.status.v1")]);
    assert!(gone.refused.is_empty());

    let added = change(|t| {
        t.write("agreements/union/early-help.yaml", &t.read(HELP_FILE));
        t.write(
            "catalogue/realestate/home.v1.yaml",
            &t.read("catalogue/realestate/right.v1.yaml"),
        );
        t.write(
            "catalogue/realestate/home.v1.avsc",
            &t.read("catalogue/realestate/right.v1.avsc"),
        );
    });
    assert_eq!(added.agreements_added, ["union/early-help"]);
    assert_eq!(added.datasets_added, ["realestate.home.v1"]);
    assert_eq!(
        pairs(added.refetch()),
        [("union/early-help", "hrss.insurance.status.v1")]
    );

    let terms = change(|t| t.replace(HELP_FILE, "max: 365d ", "max: 300d "));
    assert_eq!(terms.terms_changed, [HELP]);
    let often = change(|tree| tree.replace(HELP_FILE, "per_day: 2000", "per_day: 3000"));
    assert_eq!(often.terms_changed, [HELP]);
    let terms = change(|t| t.replace(SETTLEMENT_FILE, "days: 180\n", "days: 90\n"));
    assert_eq!(terms.terms_changed, [SETTLEMENT]);
    assert_eq!(terms.refetch().count(), 0);
}

#[test]
fn suspended_resumed_and_terminated() {
    let tree = Tree::copy();
    let running = load(&tree);
    mark(&tree, SETTLEMENT, AgreementState::Suspended);
    let suspended = load(&tree);
    mark(&tree, SETTLEMENT, AgreementState::Terminated);
    let ended = load(&tree);

    let stops = diff(&running, &suspended);
    assert_eq!(stops.suspended, [SETTLEMENT]);
    // Suspended: nothing is delivered, nothing is taken back.
    assert_eq!((stops.refetch().count(), stops.withdraw().count()), (0, 0));

    let resumes = diff(&suspended, &running);
    assert_eq!(resumes.resumed, [SETTLEMENT]);
    assert_eq!(
        pairs(resumes.refetch()),
        [
            (SETTLEMENT, "hrss.insurance.status.v1"),
            (SETTLEMENT, "police.household.v1"),
            (SETTLEMENT, "realestate.right.v1"),
        ]
    );

    for before in [&running, &suspended] {
        let ends = diff(before, &ended);
        assert_eq!(ends.terminated, [SETTLEMENT]);
        assert!(ends.suspended.is_empty() && ends.refused.is_empty());
        assert_eq!((ends.refetch().count(), ends.withdraw().count()), (0, 4));
    }
    // Ended is ended, until somebody applies anew.
    for after in [&running, &suspended] {
        assert_eq!(
            diff(&ended, after).refused,
            [Refusal::Revived(SETTLEMENT.to_owned())]
        );
    }
    tree.remove(STATUS_FILE);
    tree.replace(
        SETTLEMENT_FILE,
        "公安共享申〔2026〕1号",
        "公安共享申〔2026〕7号",
    );
    let anew = diff(&ended, &load(&tree));
    assert!(anew.refused.is_empty());
    assert_eq!(anew.resumed, [SETTLEMENT]);
}

#[test]
fn what_can_not_take_the_place_of_another_is_refused() {
    let refused = change(|t| {
        t.replace("installation.yaml", "lanes: 8", "lanes: 16");
        t.replace("installation.yaml", "id: dg-bus", "id: sz-bus");
        let ids = t.read("schema-ids.yaml");
        let last = ids.rfind("  - id: 2010").unwrap();
        t.write("schema-ids.yaml", &ids[..last]);
        t.replace(HELP_FILE, "arrearsMonths, employerName]", "arrearsMonths]");
        t.replace(
            "catalogue/realestate/right.v1.yaml",
            "record: [certificateNo, ownerNo]",
            "record: [unitNo, ownerNo]",
        );
    });
    assert_eq!(
        refused.refused,
        [
            Refusal::Bus {
                old: "dg-bus".to_owned(),
                new: "sz-bus".to_owned()
            },
            Refusal::Lanes { old: 8, new: 16 },
            Refusal::SchemaId(2010),
            Refusal::Record("realestate.right.v1".to_owned()),
        ]
    );
    // Every line has its texts, in both languages.
    for lang in [Lang::Zh, Lang::En] {
        for line in refused.lines(&mz_contract::Reasons::built_in(), lang) {
            assert!(!line.contains('{') && !line.contains("DIFF_"), "{line}");
        }
    }
}
