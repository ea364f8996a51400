//! Every code of this crate has a text in both languages.

use mz_contract::{Lang, Reasons};
use mz_policy::Rule;
use mz_seal::SealFault;

use crate::error::Error;
use crate::wire::Refusal;

#[test]
fn every_code_has_its_texts() {
    let reasons = Reasons::built_in();
    let own = [
        crate::WITHDRAWN_BY_SOURCE,
        crate::cases::OPENED,
        crate::cases::CLOSED,
        crate::orders::STILL_IN_FORCE,
        crate::orders::NEWER_DELIVERED,
        crate::orders::AGREEMENT_UNKNOWN,
        crate::orders::ORDER_MALFORMED,
        "CASE_SUBJECT_INVALID",
        "CASE_SUBJECTS_TOO_MANY",
        "FACT_FOREIGN",
        "ANSWER_UNWRITABLE",
        "TRANSACTION_ABORTED",
        "RULE_NULL",
        "RULE_ARITHMETIC",
        "RULE_SHAPE",
    ];
    let all = Refusal::CODES
        .into_iter()
        .chain(Error::CODES)
        .chain(Rule::CODES)
        .chain(SealFault::CODES)
        .chain(crate::replay::ReplayError::CODES)
        .chain(crate::replay::Note::CODES)
        .chain(own);
    for code in all {
        let reason = reasons
            .get(code)
            .unwrap_or_else(|| panic!("{code} is not in schemas/reasons.yaml"));
        for lang in [Lang::Zh, Lang::En] {
            assert!(!reason.text.get(lang).is_empty(), "{code}");
        }
    }
}
