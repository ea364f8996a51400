//! The A4 sheet (数据核验单) of an evidence bundle: what goes into the case file where the paper
//! proofs were. Everything from the bundle is escaped; only the QR code is markup, made here.

use askama::Template;
use chrono::{DateTime, FixedOffset};
use mz_contract::Lang;
use mz_vault::bundle::{Bundle, FactEntry, FactState, Text};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde_json::Value;

use crate::rows::{Field, Row, rows};

/// Time on the sheet is Beijing time.
const BEIJING_OFFSET_SECONDS: i32 = 8 * 3600;

#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    #[error("the bundle carries no signature")]
    Unsigned,
    #[error("QR code")]
    Qr(#[from] qrcode::types::QrError),
    #[error("sheet")]
    Render(#[from] askama::Error),
}

/// The sheet as one self-contained HTML page.
pub fn sheet(bundle: &Bundle) -> Result<String, SheetError> {
    let signature = bundle.signature.as_ref().ok_or(SheetError::Unsigned)?;
    let page = Sheet {
        number: bundle.bundle_id.get(..8).unwrap_or_default(),
        bundle,
        issued: local(&bundle.issued_at),
        facts: rows(&bundle.facts, Lang::Zh)
            .into_iter()
            .map(FactRow::of)
            .collect(),
        qr: qr(&qr_text(&bundle.bundle_id, &signature.digest))?,
        digest: &signature.digest,
        signer: &signature.key_id,
        contract: bundle.contract.get(..16).unwrap_or(&bundle.contract),
    };
    Ok(page.render()?)
}

/// What the QR code says: enough to find the bundle and to see that the sheet is of that bundle.
pub fn qr_text(bundle_id: &str, digest: &str) -> String {
    format!("mzb1:{bundle_id}:{digest}")
}

#[derive(Template)]
#[template(path = "sheet.html")]
struct Sheet<'a> {
    number: &'a str,
    bundle: &'a Bundle,
    issued: String,
    facts: Vec<FactRow<'a>>,
    /// SVG made by this program from the QR code's modules.
    qr: String,
    digest: &'a str,
    signer: &'a str,
    contract: &'a str,
}

struct FactRow<'a> {
    entry: &'a FactEntry,
    class: &'static str,
    state: Text,
    rows: Vec<Field>,
    as_of: Option<String>,
    complete_to: Option<String>,
    since: Option<String>,
}

impl<'a> FactRow<'a> {
    fn of(row: Row<'a>) -> Self {
        let entry = row.entry;
        Self {
            entry,
            class: class(entry.state),
            state: state_text(entry.state),
            rows: row.fields,
            as_of: row.as_of,
            complete_to: entry.complete_to.as_deref().map(local),
            since: entry.since.as_deref().map(local),
        }
    }
}

const fn class(state: FactState) -> &'static str {
    match state {
        FactState::Present => "present",
        FactState::None => "none",
        FactState::SourceUnavailable => "source_unavailable",
        FactState::NotPermitted => "not_permitted",
    }
}

/// A state in words.
pub fn state_text(state: FactState) -> Text {
    let (zh, en) = match state {
        FactState::Present => ("已核验", "verified"),
        FactState::None => ("无记录", "no record"),
        FactState::SourceUnavailable => ("来源暂不可用", "source unavailable"),
        FactState::NotPermitted => ("不在共享范围", "not permitted"),
    };
    Text {
        zh: zh.to_owned(),
        en: en.to_owned(),
    }
}

/// A field's value as text: lists on one line, nested records as their values in order.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "—".to_owned(),
        Value::Bool(true) => "是".to_owned(),
        Value::Bool(false) => "否".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "无".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(";"),
        Value::Object(map) => map.values().map(shown).collect::<Vec<_>>().join(" "),
    }
}

/// RFC 3339 in UTC → `2026-01-31 09:05` in Beijing; anything else as it is.
pub fn local(time: &str) -> String {
    let Some(beijing) = FixedOffset::east_opt(BEIJING_OFFSET_SECONDS) else {
        return time.to_owned();
    };
    DateTime::parse_from_rfc3339(time).map_or_else(
        |_| time.to_owned(),
        |t| {
            t.with_timezone(&beijing)
                .format("%Y-%m-%d %H:%M")
                .to_string()
        },
    )
}

fn qr(text: &str) -> Result<String, SheetError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
    let svg = code
        .render::<svg::Color<'_>>()
        .quiet_zone(false)
        .min_dimensions(108, 108)
        .build();
    // Inline SVG: no XML declaration inside HTML.
    Ok(svg
        .find("<svg")
        .map_or(svg.clone(), |at| svg[at..].to_owned()))
}
