//! `items/<item>.yaml`.

use serde_saphyr::Location;

use super::{is_identifier, is_name, text};
use crate::agreement::Agreement;
use crate::calendar::MAX_WORKING_DAYS;
use crate::dataset::Dataset;
use crate::expr::{Names, Rule, Ty};
use crate::fault::Faults;
use crate::item::{
    Column, FactNames, FactNeed, NoteRule, OutcomeRule, RowNames, ServiceItem, slots_of,
};
use crate::raw::{RawFact, RawItem};
use crate::reasons::Reasons;
use crate::tree::Tree;
use crate::yaml::{self, Located};

pub(super) fn load(
    tree: &Tree,
    agreements: &[Agreement],
    datasets: &[Dataset],
    reasons: &Reasons,
    faults: &mut Faults,
) -> Vec<ServiceItem> {
    let mut items = Vec::new();
    for (file, source) in tree.below("items") {
        let id = file.trim_start_matches("items/").trim_end_matches(".yaml");
        if !is_name(id) {
            faults.push("NAME_INVALID", file, &Location::UNKNOWN, id, "");
            continue;
        }
        let Some(raw) = yaml::parse::<RawItem>(file, source, faults) else {
            continue;
        };
        let wanted = format!("{}/{}", raw.consumer.value, raw.purpose.value);
        let Some(agreement) = agreements.iter().find(|agreement| agreement.id == wanted) else {
            if tree.get(&format!("agreements/{wanted}.yaml")).is_none() {
                faults.push(
                    "AGREEMENT_UNKNOWN",
                    file,
                    &raw.purpose.referenced,
                    &wanted,
                    "",
                );
            }
            continue;
        };
        let mut reader = ItemReader {
            file,
            tree,
            agreement,
            datasets,
            reasons,
            faults,
        };
        items.extend(reader.item(id, raw));
    }
    items
}

struct ItemReader<'a> {
    file: &'a str,
    tree: &'a Tree,
    agreement: &'a Agreement,
    datasets: &'a [Dataset],
    reasons: &'a Reasons,
    faults: &'a mut Faults,
}

impl ItemReader<'_> {
    fn fault(&mut self, code: &'static str, at: &Location, field: &str, detail: &str) {
        self.faults.push(code, self.file, at, field, detail);
    }

    fn item(&mut self, id: &str, raw: RawItem) -> Option<ServiceItem> {
        let mut facts: Vec<FactNeed> = Vec::new();
        let mut complete = true;
        for fact in raw.facts.value {
            let name = fact.value.name.clone();
            if !is_identifier(&name.value) {
                self.fault("NAME_INVALID", &name.referenced, &name.value, "");
            } else if facts.iter().any(|other| other.name == name.value) {
                self.fault("FACT_DUPLICATE", &name.referenced, &name.value, "");
                continue;
            }
            match self.fact(fact.value) {
                Some(fact) => facts.push(fact),
                None => complete = false,
            }
        }
        if !complete {
            // Rules about a fact that could not be read would be faults of their own making.
            return None;
        }
        let slots = slots_of(&facts);
        let names = FactNames {
            facts: &facts,
            slots: &slots,
        };
        let mut outcomes = Vec::new();
        let count = raw.outcomes.value.len();
        for (index, outcome) in raw.outcomes.value.into_iter().enumerate() {
            let at = outcome.referenced;
            let outcome = outcome.value;
            let kind = &outcome.kind;
            if !kind
                .value
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_')
                || kind.value.is_empty()
            {
                self.fault("NAME_INVALID", &kind.referenced, &kind.value, "");
            }
            let term = &outcome.working_days;
            if term.value > MAX_WORKING_DAYS {
                let limit = MAX_WORKING_DAYS.to_string();
                self.fault(
                    "WORKING_DAYS",
                    &term.referenced,
                    &term.value.to_string(),
                    &limit,
                );
            }
            if index + 1 == count && outcome.when.value.trim() != "true" {
                self.fault("OUTCOME_NO_DEFAULT", &at, id, "");
            }
            let reasons = self.reasons(&outcome.reasons);
            let Some(when) = self.condition(&outcome.when, &names) else {
                continue;
            };
            outcomes.push(OutcomeRule {
                when,
                kind: outcome.kind.value,
                working_days: outcome.working_days.value,
                reasons,
            });
        }
        if count == 0 {
            self.fault("OUTCOME_NO_DEFAULT", &raw.outcomes.referenced, id, "");
        }
        let mut notes = Vec::new();
        for note in raw.notes {
            let reasons = self.reasons(&note.value.reasons);
            if let Some(when) = self.condition(&note.value.when, &names) {
                notes.push(NoteRule { when, reasons });
            }
        }
        Some(ServiceItem {
            id: id.to_owned(),
            title: text(raw.title),
            version: raw.version.value,
            consumer: raw.consumer.value,
            purpose: raw.purpose.value,
            agreement_ix: self.agreement.ix,
            facts,
            outcomes,
            notes,
            slots,
        })
    }

    fn fact(&mut self, raw: RawFact) -> Option<FactNeed> {
        let name = &raw.dataset;
        let section = self.agreement.sections.iter().position(|section| {
            self.datasets
                .get(section.dataset_ix)
                .is_some_and(|dataset| dataset.id == name.value)
        });
        let Some(section) = section else {
            let readable = self.datasets.iter().any(|dataset| dataset.id == name.value);
            if readable || !super::agreements::is_written(self.tree, &name.value) {
                self.fault(
                    "FACT_NOT_AGREED",
                    &name.referenced,
                    &name.value,
                    &self.agreement.id,
                );
            }
            return None;
        };
        let agreed = &self.agreement.sections[section];
        let dataset = &self.datasets[agreed.dataset_ix];
        let mut columns: Vec<Column> = agreed
            .fields
            .iter()
            .map(|&index| {
                let field = &dataset.fields[usize::from(index)];
                Column {
                    name: field.name.clone(),
                    ty: Ty::of(&field.layout),
                    answer: false,
                }
            })
            .collect();
        columns.extend(agreed.answers.iter().map(|answer| Column {
            name: answer.name.clone(),
            ty: Ty::plain(answer.expr.kind()).or_null(),
            answer: true,
        }));
        let filter = match &raw.filter {
            None => None,
            Some(written) => Some(self.condition(written, &RowNames(&columns))?),
        };
        Some(FactNeed {
            name: raw.name.value,
            title: text(raw.title),
            dataset_ix: agreed.dataset_ix,
            section,
            cardinality: raw.cardinality,
            required: raw.required,
            filter,
            columns,
        })
    }

    fn condition(&mut self, written: &Located<String>, names: &dyn Names) -> Option<Rule> {
        match Rule::condition(&written.value, names) {
            Ok(rule) => Some(rule),
            Err(fault) => {
                self.fault(
                    fault.code,
                    &written.referenced,
                    &fault.what,
                    &self.agreement.id,
                );
                None
            }
        }
    }

    fn reasons(&mut self, written: &[Located<String>]) -> Vec<String> {
        for code in written {
            if !self.reasons.contains(&code.value) {
                self.fault("REASON_UNKNOWN", &code.referenced, &code.value, "");
            }
        }
        written.iter().map(|code| code.value.clone()).collect()
    }
}
