//! How a command ends: an exit code, and what a person is told.

use std::error::Error;
use std::process::ExitCode;
use std::sync::OnceLock;

use mz_contract::{Fault, Lang, Reasons};

use crate::cli::LangArg;
use crate::exit;

static LANG: OnceLock<Lang> = OnceLock::new();

/// The language of messages: `--lang`, else the locale's, else English.
pub fn set_lang(asked: Option<LangArg>) {
    let lang = match asked {
        Some(LangArg::Zh) => Lang::Zh,
        Some(LangArg::En) => Lang::En,
        None => ["LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty())
            .map_or(Lang::En, |tag| Lang::from_tag(&tag)),
    };
    let _ = LANG.set(lang);
}

pub fn lang() -> Lang {
    LANG.get().copied().unwrap_or(Lang::En)
}

/// One text in the language of this run.
pub fn say(zh: &str, en: &str) -> String {
    match lang() {
        Lang::Zh => zh.to_owned(),
        Lang::En => en.to_owned(),
    }
}

pub type Outcome = Result<(), Failure>;

/// A typed error of a service: what its code says in this run's language, then the chain.
pub fn coded(exit_code: u8, code: &str, error: &(dyn Error + 'static)) -> Failure {
    let reasons = Reasons::built_in();
    let mut failure = Failure::chain(exit_code, error);
    if reasons.contains(code) {
        // What a service refused says its own code already, in one language.
        let own = format!("{code}: ");
        failure.lines.retain(|line| !line.starts_with(&own));
        let mut first = format!("{own}{}", reasons.text(code, lang()));
        if let Some(fix) = reasons.fix(code, lang()) {
            first = format!("{first} {fix}");
        }
        failure.lines.insert(0, first);
    }
    failure
}

/// Why a command did not succeed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    lines: Vec<String>,
}

impl Failure {
    pub fn new(code: u8, line: impl Into<String>) -> Self {
        Self {
            code,
            lines: vec![line.into()],
        }
    }

    /// Everything was said already; only the exit code is left.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            lines: Vec::new(),
        }
    }

    /// An error with its chain of causes, each said once.
    pub fn chain(code: u8, error: &(dyn Error + 'static)) -> Self {
        let mut lines = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if lines.last().is_none_or(|last| !last.contains(&text)) {
                lines.push(text);
            }
            cause = inner.source();
        }
        Self { code, lines }
    }

    /// One more line, for what the person can do.
    pub fn and(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Several lines of equal rank.
    pub fn lines(code: u8, lines: Vec<String>) -> Self {
        Self { code, lines }
    }

    pub fn faults(faults: &[Fault]) -> Self {
        let reasons = Reasons::built_in();
        let mut lines: Vec<String> = faults
            .iter()
            .map(|fault| reasons.render_fault(fault, lang()))
            .collect();
        lines.push(say(
            &format!("合同有 {} 处问题", faults.len()),
            &format!("the contract has {} fault(s)", faults.len()),
        ));
        Self {
            code: exit::FAULTS,
            lines,
        }
    }

    pub fn report(self) -> ExitCode {
        for (depth, line) in self.lines.iter().enumerate() {
            if depth == 0 || self.code == exit::FAULTS {
                eprintln!("{line}");
            } else {
                eprintln!("  {}: {line}", say("原因", "because"));
            }
        }
        ExitCode::from(self.code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::chain(exit::FAILED, error.as_ref())
    }
}

impl From<Vec<Fault>> for Failure {
    fn from(faults: Vec<Fault>) -> Self {
        Self::faults(&faults)
    }
}

/// Writes to standard output. A reader that went away (`| head`) ends the program quietly.
pub fn print(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// `println!`, but through [`print`].
#[macro_export]
macro_rules! say_line {
    ($($part:tt)*) => {
        $crate::outcome::print(format_args!("{}\n", format_args!($($part)*)))
    };
}
