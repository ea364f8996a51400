//! `agreements/<consumer>/<purpose>.yaml`.

use std::num::NonZeroU32;
use std::sync::Arc;

use mz_seal::{FieldSet, Layout, project_schema, schema_digest};
use serde_saphyr::Location;

use super::cases::{self, CaseContext};
use super::consent;
use super::fields::is_nested;
use super::{date, days, is_identifier, is_name, limits, text};
use crate::agreement::{
    Agreement, Answer, Application, Approval, Basis, BasisKind, Citation, Notice, ScopeKind,
    Section, Suspension,
};
use crate::dataset::{Classification, Dataset, Share};
use crate::department::{Department, Kind};
use crate::expr::{Expr, ExprFault};
use crate::fault::Faults;
use crate::raw::{RawAgreement, RawAnswer, RawSection};
use crate::schema_ids::{
    self, SchemaIds, SchemaKey, Wanted, answer_kind, answer_schema, projected_name,
};
use crate::tree::Tree;
use crate::yaml::{self, Located};

/// What agreements are read against.
pub(super) struct World<'a> {
    pub(super) tree: &'a Tree,
    pub(super) departments: &'a [Department],
    pub(super) datasets: &'a [Dataset],
    pub(super) ids: &'a SchemaIds,
}

/// An agreement and where its sections stand, for faults found later.
pub(super) struct Written {
    pub(super) agreement: Agreement,
    pub(super) file: String,
    pub(super) section_places: Vec<Location>,
}

pub(super) fn load(
    world: &World<'_>,
    wanted: &mut Vec<Wanted>,
    faults: &mut Faults,
) -> Vec<Written> {
    let mut agreements = Vec::new();
    let mut next_section = 0;
    for (file, source) in world.tree.below("agreements") {
        // agreements/<consumer>/<purpose>.approvals/<provider>.yaml is read by `approvals`.
        if file.matches('/').count() == 3 {
            continue;
        }
        let id = file
            .trim_start_matches("agreements/")
            .trim_end_matches(".yaml");
        let Some((consumer, purpose)) = id.split_once('/').filter(|(_, purpose)| is_name(purpose))
        else {
            faults.push("AGREEMENT_PATH", file, &Location::UNKNOWN, id, "");
            continue;
        };
        if !world
            .departments
            .iter()
            .any(|department| department.id == consumer)
        {
            if world
                .tree
                .get(&format!("departments/{consumer}.yaml"))
                .is_none()
            {
                faults.push("DEPARTMENT_UNKNOWN", file, &Location::UNKNOWN, consumer, "");
            }
            continue;
        }
        let Some(raw) = yaml::parse::<RawAgreement>(file, source, faults) else {
            continue;
        };
        let ix = agreements.len();
        let written = build(
            world,
            &Place {
                file,
                id,
                consumer,
                purpose,
                ix,
            },
            raw,
            &mut next_section,
            wanted,
            faults,
        );
        agreements.extend(written);
    }
    agreements
}

/// Where an agreement stands.
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) id: &'a str,
    pub(super) consumer: &'a str,
    purpose: &'a str,
    ix: usize,
}

fn build(
    world: &World<'_>,
    place: &Place<'_>,
    raw: RawAgreement,
    next_section: &mut u32,
    wanted: &mut Vec<Wanted>,
    faults: &mut Faults,
) -> Option<Written> {
    let file = place.file;
    let basis_kind = raw.basis.kind.value;
    if raw.basis.law.value.is_empty() {
        faults.push(
            "LAW_MISSING",
            file,
            &raw.basis.law.referenced,
            "basis.law",
            "",
        );
    }
    if raw.notice.is_none() && basis_kind != BasisKind::Emergency {
        faults.push(
            "NOTICE_MISSING",
            file,
            &raw.basis.kind.referenced,
            "notice",
            "",
        );
    }
    // Order 809 Art. 25, PIPL Art. 23: beyond the departments only with the person's own consent.
    let third_party = world
        .departments
        .iter()
        .any(|department| department.id == place.consumer && department.kind == Kind::ThirdParty);
    if third_party && basis_kind != BasisKind::Consent {
        let at = &raw.basis.kind.referenced;
        faults.push(
            "THIRD_PARTY_BASIS",
            file,
            at,
            place.consumer,
            basis_kind.as_str(),
        );
    }
    consent::check(&raw, place, faults);
    let number = &raw.application.number;
    if number.value.trim().is_empty() {
        faults.push(
            "VALUE_EMPTY",
            file,
            &number.referenced,
            "application.number",
            "",
        );
    }
    let valid_from = date(&raw.valid.from, file, faults);
    let valid_until = date(&raw.valid.until, file, faults);
    let applied_on = date(&raw.application.applied_on, file, faults);
    let application_until = date(&raw.application.until, file, faults);
    let retention_days = days(&raw.retention, file, faults);
    let (valid_from, valid_until, applied_on, application_until) =
        (valid_from?, valid_until?, applied_on?, application_until?);
    let until_at = &raw.valid.until.referenced;
    if valid_from > valid_until {
        faults.push(
            "TERM_INVALID",
            file,
            until_at,
            &raw.valid.until.value,
            &raw.valid.from.value,
        );
    }
    if valid_until > application_until {
        let limit = &raw.application.until.value;
        faults.push(
            "TERM_PAST_APPLICATION",
            file,
            until_at,
            &raw.valid.until.value,
            limit,
        );
    }
    let suspension = match raw.suspended {
        None => None,
        Some(raw) => Some(Suspension {
            since: date(&raw.value.since, file, faults)?,
            reason: text(raw.value.reason),
        }),
    };

    if raw.sections.value.is_empty() {
        faults.push("LIST_EMPTY", file, &raw.sections.referenced, "sections", "");
    }
    let has_cases = raw.cases.is_some() || basis_kind == BasisKind::Consent;
    let mut sections: Vec<Section> = Vec::new();
    let mut section_places = Vec::new();
    let mut answer_names: Vec<(String, u16)> = Vec::new();
    for raw_section in raw.sections.value {
        let at = raw_section.referenced;
        let raw_section = raw_section.value;
        let name = &raw_section.dataset;
        let Some(dataset) = world
            .datasets
            .iter()
            .find(|dataset| dataset.id == name.value)
        else {
            if !is_written(world.tree, &name.value) {
                faults.push("DATASET_UNKNOWN", file, &name.referenced, &name.value, "");
            }
            continue;
        };
        if sections
            .iter()
            .any(|section| section.dataset_ix == dataset.ix)
        {
            faults.push("SECTION_DUPLICATE", file, &name.referenced, &name.value, "");
            continue;
        }
        limits::check(
            dataset,
            name,
            file,
            faults,
            &limits::Terms {
                basis_kind,
                mode: raw.application.mode,
                valid_until,
                until: &raw.valid.until,
            },
        );
        if raw_section.scope.value == ScopeKind::Case && !has_cases {
            faults.push(
                "CASES_MISSING",
                file,
                &raw_section.scope.referenced,
                &name.value,
                "",
            );
        }
        let mut context = SectionContext {
            world,
            place,
            dataset,
            answer_names: &mut answer_names,
            wanted,
            faults,
        };
        if let Some(section) = context.section(raw_section, *next_section) {
            *next_section += 1;
            sections.push(section);
            section_places.push(at);
        }
    }
    let case_limit = sections
        .iter()
        .filter(|section| section.scope == ScopeKind::Case)
        .map(|section| {
            let dataset = &world.datasets[section.dataset_ix];
            (dataset.limits.max_case_days, dataset.id.as_str())
        })
        .min();
    let cases = match raw.cases {
        None => None,
        Some(raw_cases) => {
            if case_limit.is_none() {
                faults.push("CASES_UNUSED", file, &raw_cases.referenced, "cases", "");
            }
            let read: Vec<usize> = sections.iter().map(|section| section.dataset_ix).collect();
            let context = CaseContext {
                world,
                place,
                read: &read,
                limit: case_limit,
            };
            Some(cases::build(&context, raw_cases.value, faults))
        }
    };
    let consent = match raw.consent {
        // Refused above when the basis is another.
        Some(terms) if basis_kind == BasisKind::Consent => {
            Some(consent::build(terms, place, faults)?)
        }
        _ => None,
    };
    let application = Application {
        number: raw.application.number.value,
        applied_on,
        basis: text(raw.application.basis),
        scene: text(raw.application.scene),
        scope: text(raw.application.scope),
        mode: raw.application.mode,
        until: application_until,
    };
    let law = raw.basis.law.value;
    let agreement = Agreement {
        ix: place.ix,
        id: place.id.to_owned(),
        consumer: place.consumer.to_owned(),
        purpose: place.purpose.to_owned(),
        title: text(raw.title),
        basis: Basis {
            kind: basis_kind,
            law: law
                .into_iter()
                .map(|law| Citation {
                    title: text(law.title),
                    article: law.article,
                })
                .collect(),
            duty: text(raw.basis.duty),
        },
        application,
        valid_from,
        valid_until,
        suspension,
        ended: None,
        consent,
        notice: raw.notice.map(|notice| Notice {
            given: text(notice.value.given),
            text: text(notice.value.text),
        }),
        retention_days: retention_days?,
        sections,
        cases,
    };
    Some(Written {
        agreement,
        file: file.to_owned(),
        section_places,
    })
}

/// Whether a dataset has a file, faulty or alone: then what is wrong with it has been said.
pub(super) fn is_written(tree: &Tree, dataset: &str) -> bool {
    dataset.split_once('.').is_some_and(|(department, rest)| {
        ["yaml", "avsc"].iter().any(|ending| {
            tree.get(&format!("catalogue/{department}/{rest}.{ending}"))
                .is_some()
        })
    })
}

struct SectionContext<'a, 'f> {
    world: &'a World<'a>,
    place: &'a Place<'a>,
    dataset: &'a Dataset,
    answer_names: &'f mut Vec<(String, u16)>,
    wanted: &'f mut Vec<Wanted>,
    faults: &'f mut Faults,
}

impl SectionContext<'_, '_> {
    fn fault(&mut self, code: &'static str, at: &Location, field: &str, detail: &str) {
        self.faults.push(code, self.place.file, at, field, detail);
    }

    fn section(&mut self, raw: RawSection, ix: u32) -> Option<Section> {
        let dataset = self.dataset;
        let filter = match &raw.filter {
            Some(written) => self.condition(written),
            None => {
                if raw.scope.value == ScopeKind::Matching {
                    self.fault("FILTER_MISSING", &raw.scope.referenced, &dataset.id, "");
                }
                None
            }
        };
        let fields = self.fields(&raw.fields);
        let name = projected_name(self.place.id, dataset.layout.name());
        let avsc = match project_schema(&dataset.avsc, &fields, &name) {
            Ok(avsc) => avsc,
            Err(error) => {
                self.fault(
                    "PROJECTION_FAILED",
                    &raw.fields.referenced,
                    &dataset.id,
                    &error.to_string(),
                );
                return None;
            }
        };
        let layout = Arc::new(Layout::compile(avsc.as_bytes()).ok()?);
        let key = SchemaKey::Projected {
            agreement: self.place.id.to_owned(),
            dataset: dataset.id.clone(),
            fields: fields
                .iter()
                .map(|&index| dataset.fields[usize::from(index)].name.clone())
                .collect(),
        };
        let schema_id = self.id(key, &avsc);
        let mut answers = Vec::new();
        for answer in raw.answers {
            answers.extend(self.answer(&answer));
        }
        let per_day = raw.frequency.as_ref().and_then(|stated| {
            let limit = NonZeroU32::new(stated.per_day.value);
            if limit.is_none() {
                self.fault(
                    "FREQUENCY_ZERO",
                    &stated.per_day.referenced,
                    &dataset.id,
                    "",
                );
            }
            limit
        });
        let sensitive = self.sensitive(&fields, filter.as_ref(), &answers);
        let approval_date = date(&raw.approval.date, self.place.file, self.faults);
        let field_set: FieldSet = fields.iter().copied().collect();
        let kept =
            |index: &usize| u16::try_from(*index).is_ok_and(|index| field_set.contains(index));
        Some(Section {
            ix,
            agreement_ix: self.place.ix,
            dataset_ix: dataset.ix,
            scope: raw.scope.value,
            filter,
            disclose_subject: kept(&dataset.subject_field),
            disclose_record: dataset.record_fields.iter().all(kept),
            fields,
            field_set,
            sensitive,
            out_topic: schema_ids::out_topic(self.place.id, &dataset.id),
            schema_id,
            projected_avsc: avsc,
            projected_layout: layout,
            answers,
            per_day,
            approval: Approval {
                approver: raw.approval.approver,
                date: approval_date?,
                document: raw.approval.document,
                digest: [0; 32],
                signed_by: None,
            },
        })
    }

    fn sensitive(&self, fields: &[u16], filter: Option<&Expr>, answers: &[Answer]) -> Vec<u16> {
        let rules = filter
            .into_iter()
            .chain(answers.iter().map(|answer| &answer.expr));
        let mut sensitive: Vec<u16> = rules
            .flat_map(|rule| rule.fields().iter().copied())
            .chain(fields.iter().copied())
            .filter(|&index| {
                let field = &self.dataset.fields[usize::from(index)];
                field.class == Classification::Sensitive
            })
            .collect();
        sensitive.sort_unstable();
        sensitive.dedup();
        sensitive
    }

    fn id(&mut self, key: SchemaKey, avsc: &str) -> u32 {
        let digest = schema_digest(avsc.as_bytes());
        let id = self.world.ids.id_of(&key, &digest).unwrap_or_default();
        self.wanted.push(Wanted { key, digest });
        id
    }

    fn fields(&mut self, raw: &Located<Vec<Located<String>>>) -> Vec<u16> {
        let mut kept: Vec<u16> = Vec::new();
        if raw.value.is_empty() {
            self.fault("SECTION_EMPTY", &raw.referenced, &self.dataset.id, "");
        }
        for name in &raw.value {
            let index = self.dataset.field_index(&name.value);
            let Some((index, field)) =
                index.and_then(|i| Some((u16::try_from(i).ok()?, &self.dataset.fields[i])))
            else {
                let code = if is_nested(&name.value) {
                    "FIELD_NESTED"
                } else {
                    "FIELD_UNKNOWN"
                };
                self.fault(code, &name.referenced, &name.value, &self.dataset.id);
                continue;
            };
            if kept.contains(&index) {
                self.fault(
                    "FIELD_DUPLICATE",
                    &name.referenced,
                    &name.value,
                    &self.dataset.id,
                );
                continue;
            }
            if field.share != Share::Allowed {
                self.fault(
                    "FIELD_NOT_ALLOWED",
                    &name.referenced,
                    &name.value,
                    &self.dataset.id,
                );
            }
            kept.push(index);
        }
        kept.sort_unstable();
        kept
    }

    fn condition(&mut self, written: &Located<String>) -> Option<Expr> {
        let rule = Expr::condition(&written.value, &self.dataset.fields);
        self.rule(written, rule)
    }

    fn rule(&mut self, written: &Located<String>, rule: Result<Expr, ExprFault>) -> Option<Expr> {
        match rule {
            Ok(rule) => {
                if let Some(field) = rule.forbidden(&self.dataset.fields) {
                    self.fault(
                        "FIELD_NOT_ALLOWED",
                        &written.referenced,
                        &field.name,
                        &self.dataset.id,
                    );
                }
                Some(rule)
            }
            Err(fault) => {
                self.fault(
                    fault.code,
                    &written.referenced,
                    &fault.what,
                    &self.dataset.id,
                );
                None
            }
        }
    }

    fn answer(&mut self, raw: &Located<RawAnswer>) -> Option<Answer> {
        let raw = &raw.value;
        let name = &raw.name;
        if !is_identifier(&name.value) || raw.version.value == 0 {
            self.fault("NAME_INVALID", &name.referenced, &name.value, "");
            return None;
        }
        if self.dataset.field_index(&name.value).is_some() {
            // Rules of service items see fields and answers side by side.
            self.fault(
                "ANSWER_NAME",
                &name.referenced,
                &name.value,
                &self.dataset.id,
            );
        }
        let label = (name.value.clone(), raw.version.value);
        if self.answer_names.contains(&label) {
            self.fault("ANSWER_DUPLICATE", &name.referenced, &name.value, "");
            return None;
        }
        self.answer_names.push(label);
        let rule = Expr::compile(&raw.expr.value, &self.dataset.fields);
        let expr = self.rule(&raw.expr, rule)?;
        if expr.fields().is_empty() {
            self.fault(
                "ANSWER_ORPHAN",
                &raw.expr.referenced,
                &name.value,
                &self.dataset.id,
            );
        }
        let Some(kind) = answer_kind(expr.kind()) else {
            let kind = expr.kind().as_str();
            self.fault(
                "EXPR_TYPE",
                &raw.expr.referenced,
                kind,
                "bool, int, double, string, date",
            );
            return None;
        };
        let version = raw.version.value;
        let avsc = answer_schema(self.place.id, &name.value, version, kind);
        let layout = Arc::new(Layout::compile(avsc.as_bytes()).ok()?);
        let key = SchemaKey::Answer {
            agreement: self.place.id.to_owned(),
            name: name.value.clone(),
            version,
            kind: kind.to_owned(),
        };
        let schema_id = self.id(key, &avsc);
        Some(Answer {
            name: name.value.clone(),
            version,
            title: text(raw.title.clone()),
            expr,
            out_topic: schema_ids::answer_topic(self.place.id, &name.value, version),
            schema_id,
            avsc,
            layout,
        })
    }
}
