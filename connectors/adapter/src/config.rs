//! The adapter's configuration file: whose deliveries, of which purpose, into which schema
//! and tables. Cluster, certificates and contract belong to the installation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::limits::MAX_CONFIG_BYTES;

/// The file, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The consuming department: `police`.
    pub consumer: String,
    /// The agreement's purpose: `talent-settlement`.
    pub purpose: String,
    /// Where the tables are. Without it: the installation's own database.
    #[serde(default)]
    pub database: DatabaseConfig,
    /// Dataset id or `answer.<name>.v<N>` → table. What is not listed has a name of its own:
    /// `hrss.insurance.status.v1` → `hrss_insurance_status_v1`.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    /// Only these datasets and answers; all of the agreement when empty.
    #[serde(default)]
    pub only: Vec<String>,
    /// What happens to a row whose record is withdrawn. A legal hold (`mz_legal_hold`) turns
    /// `delete` into freezing for the persons it names.
    #[serde(default)]
    pub on_withdrawal: OnWithdrawal,
    /// Whether each row keeps the delivered bytes and their seal (about 1 KB a row), so that it
    /// can be proven later.
    #[serde(default = "yes")]
    pub keep_proof: bool,
    /// What happens when the topic no longer has the records at the stored position.
    #[serde(default)]
    pub when_position_lost: WhenLost,
}

/// Where the tables are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// File that holds the PostgreSQL URL (mode 0600); relative to the configuration file.
    pub url_file: Option<PathBuf>,
    /// Environment variable that holds it.
    pub url_env: Option<String>,
    /// PostgreSQL schema; `<consumer>_<purpose>` when not given. Made when it is missing.
    pub schema: Option<String>,
}

/// What happens to a row whose record is withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnWithdrawal {
    /// The row goes.
    #[default]
    Delete,
    /// The row stays, with `mz_withdrawn_at` set.
    Mark,
    /// The row moves to `mz_frozen`, which nobody but its owner can read, until the records office
    /// sets `release_at` there.
    Freeze,
}

/// What happens when records were dropped before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenLost {
    /// Stop and say so.
    #[default]
    Stop,
    /// Go on at the first record that is there; the gap is in `mz_sequence_faults`.
    Resume,
}

fn yes() -> bool {
    true
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, Error> {
        let fault = |detail: String| Error::Config {
            file: path.to_owned(),
            detail,
        };
        let size = std::fs::metadata(path)
            .map_err(|error| fault(error.to_string()))?
            .len();
        if size > MAX_CONFIG_BYTES {
            return Err(fault(format!("{size} bytes, at most {MAX_CONFIG_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let mut config = Self::parse(&text).map_err(&fault)?;
        if let (Some(file), Some(folder)) = (&mut config.database.url_file, path.parent()) {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// From the text of a file.
    ///
    /// # Errors
    /// The fault with its line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// `police/talent-settlement`
    pub fn agreement(&self) -> String {
        format!("{}/{}", self.consumer, self.purpose)
    }

    /// The principal under which the adapter reads: `police.adapter`.
    pub fn principal(&self) -> String {
        format!("{}.adapter", self.consumer)
    }

    /// The database URL from file or environment; `None` when the configuration names neither.
    pub fn database_url(&self) -> Result<Option<String>, Error> {
        let unreadable = |place: String, detail: String| Error::DatabaseUrl { place, detail };
        match (&self.database.url_file, &self.database.url_env) {
            (Some(file), None) => std::fs::read_to_string(file)
                .map(|url| Some(url.trim().to_owned()))
                .map_err(|error| unreadable(file.display().to_string(), error.to_string())),
            (None, Some(name)) => std::env::var(name)
                .map(Some)
                .map_err(|error| unreadable(format!("${name}"), error.to_string())),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(unreadable(
                "database".into(),
                "url_file and url_env exclude each other".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_is_enough_and_a_wrong_key_is_named() {
        let config = Config::parse("consumer: police\npurpose: talent-settlement\n").unwrap();
        assert_eq!(config.agreement(), "police/talent-settlement");
        assert_eq!(config.principal(), "police.adapter");
        assert_eq!(config.on_withdrawal, OnWithdrawal::Delete);
        assert!(config.keep_proof);
        let fault = Config::parse("consumer: police\npurpose: p\ntable: {}\n").unwrap_err();
        assert!(
            fault.contains("table") && fault.contains("line 3"),
            "{fault}"
        );
    }
}
