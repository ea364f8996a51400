//! Who read what about one person: walks the person's lane of the audit log, checks each writer's
//! chain on the way, and keeps the entries about that person. A page at a time; a cursor carries
//! the chains on.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use mz_bus::{BusError, BusOptions, Isolation, Polled, Position, Reader, Record};
use mz_contract::{Answer, Contract, Section};
use mz_journal::{
    AUDIT_WRITERS, Audit, AuditKind, AuditWriter, Chain, ChainBreak, SubjectTag, bitmap_fields,
    extend_chain, topics,
};
use mz_seal::timestamp_text;
use mz_vault::bundle::{ReasonEntry, Text};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_CURSOR_BYTES, MAX_SCAN_RECORDS};

/// Longest wait for the next record of the log.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_RECORDS: usize = 1_024;

/// `POST /v1/who-read`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoReadRequest {
    /// Identity number (GB 11643). In the body, never in the URL.
    pub id: String,
    pub operator: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// One page of answers, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Where the log does not hold together. Empty: every record up to here continues the one
    /// before it.
    pub breaks: Vec<Break>,
    /// What was walked, per writer.
    pub chains: Vec<Walked>,
    /// Ask again with this for what follows. Absent at the end of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The audit record of this very question.
    pub audit_id: String,
}

/// One thing that was done with the person's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `gateway-3-120`.
    pub audit_id: String,
    /// RFC 3339.
    pub at: String,
    /// `delivered`, `denied`, `lookup`, `exposed`, `case_opened`, `case_closed`, `quarantined`.
    pub kind: String,
    /// `stream`, `backfill`, `request`, `auditor`.
    pub cause: String,
    pub department: Named,
    pub agreement: Named,
    pub purpose: String,
    pub dataset: Named,
    /// The fields that were read, by name.
    pub fields: Vec<Named>,
    /// The rules that decided.
    pub rules: Vec<ReasonEntry>,
    pub operator: String,
    pub reason: String,
    /// The case or consent, hex.
    pub grant: Option<String>,
    /// How many agreements one denial stands for.
    pub denied: u32,
    /// Version of the record that was read: stream epoch and counter.
    pub version: Option<(u32, u64)>,
}

/// An id with its title in the contract, as far as the contract still knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub id: String,
    pub title: Text,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    pub writer: String,
    pub offset: i64,
    pub code: String,
    /// Lane and numbers; nothing about a person.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    pub writer: String,
    pub first: u64,
    pub last: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the audit log can't be read")]
    Bus(#[from] BusError),
    #[error("the audit log did not end within {READ_TIMEOUT:?}")]
    Stalled,
}

impl ScanError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Bus(error) => error.code(),
            Self::Stalled => "BUS_UNAVAILABLE",
        }
    }
}

/// What to look for.
pub struct Scan {
    pub lane: u16,
    pub subject: SubjectTag,
    /// Only what this department did.
    pub department: Option<String>,
    pub cursor: Option<Cursor>,
    pub limit: usize,
    pub audit_id: String,
}

/// Where a page ended. It holds positions and hashes of the log, nothing about a person; whoever
/// alters theirs fools nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    lane: u16,
    offset: i64,
    /// Per writer: last number, and the chain after it.
    chains: Vec<(u8, u64, [u8; 32])>,
}

impl Cursor {
    /// `None`: not a cursor, or one of another lane.
    pub fn parse(text: &str, lane: u16) -> Option<Self> {
        if text.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let cursor: Self = serde_json::from_slice(&BASE64.decode(text).ok()?).ok()?;
        (cursor.lane == lane && cursor.offset >= 0).then_some(cursor)
    }

    fn text(&self) -> String {
        // A struct of numbers always has a JSON form.
        BASE64.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Reads one page.
pub fn scan(bus: &BusOptions, contract: &Contract, wanted: &Scan) -> Result<Page, ScanError> {
    let lane = i32::from(wanted.lane);
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    // The log is written while it is read: the page ends where it ended now.
    let (low, high) = reader.watermarks(topics::AUDIT, lane)?;
    let from = wanted.cursor.as_ref().map_or(low, |cursor| cursor.offset);
    reader.assign(&[(topics::AUDIT, lane, Position::Offset(from))])?;
    let mut walk = Walk::new(contract, wanted, low);
    let mut ended = false;
    while !ended && !walk.is_full() {
        let handed = reader.poll(POLL_RECORDS, READ_TIMEOUT, |polled| match polled {
            Polled::Record(record) => walk.take(&record),
            Polled::Eof { .. } => ended = true,
        })?;
        if handed == 0 {
            return Err(ScanError::Stalled);
        }
        ended |= walk.next >= high;
    }
    Ok(walk.page(ended))
}

struct Walk<'a> {
    contract: &'a Contract,
    wanted: &'a Scan,
    chains: BTreeMap<AuditWriter, Chain>,
    walked: BTreeMap<AuditWriter, (u64, u64)>,
    /// Records before the log's first were deleted after the ledger had them.
    trimmed: bool,
    next: i64,
    scanned: u64,
    entries: Vec<Entry>,
    breaks: Vec<Break>,
}

impl<'a> Walk<'a> {
    fn new(contract: &'a Contract, wanted: &'a Scan, low: i64) -> Self {
        let mut chains = BTreeMap::new();
        for (writer, number, digest) in wanted.cursor.iter().flat_map(|cursor| &cursor.chains) {
            if let Some(writer) = AUDIT_WRITERS.get(usize::from(*writer)) {
                chains.insert(
                    *writer,
                    Chain::resume(*writer, wanted.lane, *number, *digest),
                );
            }
        }
        Self {
            contract,
            wanted,
            chains,
            walked: BTreeMap::new(),
            trimmed: low > 0,
            next: wanted.cursor.as_ref().map_or(low, |cursor| cursor.offset),
            scanned: 0,
            entries: Vec::new(),
            breaks: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.wanted.limit || self.scanned >= MAX_SCAN_RECORDS
    }

    fn take(&mut self, record: &Record<'_>) {
        // What a full page can't hold is read again with its cursor.
        if self.is_full() {
            return;
        }
        self.next = record.offset + 1;
        self.scanned += 1;
        let (key, bytes) = (
            record.key.unwrap_or_default(),
            record.value.unwrap_or_default(),
        );
        let Some((writer, _, number)) = topics::parse_audit_key(key) else {
            self.broken(
                None,
                record.offset,
                &ChainBreak::Key {
                    lane: self.wanted.lane,
                    number: 0,
                },
            );
            return;
        };
        let lane = self.wanted.lane;
        let trimmed = self.trimmed;
        let chain = self
            .chains
            .entry(writer)
            .or_insert_with(|| match Audit::read(bytes) {
                // The first record that is left vouches for the ones that the ledger took over.
                Ok(first) if trimmed && number > 1 => {
                    Chain::resume(writer, lane, number - 1, first.prev)
                }
                _ => Chain::new(writer, lane),
            });
        let checked = chain.check(key, bytes).map(Audit::into_owned);
        let audit = match checked {
            Ok(audit) => audit,
            Err(fault) => {
                self.broken(Some(writer), record.offset, &fault);
                match Audit::read(bytes) {
                    // Go on from here: one break must not hide what comes after it.
                    Ok(audit) => {
                        let digest = extend_chain(&audit.prev, bytes);
                        let resumed = Chain::resume(writer, lane, audit.number, digest);
                        self.chains.insert(writer, resumed);
                        audit.into_owned()
                    }
                    Err(_) => return,
                }
            }
        };
        let walked = self
            .walked
            .entry(writer)
            .or_insert((audit.number, audit.number));
        walked.1 = audit.number;
        if self.concerns(&audit) {
            self.entries.push(entry(self.contract, &audit));
        }
    }

    fn concerns(&self, audit: &Audit<'_>) -> bool {
        let department = self.wanted.department.as_deref();
        // That somebody was labelled is nothing that was done with their data.
        audit.kind != AuditKind::SubjectBound
            && audit.subject == self.wanted.subject
            && department.is_none_or(|department| audit.consumer == department)
    }

    fn broken(&mut self, writer: Option<AuditWriter>, offset: i64, fault: &ChainBreak) {
        self.breaks.push(Break {
            writer: writer.map_or("?", AuditWriter::name).to_owned(),
            offset,
            code: fault.code().to_owned(),
            detail: fault.to_string(),
        });
    }

    fn page(self, ended: bool) -> Page {
        let cursor = Cursor {
            lane: self.wanted.lane,
            offset: self.next,
            chains: self
                .chains
                .iter()
                .map(|(writer, chain)| (*writer as u8, chain.number(), *chain.digest()))
                .collect(),
        };
        // The end was reached, but what came after the page was full is still to be read.
        let more = !ended || self.is_full();
        Page {
            entries: self.entries,
            breaks: self.breaks,
            chains: self
                .walked
                .into_iter()
                .map(|(writer, (first, last))| Walked {
                    writer: writer.name().to_owned(),
                    first,
                    last,
                })
                .collect(),
            cursor: more.then(|| cursor.text()),
            audit_id: self.wanted.audit_id.clone(),
        }
    }
}

fn entry(contract: &Contract, audit: &Audit<'_>) -> Entry {
    // A derived answer is no dataset: the fields are those of the record it was computed from.
    let answer = answer(contract, audit);
    let dataset = contract
        .dataset(&audit.dataset)
        .or_else(|| answer.map(|(section, _)| &contract.datasets[section.dataset_ix]));
    let fields = bitmap_fields(&audit.fields).into_iter().map(|index| {
        let field = dataset.and_then(|dataset| dataset.fields.get(usize::from(index)));
        field.map_or_else(
            || Named {
                id: format!("#{index}"),
                title: Text::default(),
            },
            |field| Named {
                id: field.name.clone(),
                title: Text::from(&field.title),
            },
        )
    });
    let reads = matches!(
        audit.kind,
        AuditKind::Delivered
            | AuditKind::Lookup
            | AuditKind::Exposed
            | AuditKind::Denied
            | AuditKind::Withdrawn
    );
    Entry {
        audit_id: format!("{}-{}-{}", audit.writer.name(), audit.lane, audit.number),
        at: timestamp_text(audit.at_ms),
        kind: audit.kind.name().to_owned(),
        cause: audit.cause.name().to_owned(),
        department: Named {
            id: audit.consumer.to_string(),
            title: contract
                .department(&audit.consumer)
                .map(|department| Text::from(&department.name))
                .unwrap_or_default(),
        },
        agreement: Named {
            id: audit.agreement.to_string(),
            title: contract
                .agreement(&audit.agreement)
                .map(|agreement| Text::from(&agreement.title))
                .unwrap_or_default(),
        },
        purpose: audit.purpose.to_string(),
        dataset: Named {
            id: audit.dataset.to_string(),
            title: answer
                .map(|(_, answer)| &answer.title)
                .or_else(|| dataset.map(|dataset| &dataset.title))
                .map(Text::from)
                .unwrap_or_default(),
        },
        fields: fields.collect(),
        rules: audit
            .rule
            .split([',', ' '])
            .filter(|code| !code.is_empty())
            .map(|code| rule(contract, code))
            .collect(),
        operator: audit.operator.to_string(),
        reason: audit.reason.to_string(),
        grant: audit.grant.map(|grant| grant.hex()),
        denied: audit.counts.denied,
        version: (reads && audit.version_counter > 0)
            .then_some((audit.version_epoch, audit.version_counter)),
    }
}

fn answer<'c>(contract: &'c Contract, audit: &Audit<'_>) -> Option<(&'c Section, &'c Answer)> {
    let sections = &contract.agreement(&audit.agreement)?.sections;
    sections.iter().find_map(|section| {
        let named = |answer: &&Answer| {
            audit.dataset == format!("answer.{}.v{}", answer.name, answer.version)
        };
        section
            .answers
            .iter()
            .find(named)
            .map(|answer| (section, answer))
    })
}

fn rule(contract: &Contract, code: &str) -> ReasonEntry {
    let text = contract
        .reasons
        .get(code)
        .map(|reason| Text::from(&reason.text));
    let text = text.unwrap_or_else(|| Text {
        zh: code.to_owned(),
        en: code.to_owned(),
    });
    ReasonEntry {
        code: code.to_owned(),
        zh: text.zh,
        en: text.en,
    }
}
