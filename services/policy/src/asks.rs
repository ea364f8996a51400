//! What decisions under one contract ask the index of grants about, worked out once.

use mz_contract::{Contract, Section};

use crate::grants::{Ask, GrantsIndex};

/// Made of one contract for one index; a new contract needs new ones.
#[derive(Clone, Debug, Default)]
pub struct Asks {
    /// By section number.
    sections: Vec<Option<Ask>>,
    /// By agreement: any of its datasets.
    agreements: Vec<Option<Ask>>,
}

impl Asks {
    pub fn of(contract: &Contract, grants: &mut GrantsIndex) -> Self {
        let count = contract.sections().map(|section| section.ix + 1).max();
        let mut sections = vec![None; count.unwrap_or(0) as usize];
        for section in contract.sections() {
            let agreement = &contract.agreements[section.agreement_ix].id;
            let dataset = &contract.datasets[section.dataset_ix].id;
            sections[section.ix as usize] = grants.ask(agreement, dataset);
        }
        let agreements = contract.agreements.iter();
        Self {
            sections,
            agreements: agreements.map(|one| grants.ask_any(&one.id)).collect(),
        }
    }

    /// One section: its agreement and its dataset.
    pub fn section(&self, section: &Section) -> Option<Ask> {
        self.sections.get(section.ix as usize).copied().flatten()
    }

    /// One agreement, by its index in the contract: any of its datasets.
    pub fn agreement(&self, at: usize) -> Option<Ask> {
        self.agreements.get(at).copied().flatten()
    }
}
