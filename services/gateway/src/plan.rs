//! The contract, laid out for the loop: what each source topic feeds, where each delivery goes.
//! Everything that depends on the contract alone is worked out here, once.

use std::sync::Arc;

use mz_contract::{Agreement, Answer, Contract, Dataset, ScopeKind, Section};
use mz_journal::{field_bitmap, topics};
use mz_keys::AgreementKey;
use mz_seal::{Digest, schema_digest};
use rustc_hash::FxHashMap;

use crate::options::Keys;

/// A contract, ready to run. Indices below are positions in its lists.
pub(crate) struct Plan {
    pub contract: Arc<Contract>,
    /// One for each dataset, in the contract's order.
    pub sources: Vec<Source>,
    /// Every `to.*` topic: sections first met first, each followed by its answers.
    pub outputs: Vec<Output>,
    /// `<department>/<stream>/<dataset id>`, source by source.
    pub streams: Vec<String>,
    pub agreements: Vec<AgreementPlan>,
    agreement_at: FxHashMap<String, u32>,
    source_at: FxHashMap<String, usize>,
    output_at: FxHashMap<String, usize>,
}

/// One source topic and whom it feeds.
pub(crate) struct Source {
    pub dataset: usize,
    pub topic: String,
    pub quarantine: String,
    /// First of its streams in [`Plan::streams`].
    pub first_stream: usize,
    pub readings: Vec<Reading>,
    /// Agreement and rule that open cases on its events.
    pub opens: Vec<(usize, usize)>,
    /// Agreement and rule that close them.
    pub closes: Vec<(usize, usize)>,
}

/// One section that reads a source.
pub(crate) struct Reading {
    pub agreement: usize,
    pub section: usize,
    pub output: usize,
    /// Delivered fields as an audit record names them.
    pub fields: Vec<u8>,
    pub answers: Vec<AnswerPlan>,
}

/// One derived answer of a section.
pub(crate) struct AnswerPlan {
    /// Position in the section's answers.
    pub answer: usize,
    pub output: usize,
    /// Fields that its rule reads.
    pub fields: Vec<u8>,
}

/// One `to.*` topic.
pub(crate) struct Output {
    pub topic: String,
    pub agreement: usize,
    /// What audit records call it: the dataset's id, or `answer.<name>.v<N>`.
    pub label: String,
    /// Seal name and schema digest of an answer.
    pub answer: Option<(String, Digest)>,
}

/// What the loop needs of an agreement.
pub(crate) struct AgreementPlan {
    pub key: AgreementKey,
    /// Sources whose facts a grant opens, with their sections: those with scope `case`.
    pub case_sources: Vec<CaseSource>,
}

/// A source that a grant opens.
#[derive(Clone, Copy)]
pub(crate) struct CaseSource {
    pub source: usize,
    /// Position in the agreement's sections.
    pub section: usize,
}

impl Plan {
    pub(crate) fn new(contract: Arc<Contract>, keys: &Keys) -> Self {
        let mut plan = Self {
            sources: Vec::new(),
            outputs: Vec::new(),
            streams: Vec::new(),
            agreements: Vec::new(),
            agreement_at: FxHashMap::default(),
            source_at: FxHashMap::default(),
            output_at: FxHashMap::default(),
            contract: Arc::clone(&contract),
        };
        for (at, agreement) in contract.agreements.iter().enumerate() {
            // A contract has far fewer agreements than a u32 counts.
            plan.agreement_at.insert(agreement.id.clone(), at as u32);
            plan.agreements.push(AgreementPlan {
                key: keys
                    .pseudonym
                    .agreement(&agreement.consumer, &agreement.purpose),
                case_sources: agreement
                    .sections
                    .iter()
                    .enumerate()
                    .filter(|(_, section)| section.scope == ScopeKind::Case)
                    .map(|(at, section)| CaseSource {
                        source: section.dataset_ix,
                        section: at,
                    })
                    .collect(),
            });
        }
        for (at, dataset) in contract.datasets.iter().enumerate() {
            let source = plan.source(at, dataset);
            plan.source_at.insert(source.topic.clone(), at);
            plan.sources.push(source);
        }
        let outputs = plan.outputs.iter().enumerate();
        plan.output_at = outputs.map(|(at, to)| (to.topic.clone(), at)).collect();
        plan
    }

    fn source(&mut self, at: usize, dataset: &Dataset) -> Source {
        let contract = Arc::clone(&self.contract);
        let first_stream = self.streams.len();
        self.streams.extend(
            dataset
                .streams
                .iter()
                .map(|stream| format!("{}/{stream}/{}", dataset.department, dataset.id)),
        );
        let mut readings = Vec::new();
        let (mut opens, mut closes) = (Vec::new(), Vec::new());
        for (agreement_at, agreement) in contract.agreements.iter().enumerate() {
            for (section_at, section) in agreement.sections.iter().enumerate() {
                if section.dataset_ix == at {
                    readings.push(self.plan_reading(agreement_at, agreement, section_at, section));
                }
            }
            if let Some(cases) = &agreement.cases {
                let rules = cases.opens.iter().enumerate();
                opens.extend(
                    rules
                        .filter(|(_, rule)| rule.dataset == at)
                        .map(|(rule, _)| (agreement_at, rule)),
                );
                let rules = cases.closes.iter().enumerate();
                closes.extend(
                    rules
                        .filter(|(_, rule)| rule.dataset == at)
                        .map(|(rule, _)| (agreement_at, rule)),
                );
            }
        }
        Source {
            dataset: at,
            topic: dataset.src_topic(),
            quarantine: topics::quarantine(&dataset.department),
            first_stream,
            readings,
            opens,
            closes,
        }
    }

    fn plan_reading(
        &mut self,
        agreement_at: usize,
        agreement: &Agreement,
        section_at: usize,
        section: &Section,
    ) -> Reading {
        let output = self.outputs.len();
        self.outputs.push(Output {
            topic: section.out_topic.clone(),
            agreement: agreement_at,
            label: self.contract.datasets[section.dataset_ix].id.clone(),
            answer: None,
        });
        let answers = section
            .answers
            .iter()
            .enumerate()
            .map(|(answer_at, answer)| self.answer(agreement_at, agreement, answer_at, answer))
            .collect();
        Reading {
            agreement: agreement_at,
            section: section_at,
            output,
            fields: field_bitmap(&section.fields),
            answers,
        }
    }

    fn answer(
        &mut self,
        agreement_at: usize,
        agreement: &Agreement,
        answer_at: usize,
        answer: &Answer,
    ) -> AnswerPlan {
        let output = self.outputs.len();
        let label = format!("answer.{}.v{}", answer.name, answer.version);
        // The seal's dataset names the consumer too: an answer for one can't pass as another's.
        let sealed_as = format!("{}.{}.{label}", agreement.consumer, agreement.purpose);
        self.outputs.push(Output {
            topic: answer.out_topic.clone(),
            agreement: agreement_at,
            label,
            answer: Some((sealed_as, schema_digest(answer.avsc.as_bytes()))),
        });
        AnswerPlan {
            answer: answer_at,
            output,
            fields: field_bitmap(answer.expr.fields()),
        }
    }

    pub(crate) fn dataset(&self, source: &Source) -> &Dataset {
        &self.contract.datasets[source.dataset]
    }

    pub(crate) fn agreement(&self, at: usize) -> &Agreement {
        &self.contract.agreements[at]
    }

    /// Index of an agreement by its id; `None` for one that this contract no longer has.
    pub(crate) fn agreement_ix(&self, id: &str) -> Option<u32> {
        self.agreement_at.get(id).copied()
    }

    /// Index of the source of a topic.
    pub(crate) fn source_ix(&self, topic: &str) -> Option<usize> {
        self.source_at.get(topic).copied()
    }

    /// Index of a consumer's topic.
    pub(crate) fn output_ix(&self, topic: &str) -> Option<usize> {
        self.output_at.get(topic).copied()
    }

    /// The section of an agreement that reads a dataset, both by their ids.
    pub(crate) fn reading(&self, agreement: &str, dataset: &str) -> Option<&Reading> {
        let at = self.agreement_ix(agreement)? as usize;
        let source = self.source_ix(&topics::source(dataset))?;
        let mut readings = self.sources[source].readings.iter();
        readings.find(|reading| reading.agreement == at)
    }

    /// A contract that knows none of it, for tests.
    #[cfg(test)]
    pub(crate) fn forget(&mut self) {
        self.sources.clear();
        self.outputs.clear();
        self.streams.clear();
        self.source_at.clear();
        self.output_at.clear();
    }
}
