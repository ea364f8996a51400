//! The truth about a city, for tests to compare with. Identity numbers stand in it: they belong to nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `expected.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub persons: u64,
    pub seed: u64,
    pub as_of: String,
    pub snapshot: u32,
    pub dirty_per_mille: u32,
    pub families: u64,
    pub adults: u64,
    /// By dataset name without version: `hrss.insurance.status`.
    pub registers: BTreeMap<String, Register>,
    /// Acceptable approvals by their status in words of the sheet.
    pub approvals: BTreeMap<String, u64>,
    /// Subjects named by an acceptable booking that stands: applicants and their dependents.
    pub case_subjects: u64,
    /// By dataset: records about case subjects, as many as police may hold in the end.
    pub about_case_subjects: BTreeMap<String, u64>,
    /// By role; absent when the city is too small for the story.
    pub story: BTreeMap<String, StoryPerson>,
    /// What was planted: the mark, and how often in which column.
    pub marks: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Register {
    pub file: String,
    /// Rows (owners for property), dirty ones and duplicates included.
    pub rows: u64,
    /// Distinct records that a connector can publish.
    pub records: u64,
    /// Spoilt but readable, by kind.
    pub safe: BTreeMap<String, u64>,
    /// Must be refused, by kind.
    pub rejected: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoryPerson {
    pub id: String,
    pub name: String,
    pub approval: Option<String>,
    pub booking: Option<String>,
    /// Identity numbers.
    pub dependents: Vec<String>,
    /// Certificates of homes the person owns or shares.
    pub certificates: Vec<String>,
    /// Texts of this person's rows that police must not have, marks or not.
    pub withheld: Vec<String>,
}
