//! The contract as a schema registry sees it: schemas by id, and one subject per topic
//! (`<topic>-value`, the registry world's TopicNameStrategy) whose versions are the topic's
//! schemas by rising id. Immutable, made once.

use std::collections::BTreeMap;

use mz_contract::Contract;
use serde_json::Value;

/// One registered schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub id: u32,
    /// The committed bytes for a source; the generated schema for a delivery or an answer.
    pub text: String,
    pub subject: String,
    /// From 1 within the subject.
    pub version: u32,
    parsed: Value,
}

#[derive(Clone, Debug, Default)]
pub struct Registry {
    schemas: BTreeMap<u32, Schema>,
    subjects: BTreeMap<String, Vec<u32>>,
}

#[derive(Debug, thiserror::Error)]
#[error("schema {id} is not JSON")]
pub struct RegistryError {
    pub id: u32,
    #[source]
    source: serde_json::Error,
}

impl Registry {
    /// All schemas that records of this bus may carry the id of, past ones included.
    pub fn of(contract: &Contract) -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        for entry in contract.schema_ids.iter() {
            let id = entry.id;
            let subject = format!("{}-value", entry.key.topic());
            let parsed =
                serde_json::from_str(&entry.avsc).map_err(|source| RegistryError { id, source })?;
            let versions = registry.subjects.entry(subject.clone()).or_default();
            versions.push(id);
            // A subject has as many versions as a person wrote down.
            let version = versions.len() as u32;
            let text = entry.avsc.clone();
            registry.schemas.insert(
                id,
                Schema {
                    id,
                    text,
                    subject,
                    version,
                    parsed,
                },
            );
        }
        Ok(registry)
    }

    /// All subjects, sorted.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subjects.keys().map(String::as_str)
    }

    pub fn schema(&self, id: u32) -> Option<&Schema> {
        self.schemas.get(&id)
    }

    /// The schemas of a subject, oldest first. Never empty.
    pub fn versions(&self, subject: &str) -> Option<Vec<&Schema>> {
        let ids = self.subjects.get(subject)?;
        Some(ids.iter().filter_map(|id| self.schemas.get(id)).collect())
    }
}

impl Schema {
    /// Whether `text` is this schema, spacing and key order aside.
    pub fn is(&self, text: &str) -> bool {
        serde_json::from_str::<Value>(text).is_ok_and(|parsed| parsed == self.parsed)
    }
}
