//! A fresh database with an index, and random entries from a seed.

use std::borrow::Cow;

use mz_journal::{
    AUDIT_WRITERS, Audit, AuditCause, AuditCounts, AuditKind, GrantId, RecordTag, SubjectTag,
    field_bitmap,
};
use mz_ledger::index::{Index, PageRequest, Period, SCHEMA};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::PgPool;

pub const ORIGIN: &str = "ledger.test/3/2024";
/// 2024-01-01T00:00:00Z.
pub const START_MS: i64 = 1_704_067_200_000;
pub const DAY_MS: i64 = 86_400_000;
pub const ALWAYS: Period = Period {
    from_ms: i64::MIN,
    to_ms: i64::MAX,
};

pub const KINDS: [AuditKind; 5] = [
    AuditKind::Delivered,
    AuditKind::Denied,
    AuditKind::Summary,
    AuditKind::Lookup,
    AuditKind::Exposed,
];
pub const CONSUMERS: [&str; 4] = ["", "police", "union", "tax"];
pub const PURPOSES: [&str; 3] = ["settlement", "retirement-help", "audit"];
pub const DATASETS: [&str; 3] = [
    "hrss.insurance.status.v1",
    "civil.person.v2",
    "tax.income.v1",
];
pub const RULES: [&str; 4] = ["", "NO_GRANT", "NO_GRANT,PAUSED", "OUT_OF_SCOPE PAUSED"];

pub struct World {
    pub url: String,
    pub index: Index,
    /// As the owner, past the index.
    pub owner: PgPool,
}

impl World {
    pub async fn new() -> Self {
        let url = mz_stack::testing::shared().database();
        let index = Index::open(&url, SCHEMA).expect("index");
        index.migrate().await.expect("migrations");
        assert!(index.is_current().await.expect("migrations"));
        let owner = mz_database::Database::new(&url, SCHEMA, "test").expect("database");
        let owner = owner.pool(3);
        Self { url, index, owner }
    }

    pub async fn append(&self, first_leaf: u64, entries: &[Audit<'_>]) {
        let appended = self.index.append(ORIGIN, first_leaf, entries).await;
        assert_eq!(
            appended.expect("append").size,
            first_leaf + entries.len() as u64
        );
    }

    /// As the owner.
    pub async fn sql(&self, sql: &'static str) -> u64 {
        let done = sqlx::query(sql).execute(&self.owner).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"))
            .rows_affected()
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(&self.owner).await;
        count.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

pub fn subject(number: u8) -> SubjectTag {
    SubjectTag([number; 16])
}

/// Page after page of so many items.
pub fn first(limit: usize) -> PageRequest {
    PageRequest {
        cursor: None,
        limit: Some(limit),
    }
}

/// All pages of a query, one after the other.
#[macro_export]
macro_rules! all_pages {
    ($limit:expr, |$page:ident| $query:expr) => {{
        let mut $page = $crate::index::world::first($limit);
        let mut items = Vec::new();
        loop {
            let answer = $query.await.expect("a page");
            assert!(answer.items.len() <= $limit);
            items.extend(answer.items);
            if answer.cursor.is_none() {
                break items;
            }
            $page.cursor = answer.cursor;
        }
    }};
}

/// An entry with everything in it.
pub fn full(number: u64) -> Audit<'static> {
    let mut audit = Audit::empty(
        AUDIT_WRITERS[4],
        63,
        START_MS + 7,
        AuditKind::Erased,
        AuditCause::Rule,
    );
    audit.number = number;
    audit.agreement = "union/retirement-help".into();
    audit.consumer = "union".into();
    audit.purpose = "retirement-help".into();
    audit.dataset = DATASETS[0].into();
    audit.subject = subject(200);
    audit.record = RecordTag([201; 16]);
    audit.grant = Some(GrantId([202; 16]));
    audit.fields = Cow::Owned(field_bitmap(&[0, 7, 8, 2_047]));
    audit.rule = RULES[2].into();
    audit.event = [203; 32];
    audit.version_epoch = u32::MAX;
    audit.version_counter = u64::MAX - 1;
    audit.source_offset = i64::MAX;
    audit.output_sequence = u64::MAX - 2;
    audit.operator = "op-17".into();
    audit.reason = "复核 2024-17".into();
    audit.counts = AuditCounts {
        matched: u32::MAX,
        delivered: u32::MAX - 1,
        denied: 1,
        out_of_scope: 7,
        from_offset: 5,
        to_offset: 9,
    };
    audit
}

/// Random entries over `days` days, numbered from 1, times mostly rising.
pub fn random(seed: u64, count: u64, days: i64) -> Vec<Audit<'static>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let step = days * DAY_MS / count.max(1).cast_signed();
    let entry = |number: u64| {
        let at = START_MS + (number.cast_signed() - 1) * step + rng.random_range(0..=step);
        let kind = KINDS[rng.random_range(0..KINDS.len())];
        let mut audit = Audit::empty(
            AUDIT_WRITERS[rng.random_range(0..2)],
            rng.random_range(0..3),
            at,
            kind,
            AuditCause::Stream,
        );
        let consumer = CONSUMERS[rng.random_range(0..CONSUMERS.len())];
        let purpose = PURPOSES[rng.random_range(0..PURPOSES.len())];
        audit.number = number;
        audit.consumer = consumer.into();
        audit.dataset = DATASETS[rng.random_range(0..DATASETS.len())].into();
        if !consumer.is_empty() {
            audit.purpose = purpose.into();
            audit.agreement = Cow::Owned(format!("{consumer}/{purpose}"));
        }
        match kind {
            AuditKind::Summary => {
                let from = rng.random_range(0..2_000);
                audit.counts = AuditCounts {
                    matched: 5,
                    delivered: 3,
                    denied: 1,
                    out_of_scope: 1,
                    from_offset: from,
                    to_offset: from + rng.random_range(0..9),
                };
            }
            AuditKind::Denied => {
                audit.rule = RULES[rng.random_range(0..RULES.len())].into();
                audit.counts.denied = rng.random_range(0..4);
            }
            AuditKind::Lookup => {
                audit.operator = "auditor-3".into();
                audit.reason = "complaint 12".into();
            }
            _ => audit.source_offset = rng.random_range(0..2_000),
        }
        if kind != AuditKind::Summary {
            audit.subject = subject(rng.random_range(1..6));
            audit.event = [rng.random_range(0..2); 32];
            let fields: Vec<u16> = (0..12).filter(|_| rng.random_bool(0.3)).collect();
            audit.fields = Cow::Owned(field_bitmap(&fields));
        }
        audit
    };
    (1..=count).map(entry).collect()
}
