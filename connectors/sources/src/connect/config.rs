//! The connector's configuration: which mapping, where the data lies, how often to look.

use crate::limits::{DEFAULT_POLL, MIN_POLL};
use crate::mapping::Mapping;
use crate::mapping::compile::duration;
use crate::mapping::plan::Input;
use crate::mapping::raw::At;
use crate::mapping::yaml::{self, Faults};
use crate::register::Place;
use mz_contract::Fault;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MAX_URL_BYTES: u64 = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    mapping: At<String>,
    data: At<RawPlace>,
    /// Joins that lie elsewhere than the main table.
    #[serde(default)]
    joins: BTreeMap<String, At<RawPlace>>,
    poll: Option<At<String>>,
    /// Folder for the rejects file.
    rejects: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlace {
    file: Option<At<String>>,
    /// File (0600) that holds the database URL.
    database_url_file: Option<At<String>>,
    /// Environment variable that holds the database URL.
    database_url_env: Option<At<String>>,
}

/// A configuration whose files were found.
#[derive(Debug)]
pub struct Config {
    pub mapping: PathBuf,
    pub poll: Duration,
    /// Folder for rejected rows.
    pub rejects: PathBuf,
    file: PathBuf,
    main: At<Located>,
    joins: BTreeMap<String, At<Located>>,
}

/// A place before it is held against what the mapping wants.
#[derive(Clone, Debug)]
enum Located {
    File(PathBuf),
    Database(Place),
    /// Already reported.
    Nowhere,
}

/// Loads a configuration. Paths in it are relative to its own folder; `${NAME}` is taken from the
/// environment.
pub fn load(path: &Path) -> Result<Config, Vec<Fault>> {
    let mut faults = Faults::of(path);
    let Some(raw) = yaml::load::<RawConfig>(path, &mut faults) else {
        return Err(faults.sorted());
    };
    let base = path.parent().unwrap_or(Path::new("."));
    let relative = |text: &At<String>, faults: &mut Faults| base.join(expand(text, faults));
    let poll = match &raw.poll {
        None => DEFAULT_POLL,
        Some(text) => match duration(&text.value) {
            Some(poll) if poll >= MIN_POLL => poll,
            _ => {
                faults.at("CONNECT_POLL", text, &text.value, "200ms, 30s, 10m");
                DEFAULT_POLL
            }
        },
    };
    let config = Config {
        mapping: relative(&raw.mapping, &mut faults),
        poll,
        rejects: match &raw.rejects {
            Some(folder) => relative(folder, &mut faults),
            None => base.join("rejects"),
        },
        file: path.to_owned(),
        main: place(&raw.data, base, &mut faults),
        joins: raw
            .joins
            .iter()
            .map(|(name, raw)| (name.clone(), place(raw, base, &mut faults)))
            .collect(),
    };
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults.sorted())
    }
}

impl Config {
    /// Where the main table and each join of the mapping lie. A join that is not named lies where the
    /// main table does: another sheet of the same workbook, another query of the same database.
    pub fn places(&self, mapping: &Mapping) -> Result<(Place, Vec<Place>), Vec<Fault>> {
        let mut faults = Faults::of(&self.file);
        for (name, place) in &self.joins {
            if !mapping.joins.iter().any(|join| join.name == *name) {
                let known: Vec<&str> = mapping
                    .joins
                    .iter()
                    .map(|join| join.name.as_str())
                    .collect();
                faults.at("CONNECT_UNKNOWN_JOIN", place, name, &known.join(", "));
            }
        }
        let main = fit(&mapping.input, &self.main, "data", &mut faults);
        let joins = mapping
            .joins
            .iter()
            .filter_map(|join| {
                let place = match (self.joins.get(&join.name), &join.input) {
                    (Some(place), _) => place,
                    (None, Input::Xlsx(_) | Input::Postgres(_)) => &self.main,
                    (None, _) => {
                        faults.at("CONNECT_JOIN_MISSING", &self.main, &join.name, "");
                        return None;
                    }
                };
                fit(&join.input, place, &join.name, &mut faults)
            })
            .collect();
        match main {
            Some(main) if faults.is_empty() => Ok((main, joins)),
            _ => Err(faults.sorted()),
        }
    }
}

fn fit(input: &Input, place: &At<Located>, name: &str, faults: &mut Faults) -> Option<Place> {
    match (&place.value, input.is_file()) {
        (Located::File(path), true) => Some(Place::File(path.clone())),
        (Located::Database(place), false) => Some(place.clone()),
        (Located::Nowhere, _) => None,
        (_, is_file) => {
            let wanted = if is_file {
                "file"
            } else {
                "database_url_file, database_url_env"
            };
            faults.at("CONNECT_PLACE", place, name, wanted);
            None
        }
    }
}

fn place(raw: &At<RawPlace>, base: &Path, faults: &mut Faults) -> At<Located> {
    let RawPlace {
        file,
        database_url_file,
        database_url_env,
    } = &raw.value;
    let value = match (file, database_url_file, database_url_env) {
        (Some(file), None, None) => Located::File(base.join(expand(file, faults))),
        (None, Some(text), None) => {
            let path = base.join(expand(text, faults));
            match secret(&path) {
                Ok(url) => Located::Database(Place::Database(url)),
                Err(code) => {
                    faults.at(code, text, "database_url_file", &path.display().to_string());
                    Located::Nowhere
                }
            }
        }
        (None, None, Some(name)) => match std::env::var(&name.value) {
            Ok(url) => Located::Database(Place::Database(url)),
            Err(_) => {
                faults.at("CONNECT_ENVIRONMENT", name, &name.value, "");
                Located::Nowhere
            }
        },
        _ => {
            faults.at(
                "CONNECT_ONE_PLACE",
                raw,
                "data",
                "file, database_url_file, database_url_env",
            );
            Located::Nowhere
        }
    };
    At {
        value,
        referenced: raw.referenced,
        defined: raw.defined,
    }
}

/// A file that holds a password: refused when others can read it.
fn secret(path: &Path) -> Result<String, &'static str> {
    let meta = std::fs::metadata(path).map_err(|_| "CONNECT_SECRET_MISSING")?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err("CONNECT_SECRET_EXPOSED");
    }
    if meta.len() > MAX_URL_BYTES {
        return Err("CONNECT_SECRET_MISSING");
    }
    let text = std::fs::read_to_string(path).map_err(|_| "CONNECT_SECRET_MISSING")?;
    Ok(text.trim().to_owned())
}

/// `${NAME}` from the environment.
fn expand(text: &At<String>, faults: &mut Faults) -> String {
    let mut out = String::new();
    let mut rest = text.value.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        match std::env::var(name) {
            Ok(value) => out.push_str(&value),
            Err(_) => faults.at("CONNECT_ENVIRONMENT", text, name, ""),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}
