//! A synthetic city's registers inside an installation, and the connectors that publish them.

use crate::install::{Installation, repository};
use crate::registers;
use mz_city::{Expected, Options, load_property};
use serde_json::Value;
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

/// Columns of the insurance register that tests change.
pub mod insured {
    pub const STATUS: usize = 3;
    pub const EMPLOYER: usize = 9;
    pub const ARREARS: usize = 10;
    pub const WAGE: usize = 11;
    /// Values of [`STATUS`].
    pub const INSURED: &str = "1";
    pub const PAUSED: &str = "2";
}

impl City {
    /// Rows of the insurance register about one person, as they stand there now.
    pub fn insurance(&self, id: &str) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        self.insurance_lines(|row| {
            if row[0] == id {
                rows.push(row.clone());
            }
        });
        rows
    }

    /// The bureau books something about one person's insurances: each row is changed.
    pub fn books(&self, id: &str, change: impl Fn(&mut [String])) {
        let text = self.insurance_lines(|row| {
            if row[0] == id {
                change(row);
            }
        });
        let (bytes, _, _) = encoding_rs::GB18030.encode(&text);
        let path = self.options.out.join("hrss/insurance.csv");
        if let Err(error) = std::fs::write(&path, bytes) {
            panic!("{}: {error}", path.display());
        }
    }

    /// Every line with what `each` made of it.
    fn insurance_lines(&self, mut each: impl FnMut(&mut Vec<String>)) -> String {
        let path = self.options.out.join("hrss/insurance.csv");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let (text, _, _) = encoding_rs::GB18030.decode(&bytes);
        let mut all = String::new();
        for line in text.split_inclusive("\r\n") {
            let mut row: Vec<String> = line.trim_end().split(',').map(str::to_owned).collect();
            each(&mut row);
            all.push_str(&row.join(","));
            all.push_str("\r\n");
        }
        all
    }

    /// Lines of a register in NDJSON.
    pub fn lines(&self, file: &str) -> Vec<Value> {
        let path = self.options.out.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert!(!lines.is_empty(), "{}: nothing in it", path.display());
        lines
    }

    /// Changes every line of a register in NDJSON.
    pub fn rewrites(&self, file: &str, change: impl Fn(&mut Value)) {
        let mut text = String::new();
        for mut line in self.lines(file) {
            change(&mut line);
            text.push_str(&format!("{line}\n"));
        }
        let path = self.options.out.join(file);
        if let Err(error) = std::fs::write(&path, text) {
            panic!("{}: {error}", path.display());
        }
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
