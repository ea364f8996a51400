//! One thing wrong with the contract: a code, where it is, and what it is about.

use std::fmt;

use serde_saphyr::Location;

/// A fault of the contract. Its texts in zh and en are in `schemas/reasons.yaml` under `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: &'static str,
    /// Path below the contract root, with `/`.
    pub file: String,
    /// 1-based; 0 when the fault is about a file as a whole.
    pub line: u32,
    /// 1-based, in characters; 0 when the fault is about a line or a file as a whole.
    pub column: u32,
    /// The key, field or id that is wrong.
    pub field: String,
    /// What else the text needs: the limit, the other file, the parser's words.
    pub detail: String,
}

impl fmt::Display for Fault {
    /// For logs and developers. People get `Reasons::render_fault`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {} {}",
            self.file, self.line, self.column, self.code, self.field
        )?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Faults as they are found. Lint reports all of them, not the first.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    pub(crate) fn push(
        &mut self,
        code: &'static str,
        file: &str,
        at: &Location,
        field: &str,
        detail: &str,
    ) {
        let line = u32::try_from(at.line()).unwrap_or(u32::MAX);
        let column = u32::try_from(at.column()).unwrap_or(u32::MAX);
        self.push_at(code, file, (line, column), field, detail);
    }

    pub(crate) fn push_at(
        &mut self,
        code: &'static str,
        file: &str,
        at: (u32, u32),
        field: &str,
        detail: &str,
    ) {
        self.0.push(Fault {
            code,
            file: file.to_owned(),
            line: at.0,
            column: at.1,
            field: field.to_owned(),
            detail: detail.to_owned(),
        });
    }

    /// In reading order, each once.
    pub(crate) fn sorted(mut self) -> Vec<Fault> {
        self.0.sort_by(|a, b| {
            (&a.file, a.line, a.column, a.code, &a.field)
                .cmp(&(&b.file, b.line, b.column, b.code, &b.field))
        });
        self.0.dedup();
        self.0
    }
}
