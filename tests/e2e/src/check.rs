//! The result of one check: a name, a figure, and what is wrong.

/// One line of a drill's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    /// What was looked at: "412300 events".
    pub figure: String,
    /// Empty when it holds. The first few faults, tags and positions only.
    pub faults: Vec<String>,
}

/// Most faults that one check tells.
const MAX_FAULTS: usize = 8;

impl Check {
    /// A check that has found nothing wrong yet.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            figure: String::new(),
            faults: Vec::new(),
        }
    }

    /// Notes what is wrong.
    pub fn fault(&mut self, fault: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault.into());
        } else if self.faults.len() == MAX_FAULTS {
            self.faults.push("and more".to_owned());
        }
    }

    /// Two figures that must be the same.
    pub fn equal<T: PartialEq + std::fmt::Display>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.fault(format!("{what}: {found}, expected {expected}"));
        }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Panics with every fault of every check that doesn't hold.
#[track_caller]
pub fn assert_all(checks: &[Check]) {
    let broken: Vec<String> = checks
        .iter()
        .filter(|check| !check.holds())
        .map(|check| {
            format!(
                "{} ({}):\n  {}",
                check.name,
                check.figure,
                check.faults.join("\n  ")
            )
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
