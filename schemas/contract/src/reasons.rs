//! Every reason a person may be shown, by code, in Chinese and English: `schemas/reasons.yaml`.
//!
//! A text may hold `{field}` and `{detail}` or other named places; `render` fills them.

use std::collections::BTreeMap;

use crate::fault::{Fault, Faults};
use crate::raw::RawReason;
use crate::yaml::{self, Located};

/// The languages every text exists in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    #[default]
    Zh,
    En,
}

impl Lang {
    /// From `zh`, `zh_CN.UTF-8`, `en` …; anything that doesn't start with `zh` reads as English.
    #[must_use]
    pub fn from_tag(tag: &str) -> Self {
        if tag
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("zh"))
        {
            Self::Zh
        } else {
            Self::En
        }
    }
}

/// The same text in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Text {
    pub zh: String,
    pub en: String,
}

impl Text {
    #[must_use]
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::Zh => &self.zh,
            Lang::En => &self.en,
        }
    }
}

/// What a code says, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub text: Text,
    pub fix: Option<Text>,
}

/// Code → texts.
#[derive(Clone, Debug, Default)]
pub struct Reasons(BTreeMap<String, Reason>);

const BUILT_IN: &str = include_str!("../../reasons.yaml");
pub(crate) const REASONS_FILE: &str = "reasons.yaml";

impl Reasons {
    /// The texts that this build was made with: for messages that appear before a contract is loaded.
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN, &mut Faults::default())
    }

    pub(crate) fn parse(text: &str, faults: &mut Faults) -> Self {
        let Some(raw) =
            yaml::parse::<BTreeMap<String, Located<RawReason>>>(REASONS_FILE, text, faults)
        else {
            return Self::default();
        };
        let mut reasons = BTreeMap::new();
        for (code, reason) in raw {
            let at = &reason.referenced;
            if !is_code(&code) {
                faults.push("REASON_BAD_CODE", REASONS_FILE, at, &code, "");
            }
            let mut text = Text::default();
            for (lang, source, target) in [
                ("zh", &reason.value.zh, &mut text.zh),
                ("en", &reason.value.en, &mut text.en),
            ] {
                match source {
                    Some(source) if !source.trim().is_empty() => target.clone_from(source),
                    _ => faults.push("REASON_TEXT_MISSING", REASONS_FILE, at, &code, lang),
                }
            }
            let fix = reason.value.fix.map(|fix| Text {
                zh: fix.zh,
                en: fix.en,
            });
            reasons.insert(code, Reason { text, fix });
        }
        Self(reasons)
    }

    #[must_use]
    pub fn get(&self, code: &str) -> Option<&Reason> {
        self.0.get(code)
    }

    #[must_use]
    pub fn contains(&self, code: &str) -> bool {
        self.0.contains_key(code)
    }

    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The text of a code; the code itself when there is none.
    #[must_use]
    pub fn text<'a>(&'a self, code: &'a str, lang: Lang) -> &'a str {
        self.0
            .get(code)
            .map_or(code, |reason| reason.text.get(lang))
    }

    /// What to do about it, where the file says so.
    #[must_use]
    pub fn fix(&self, code: &str, lang: Lang) -> Option<&str> {
        self.0.get(code)?.fix.as_ref().map(|fix| fix.get(lang))
    }

    /// The text of a code with its `{places}` filled.
    #[must_use]
    pub fn render(&self, code: &str, lang: Lang, places: &[(&str, &str)]) -> String {
        let mut text = self.text(code, lang).to_owned();
        for (name, value) in places {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// One fault as a line `file:line:column: CODE text`, and its remedy as a second line.
    #[must_use]
    pub fn render_fault(&self, fault: &Fault, lang: Lang) -> String {
        let places = [
            ("field", fault.field.as_str()),
            ("detail", fault.detail.as_str()),
        ];
        let mut line = format!(
            "{}:{}:{}: {} {}",
            fault.file,
            fault.line,
            fault.column,
            fault.code,
            self.render(fault.code, lang, &places)
        );
        if let Some(fix) = self.fix(fault.code, lang) {
            line.push_str("\n    → ");
            for (index, part) in fix.split("{field}").enumerate() {
                if index > 0 {
                    line.push_str(&fault.field);
                }
                line.push_str(&part.replace("{detail}", &fault.detail));
            }
        }
        line
    }
}

/// `UPPER_SNAKE`, starting with a letter.
fn is_code(code: &str) -> bool {
    code.starts_with(|c: char| c.is_ascii_uppercase())
        && code
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
