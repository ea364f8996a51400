//! A synthetic city's registers inside an installation, and the connectors that publish them.

use crate::install::{Installation, repository};
use crate::registers;
use mz_city::{Expected, Options, load_property};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The connectors of the shipped mappings: name and configuration.
pub const CONNECTORS: [&str; 7] = [
    "hrss-insurance",
    "hrss-talent",
    "realestate-right",
    "police-household",
    "police-appointment",
    "union-hardship",
    "civil-minliving",
];
/// Longest that one pass of one connector may take.
pub const PASS_LIMIT: Duration = Duration::from_secs(240);

/// The registers, written below `<installation>/city`.
#[derive(Debug)]
pub struct City {
    options: Options,
    property_database: String,
    admin_url: String,
}

impl City {
    /// Writes a city of today.
    pub fn write(it: &Installation, persons: u64, seed: u64, marks: bool) -> Self {
        let mut options = Options::new(it.exports(), persons, seed);
        options.marks = marks;
        options.as_of = chrono::Local::now().date_naive();
        let city = Self {
            options,
            property_database: format!("bdc_{}", it.prefix().trim_end_matches('.')),
            admin_url: it.database_url().to_owned(),
        };
        city.export(0);
        city
    }

    /// Writes the registers as they are some exports later, over the earlier ones.
    pub fn export(&self, snapshot: u32) -> Expected {
        let expected = match mz_city::mutate(&self.options, snapshot) {
            Ok(expected) => expected,
            Err(error) => panic!("the city: {error}"),
        };
        let script = self.options.out.join("realestate/property.sql");
        match load_property(&self.admin_url, &self.property_database, &script) {
            Ok(url) => crate::install::write_private(&self.options.out.join("property.url"), &url),
            Err(error) => panic!("the property register: {error}"),
        }
        expected
    }

    /// What is in the registers now.
    pub fn expected(&self) -> Expected {
        registers::expected(&self.options.out)
    }

    /// Where the registers lie.
    pub fn path(&self) -> &Path {
        &self.options.out
    }
}

/// The configuration of a shipped connector.
pub fn configuration(connector: &str) -> PathBuf {
    repository()
        .join("connectors/mappings")
        .join(format!("{connector}.connect.yaml"))
}

/// Publishes one register to its end.
#[track_caller]
pub fn publish(it: &Installation, connector: &str) {
    let configuration = configuration(connector);
    let args = ["connect", &configuration.display().to_string(), "--once"];
    // 7: some rows were rejected, the good ones are published.
    it.finish(connector, &args, PASS_LIMIT, &[0, 7]);
}

/// Publishes all registers, side by side.
#[track_caller]
pub fn publish_all(it: &Installation) {
    std::thread::scope(|scope| {
        for connector in CONNECTORS {
            scope.spawn(move || publish(it, connector));
        }
    });
}
