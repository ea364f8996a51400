//! Why a consumer gets, or doesn't get, each field about a person; what would change it.

use mz_contract::{Agreement, Contract, ScopeKind, Section, Text};
use mz_policy::{Asks, GrantsIndex, Now, Rule, Standing};
use mz_seal::timestamp_text;

use crate::handle::{Caller, Handle, parse_id};
use crate::model::{Because, BecauseField, BecauseSection, Why};
use crate::refusal::Refusal;
use crate::shared::now_ms;

const FLOWS: &str = "WHY_FLOWS";
const NOBODY_ASKED: &str = "WHY_NOBODY_ASKED";
const FIELD_AGREED: &str = "FIELD_AGREED";
const FIELD_NOT_AGREED: &str = "FIELD_NOT_AGREED";

impl Handle {
    /// Explains one consumer and purpose for one person, section by section, field by field. Asks the
    /// same index of grants and the same rules that the slots decide with.
    pub async fn why(&self, caller: &Caller, why: Why) -> Result<Because, Refusal> {
        let id = parse_id(&why.id)?;
        let all = caller.is_auditor() || caller.is_security() || caller.is_portal();
        if !all && !caller.is_window_of(&why.consumer) {
            return Err(Refusal::RoleForbidden);
        }
        let in_force = self.in_force();
        let contract = &*in_force.contract;
        let agreement = contract
            .agreement(&format!("{}/{}", why.consumer, why.purpose))
            .ok_or(Refusal::AgreementUnknown)?;
        let (lane, subject) = self.place(&id);
        self.record_look(
            caller,
            lane,
            subject,
            why.operator.as_deref(),
            &why.reason,
            "WHY_ASKED",
        )
        .await?;
        let now = Now::at_ms(now_ms());
        let rows = self.shared.store.grants_of(subject).await?;
        let mut grants = GrantsIndex::new(rows.len().max(1));
        for row in &rows {
            // As many as there are rows: it is never full.
            let _ = grants.join(&row.grant);
        }
        let asks = Asks::of(contract, &mut grants);
        let held = self
            .shared
            .store
            .holdings_of(lane, subject, &agreement.id)
            .await?;
        let day = now.moment.day();
        let in_term = day.is_some_and(|day| agreement.in_term(day));
        let sections = agreement
            .sections
            .iter()
            .map(|section| {
                let standing = asks.section(section).map_or(Standing::Nothing, |ask| {
                    grants.standing(subject, ask, now.ms)
                });
                let dataset = &contract.datasets[section.dataset_ix].id;
                let held = held.iter().find(|(name, ..)| name == dataset);
                explain(contract, agreement, section, standing, in_term, held)
            })
            .collect();
        Ok(Because {
            agreement: agreement.id.clone(),
            contract: hex::encode(contract.digest),
            contract_version: in_force.version,
            basis: agreement.basis.kind.as_str().to_owned(),
            in_term,
            suspended: agreement.suspended(),
            terminated: agreement.ended(),
            sections,
        })
    }
}

fn explain(
    contract: &Contract,
    agreement: &Agreement,
    section: &Section,
    standing: Standing,
    in_term: bool,
    held: Option<&(String, u64, i64)>,
) -> BecauseSection {
    let dataset = &contract.datasets[section.dataset_ix];
    let whole = if agreement.ended() {
        Some(Rule::AgreementTerminated.code())
    } else if agreement.suspended() {
        Some(Rule::AgreementSuspended.code())
    } else if !in_term {
        Some(Rule::AgreementOutOfTerm.code())
    } else {
        None
    };
    let (rule, grant) = match (section.scope, standing) {
        (ScopeKind::Case, Standing::Nothing) => (NOBODY_ASKED, None),
        (ScopeKind::Case, Standing::Barred(id, bar)) => {
            (whole.unwrap_or(Rule::from(bar).code()), Some(id))
        }
        (ScopeKind::Case, Standing::InForce(id)) => (whole.unwrap_or(FLOWS), Some(id)),
        (ScopeKind::Population | ScopeKind::Matching, _) => (whole.unwrap_or(FLOWS), None),
    };
    let flows = rule == FLOWS;
    let text = |code: &str| {
        contract.reasons.get(code).map_or_else(
            || Text {
                zh: code.to_owned(),
                en: code.to_owned(),
            },
            |reason| reason.text.clone(),
        )
    };
    let fix = contract
        .reasons
        .get(rule)
        .and_then(|reason| reason.fix.clone());
    let fix = fix.unwrap_or_else(|| text("WHY_NOTHING"));
    let said = text(rule);
    let fields = dataset
        .fields
        .iter()
        .zip(0u16..)
        .map(|(field, at)| {
            let agreed = section.fields.contains(&at);
            BecauseField {
                name: field.name.clone(),
                title_zh: field.title.zh.clone(),
                title_en: field.title.en.clone(),
                allowed: agreed && flows,
                rule: match (agreed, flows) {
                    (false, _) => FIELD_NOT_AGREED,
                    (true, true) => FIELD_AGREED,
                    (true, false) => rule,
                }
                .to_owned(),
            }
        })
        .collect();
    BecauseSection {
        dataset: dataset.id.clone(),
        title_zh: dataset.title.zh.clone(),
        title_en: dataset.title.en.clone(),
        scope: section.scope.as_str().to_owned(),
        filter: section
            .filter
            .as_ref()
            .map(|filter| filter.source().to_owned()),
        flows,
        rule: rule.to_owned(),
        rule_zh: said.zh,
        rule_en: said.en,
        grant: grant.map(|id| id.hex()),
        fields,
        change_zh: fix.zh,
        change_en: fix.en,
        held: held.map_or(0, |(_, records, _)| *records),
        held_since: held.map(|(.., newest)| timestamp_text(*newest)),
    }
}
