//! When cases open and close. A case opens deliveries about a person, so who may open one is checked:
//! only the consumer's own events, or events that the agreement lets it read anyway.

use std::sync::Arc;

use mz_seal::FieldType;

use super::agreements::{Place, World, is_written};
use crate::agreement::{CaseRules, CloseRule, OpenRule, SubjectPath};
use crate::dataset::Dataset;
use crate::expr::Expr;
use crate::fault::Faults;
use crate::raw::RawCases;
use crate::yaml::Located;

pub(super) struct CaseContext<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) place: &'a Place<'a>,
    /// Datasets that the agreement reads.
    pub(super) read: &'a [usize],
    /// The shortest case limit of the datasets with scope case, and whose it is.
    pub(super) limit: Option<(u32, &'a str)>,
}

pub(super) fn build(context: &CaseContext<'_>, raw: RawCases, faults: &mut Faults) -> CaseRules {
    let mut rules = CaseRules::default();
    if let Some(request) = raw.on_request {
        context.days(&request.days, faults);
        rules.on_request_days = Some(request.days.value);
    }
    if raw.opens.is_empty() && rules.on_request_days.is_none() {
        faults.push_at("CASES_NEVER_OPEN", context.place.file, (1, 1), "cases", "");
    }
    for open in raw.opens {
        let open = open.value;
        context.days(&open.days, faults);
        let Some(dataset) = context.dataset(&open.dataset, faults) else {
            continue;
        };
        let when = context.when(&open.when, dataset, faults);
        if open.subjects.value.is_empty() {
            faults.push(
                "LIST_EMPTY",
                context.place.file,
                &open.subjects.referenced,
                "subjects",
                "",
            );
        }
        let subjects: Vec<_> = open
            .subjects
            .value
            .iter()
            .filter_map(|path| context.subject(path, dataset, faults))
            .collect();
        if let Some(when) = when {
            rules.opens.push(OpenRule {
                dataset: dataset.ix,
                when,
                subjects,
                days: open.days.value,
            });
        }
    }
    for close in raw.closes {
        let close = close.value;
        let Some(dataset) = context.dataset(&close.dataset, faults) else {
            continue;
        };
        if let Some(when) = context.when(&close.when, dataset, faults) {
            rules.closes.push(CloseRule {
                dataset: dataset.ix,
                when,
            });
        }
    }
    rules
}

impl<'a> CaseContext<'a> {
    fn days(&self, days: &Located<u32>, faults: &mut Faults) {
        let (limit, whose) = self.limit.unwrap_or((u32::MAX, ""));
        if days.value == 0 || days.value > limit {
            let detail = format!("{limit} ({whose})");
            faults.push(
                "CASE_TOO_LONG",
                self.place.file,
                &days.referenced,
                &days.value.to_string(),
                &detail,
            );
        }
    }

    fn dataset(&self, name: &Located<String>, faults: &mut Faults) -> Option<&'a Dataset> {
        let Some(dataset) = self
            .world
            .datasets
            .iter()
            .find(|dataset| dataset.id == name.value)
        else {
            if !is_written(self.world.tree, &name.value) {
                faults.push(
                    "DATASET_UNKNOWN",
                    self.place.file,
                    &name.referenced,
                    &name.value,
                    "",
                );
            }
            return None;
        };
        if dataset.department != self.place.consumer && !self.read.contains(&dataset.ix) {
            faults.push(
                "CASE_FOREIGN_TRIGGER",
                self.place.file,
                &name.referenced,
                &name.value,
                self.place.id,
            );
        }
        Some(dataset)
    }

    fn when(
        &self,
        written: &Located<String>,
        dataset: &Dataset,
        faults: &mut Faults,
    ) -> Option<Expr> {
        match Expr::condition(&written.value, &dataset.fields) {
            Ok(rule) => Some(rule),
            Err(fault) => {
                faults.push(
                    fault.code,
                    self.place.file,
                    &written.referenced,
                    &fault.what,
                    &dataset.id,
                );
                None
            }
        }
    }

    /// `idNo`, or `dependents[].idNo`.
    fn subject(
        &self,
        path: &Located<String>,
        dataset: &Dataset,
        faults: &mut Faults,
    ) -> Option<SubjectPath> {
        let (field, member) = match path.value.split_once("[].") {
            Some((field, member)) => (field, Some(member)),
            None => (path.value.as_str(), None),
        };
        let index = dataset.field_index(field);
        let fits = index.is_some_and(|index| match (&dataset.fields[index].layout.ty, member) {
            (FieldType::String, None) => true,
            (FieldType::Array(item), Some(member)) => match item.as_ref() {
                FieldType::Record(fields) => fields.iter().any(|(name, ty)| {
                    name == member
                        && (*ty == FieldType::String
                            || *ty == FieldType::Union(vec![FieldType::Null, FieldType::String]))
                }),
                _ => false,
            },
            _ => false,
        });
        if !fits {
            faults.push(
                "SUBJECT_PATH",
                self.place.file,
                &path.referenced,
                &path.value,
                &dataset.id,
            );
            return None;
        }
        Some(SubjectPath {
            source: path.value.clone(),
            field: index?,
            member: member.map(str::to_owned),
            layout: Arc::clone(&dataset.layout),
        })
    }
}
