//! What changes when one version of the contract takes the place of another: what must be fetched again,
//! what must be withdrawn, and what can't be put in force at all. Pure; nothing is looked up.

use std::collections::BTreeSet;

use crate::agreement::{Agreement, Answer, CaseRules, ScopeKind, Section};
use crate::contract::Contract;
use crate::reasons::{Lang, Reasons};

/// Why a version can't take the place of the one in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Seals name the bus.
    Bus { old: String, new: String },
    /// Lanes are chosen once; more of them mean new topics.
    Lanes { old: u16, new: u16 },
    /// Ids are append-only, so that what was written stays readable.
    SchemaId(u32),
    /// What names a subject or a record of a dataset changed: tags would name other records.
    Record(String),
    /// Terminated, and now again without a new application.
    Revived(String),
}

/// What became of one section: one dataset under one agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionChange {
    Added,
    Removed,
    Changed {
        /// Fields and answers (`answer.<name>.v<N>`) that are delivered now and were not.
        gained: Vec<String>,
        /// … that were delivered and are no longer.
        lost: Vec<String>,
        /// The row filter is another.
        filter: bool,
        /// Old and new, where they differ.
        scope: Option<(ScopeKind, ScopeKind)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionDiff {
    pub agreement: String,
    pub dataset: String,
    /// Whether it is about people with a grant; in the new version, in the old one when it was removed.
    pub case: bool,
    pub change: SectionChange,
}

/// An agreement and a dataset that it reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading {
    pub agreement: String,
    pub dataset: String,
}

/// All lists are in order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContractDiff {
    pub refused: Vec<Refusal>,
    pub agreements_added: Vec<String>,
    pub agreements_removed: Vec<String>,
    pub suspended: Vec<String>,
    pub resumed: Vec<String>,
    pub terminated: Vec<String>,
    /// Term, retention, basis, agreed frequency, case rules or terms of consent are others.
    pub terms_changed: Vec<String>,
    /// Sections of added and removed agreements too.
    pub sections: Vec<SectionDiff>,
    pub datasets_added: Vec<String>,
    pub datasets_removed: Vec<String>,
    refetch: BTreeSet<Reading>,
    withdraw: BTreeSet<Reading>,
}

impl ContractDiff {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What to fetch again for grants in force: sections with scope case that are new or read more, that
    /// are read in another way, or whose agreement was resumed (what came meanwhile was denied). Nothing
    /// under an agreement that is suspended or ended.
    pub fn refetch(&self) -> impl Iterator<Item = &Reading> {
        self.refetch.iter()
    }

    /// What consumers hold and may no longer hold in this form: of agreements that ended or went, of
    /// sections that went or deliver less, that are only about people with a grant now, or (with scope
    /// case) whose filter changed. What is in [`Self::refetch`] too comes again as it may be.
    pub fn withdraw(&self) -> impl Iterator<Item = &Reading> {
        self.withdraw.iter()
    }

    /// One line a change, for review; refusals first.
    #[must_use]
    pub fn lines(&self, reasons: &Reasons, lang: Lang) -> Vec<String> {
        let built_in = Reasons::built_in();
        let mut lines = Vec::new();
        let mut say = |code: &str, field: &str, detail: &str| {
            let texts = if reasons.contains(code) {
                reasons
            } else {
                &built_in
            };
            lines.push(texts.render(code, lang, &[("field", field), ("detail", detail)]));
        };
        for refusal in &self.refused {
            match refusal {
                Refusal::Bus { old, new } => say("DIFF_BUS", old, new),
                Refusal::Lanes { old, new } => {
                    say("DIFF_LANES", &old.to_string(), &new.to_string());
                }
                Refusal::SchemaId(id) => say("DIFF_SCHEMA_ID", &id.to_string(), ""),
                Refusal::Record(dataset) => say("DIFF_RECORD", dataset, ""),
                Refusal::Revived(agreement) => say("DIFF_REVIVED", agreement, ""),
            }
        }
        for (code, ids) in [
            ("DIFF_AGREEMENT_ADDED", &self.agreements_added),
            ("DIFF_AGREEMENT_REMOVED", &self.agreements_removed),
            ("DIFF_AGREEMENT_SUSPENDED", &self.suspended),
            ("DIFF_AGREEMENT_RESUMED", &self.resumed),
            ("DIFF_AGREEMENT_TERMINATED", &self.terminated),
            ("DIFF_AGREEMENT_TERMS", &self.terms_changed),
            ("DIFF_DATASET_ADDED", &self.datasets_added),
            ("DIFF_DATASET_REMOVED", &self.datasets_removed),
        ] {
            for id in ids {
                say(code, id, "");
            }
        }
        for section in &self.sections {
            let name = format!("{} · {}", section.agreement, section.dataset);
            match &section.change {
                SectionChange::Added => say("DIFF_SECTION_ADDED", &name, ""),
                SectionChange::Removed => say("DIFF_SECTION_REMOVED", &name, ""),
                SectionChange::Changed {
                    gained,
                    lost,
                    filter,
                    scope,
                } => {
                    if !gained.is_empty() {
                        say("DIFF_SECTION_GREW", &name, &gained.join(", "));
                    }
                    if !lost.is_empty() {
                        say("DIFF_SECTION_SHRANK", &name, &lost.join(", "));
                    }
                    if *filter {
                        say("DIFF_SECTION_FILTER", &name, "");
                    }
                    if let Some((old, new)) = scope {
                        let detail = format!("{} → {}", old.as_str(), new.as_str());
                        say("DIFF_SECTION_SCOPE", &name, &detail);
                    }
                }
            }
        }
        if self.is_empty() {
            say("DIFF_NONE", "", "");
        }
        lines
    }
}

/// What `new` changes against `old`.
#[must_use]
pub fn diff(old: &Contract, new: &Contract) -> ContractDiff {
    let mut out = ContractDiff {
        refused: refusals(old, new),
        ..ContractDiff::default()
    };
    let ids = |contract: &Contract| -> BTreeSet<String> {
        contract
            .datasets
            .iter()
            .map(|dataset| dataset.id.clone())
            .collect()
    };
    let (before, after) = (ids(old), ids(new));
    out.datasets_added = after.difference(&before).cloned().collect();
    out.datasets_removed = before.difference(&after).cloned().collect();

    let names: BTreeSet<&str> = old
        .agreements
        .iter()
        .chain(&new.agreements)
        .map(|agreement| agreement.id.as_str())
        .collect();
    for name in names {
        match (old.agreement(name), new.agreement(name)) {
            (None, Some(added)) => {
                out.agreements_added.push(name.to_owned());
                for section in &added.sections {
                    out.section(new, added, section, SectionChange::Added);
                }
            }
            (Some(removed), None) => {
                out.agreements_removed.push(name.to_owned());
                for section in &removed.sections {
                    out.section(old, removed, section, SectionChange::Removed);
                }
            }
            (Some(before), Some(after)) => out.agreement((old, before), (new, after)),
            (None, None) => {}
        }
    }
    // What may not be delivered now is not asked for.
    out.refetch.retain(|reading| {
        new.agreement(&reading.agreement)
            .is_some_and(|agreement| !agreement.suspended())
    });
    out
}

fn refusals(old: &Contract, new: &Contract) -> Vec<Refusal> {
    let mut refused = Vec::new();
    if old.bus_id != new.bus_id {
        refused.push(Refusal::Bus {
            old: old.bus_id.clone(),
            new: new.bus_id.clone(),
        });
    }
    if old.lanes != new.lanes {
        refused.push(Refusal::Lanes {
            old: old.lanes,
            new: new.lanes,
        });
    }
    for entry in old.schema_ids.iter() {
        let same = new
            .schema_ids
            .get(entry.id)
            .is_some_and(|other| other.key == entry.key && other.digest == entry.digest);
        if !same {
            refused.push(Refusal::SchemaId(entry.id));
        }
    }
    for dataset in &old.datasets {
        let same = new.dataset(&dataset.id).is_none_or(|other| {
            other.subject_field == dataset.subject_field
                && other.record_fields == dataset.record_fields
        });
        if !same {
            refused.push(Refusal::Record(dataset.id.clone()));
        }
    }
    for agreement in old.agreements.iter().filter(|agreement| agreement.ended()) {
        let revived = new.agreement(&agreement.id).is_some_and(|other| {
            !other.ended() && other.application.number == agreement.application.number
        });
        if revived {
            refused.push(Refusal::Revived(agreement.id.clone()));
        }
    }
    refused
}

impl ContractDiff {
    fn agreement(&mut self, old: (&Contract, &Agreement), new: (&Contract, &Agreement)) {
        let (before, after) = (old.1, new.1);
        let name = &after.id;
        if after.ended() {
            if !before.ended() {
                self.terminated.push(name.clone());
                self.withdraw.extend(readings(old));
            }
        } else {
            match (before.suspended(), after.suspended()) {
                (false, true) => self.suspended.push(name.clone()),
                (true, false) => {
                    self.resumed.push(name.clone());
                    let case = after.sections.iter().filter(|s| s.scope == ScopeKind::Case);
                    self.refetch
                        .extend(case.map(|section| reading(new, section)));
                }
                _ => {}
            }
        }
        if terms(old) != terms(new) {
            self.terms_changed.push(name.clone());
        }
        let find = |at: (&Contract, &Agreement), dataset: &str| {
            at.1.sections
                .iter()
                .position(|section| at.0.datasets[section.dataset_ix].id == dataset)
        };
        for section in &before.sections {
            let dataset = &old.0.datasets[section.dataset_ix].id;
            match find(new, dataset) {
                None => self.section(old.0, before, section, SectionChange::Removed),
                Some(at) => {
                    let other = &after.sections[at];
                    if let Some(change) = changed((old.0, section), (new.0, other)) {
                        self.section(new.0, after, other, change);
                    }
                }
            }
        }
        for section in &after.sections {
            if find(old, &new.0.datasets[section.dataset_ix].id).is_none() {
                self.section(new.0, after, section, SectionChange::Added);
            }
        }
    }

    fn section(
        &mut self,
        contract: &Contract,
        agreement: &Agreement,
        section: &Section,
        change: SectionChange,
    ) {
        let case = section.scope == ScopeKind::Case;
        let (refetch, withdraw) = match &change {
            SectionChange::Added => (case, false),
            SectionChange::Removed => (false, true),
            SectionChange::Changed {
                lost,
                filter,
                scope,
                ..
            } => {
                let narrowed = scope.is_some() && case;
                (case, !lost.is_empty() || narrowed || (*filter && case))
            }
        };
        let reading = reading((contract, agreement), section);
        if refetch {
            self.refetch.insert(reading.clone());
        }
        if withdraw {
            self.withdraw.insert(reading.clone());
        }
        self.sections.push(SectionDiff {
            agreement: reading.agreement,
            dataset: reading.dataset,
            case,
            change,
        });
    }
}

fn reading(at: (&Contract, &Agreement), section: &Section) -> Reading {
    Reading {
        agreement: at.1.id.clone(),
        dataset: at.0.datasets[section.dataset_ix].id.clone(),
    }
}

fn readings<'a>(at: (&'a Contract, &'a Agreement)) -> impl Iterator<Item = Reading> + 'a {
    at.1.sections
        .iter()
        .map(move |section| reading(at, section))
}

fn changed(old: (&Contract, &Section), new: (&Contract, &Section)) -> Option<SectionChange> {
    let (before, after) = (delivered(old), delivered(new));
    // An answer whose rule changed under the same name counts as lost and gained.
    let names = |left: &BTreeSet<(String, String)>, right: &BTreeSet<(String, String)>| {
        left.difference(right)
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    let (gained, lost) = (names(&after, &before), names(&before, &after));
    let rule = |section: &Section| section.filter.as_ref().map(|rule| rule.source().to_owned());
    let filter = rule(old.1) != rule(new.1);
    let scope = (old.1.scope != new.1.scope).then_some((old.1.scope, new.1.scope));
    let same = gained.is_empty() && lost.is_empty() && !filter && scope.is_none();
    (!same).then_some(SectionChange::Changed {
        gained,
        lost,
        filter,
        scope,
    })
}

/// What a section delivers: name, and for answers the rule.
fn delivered(at: (&Contract, &Section)) -> BTreeSet<(String, String)> {
    let dataset = &at.0.datasets[at.1.dataset_ix];
    let fields = at.1.fields.iter().map(|&index| {
        (
            dataset.fields[usize::from(index)].name.clone(),
            String::new(),
        )
    });
    let answer = |answer: &Answer| {
        let name = format!("answer.{}.v{}", answer.name, answer.version);
        (name, answer.expr.source().to_owned())
    };
    fields.chain(at.1.answers.iter().map(answer)).collect()
}

/// What an agreement asks beside its sections, as text to compare.
fn terms(at: (&Contract, &Agreement)) -> Vec<String> {
    let agreement = at.1;
    let mut terms = vec![
        agreement.basis.kind.as_str().to_owned(),
        agreement.valid_from.to_string(),
        agreement.valid_until.to_string(),
        agreement.retention_days.to_string(),
    ];
    for section in &agreement.sections {
        if let Some(per_day) = section.per_day {
            let dataset = &at.0.datasets[section.dataset_ix].id;
            terms.push(format!("frequency {dataset} {per_day}"));
        }
    }
    if let Some(consent) = &agreement.consent {
        terms.push(format!(
            "consent {} {} {} {:?}",
            consent.notice_version, consent.max_days, consent.minor_age, consent.representation
        ));
    }
    if let Some(cases) = &agreement.cases {
        terms.extend(rules(at.0, cases));
    }
    terms
}

fn rules(contract: &Contract, cases: &CaseRules) -> Vec<String> {
    let mut rules = vec![format!("{:?}", cases.on_request_days)];
    for open in &cases.opens {
        let subjects: Vec<_> = open
            .subjects
            .iter()
            .map(|path| path.source.as_str())
            .collect();
        rules.push(format!(
            "opens {} {} {} {}",
            contract.datasets[open.dataset].id,
            open.when.source(),
            subjects.join(" "),
            open.days
        ));
    }
    for close in &cases.closes {
        let dataset = &contract.datasets[close.dataset].id;
        rules.push(format!("closes {dataset} {}", close.when.source()));
    }
    rules
}
