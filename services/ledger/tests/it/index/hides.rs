//! Hides held against their audit records: whatever somebody does to the tables past the ledger is named.

use mz_journal::{Audit, AuditCause, AuditKind, AuditWriter};
use mz_ledger::index::{
    Actor, HIDE_APPROVED, HIDE_REQUESTED, Hide, HideFault, HideReport, Hidings, MAX_HIDE_DAYS,
};

use crate::index::world::{DAY_MS, ORIGIN, World, subject};

const LANE: u16 = 3;
const MINUTE: i64 = 60_000;

fn actor(operator: &str, principal: &str) -> Actor {
    Actor {
        operator: operator.to_owned(),
        principal: principal.to_owned(),
    }
}

/// The acts' audit records, as a vault writes them.
struct Acts {
    world: World,
    now: i64,
    log: Vec<Audit<'static>>,
}

impl Acts {
    async fn new() -> Self {
        Self {
            world: World::new().await,
            now: mz_ledger::system_clock(),
            log: Vec::new(),
        }
    }

    fn record(&mut self, rule: &'static str, who: u8, by: (&str, &str), reason: &str) -> usize {
        let (writer, kind) = (AuditWriter::Vault, AuditKind::Hiding);
        let mut audit = Audit::empty(writer, LANE, self.now, kind, AuditCause::Operator);
        audit.number = self.log.len() as u64 + 1;
        audit.subject = subject(who);
        audit.rule = rule.into();
        audit.consumer = by.0.to_owned().into();
        audit.operator = by.1.to_owned().into();
        audit.reason = reason.to_owned().into();
        self.log.push(audit);
        self.log.len() - 1
    }

    fn says(&mut self, at: usize, terms: [u8; 32], until_ms: i64) {
        self.log[at].event = terms;
        self.log[at].version_counter = until_ms.cast_unsigned();
    }

    async fn request(&mut self, who: u8, department: &str, operator: &str, days: i64) -> i64 {
        let hide = Hide {
            subject: subject(who),
            lane: LANE,
            consumer: department.to_owned(),
            until_ms: self.now + days * DAY_MS,
            by: actor(operator, &format!("{department}.window")),
            reason: format!("case {who}"),
        };
        let at = self.record(HIDE_REQUESTED, who, (department, operator), &hide.reason);
        self.says(at, hide.terms(), hide.until_ms);
        self.world
            .index
            .request_hide(&hide, self.now)
            .await
            .unwrap()
    }

    async fn approve(&mut self, number: i64, operator: &str) {
        let approver = actor(operator, "bus.security");
        let waiting = self
            .world
            .index
            .approvable(number, &approver, self.now)
            .await;
        let waiting = waiting.unwrap();
        let at = self.record(
            HIDE_APPROVED,
            waiting.subject.0[0],
            ("bus", operator),
            "checked",
        );
        self.says(at, waiting.terms, waiting.until_ms);
        let approved = self
            .world
            .index
            .approve_hide(number, &approver, self.now)
            .await;
        approved.unwrap();
    }

    /// What a log of one shard says, that went on for a minute afterwards.
    fn hidings(&self) -> Hidings {
        let mut hidings = Hidings::new(1);
        hidings.open(ORIGIN.replace("/3/", "/0/").as_str(), false);
        self.log.iter().for_each(|audit| hidings.take(audit));
        hidings.take(&later(self.now + MINUTE, LANE));
        hidings
    }

    async fn check(&self) -> HideReport {
        self.check_with(&self.hidings()).await
    }

    async fn check_with(&self, hidings: &Hidings) -> HideReport {
        let report = self.world.index.check_hides(hidings, self.now + 2 * MINUTE);
        report.await.unwrap()
    }

    async fn sql(&self, sql: &str) {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        let done = done.execute(&self.world.owner).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One approved of person 1, one that waits of person 2, one of another department, approved.
    async fn three() -> Self {
        let mut acts = Self::new().await;
        let first = acts.request(1, "police", "hz-07", 30).await;
        let _waits = acts.request(2, "police", "hz-08", 60).await;
        let third = acts.request(1, "tax", "t-1", 90).await;
        acts.approve(first, "sec-1").await;
        acts.approve(third, "sec-2").await;
        acts
    }
}

/// A record of something else: the log went on.
fn later(at_ms: i64, lane: u16) -> Audit<'static> {
    let (kind, cause) = (AuditKind::Lookup, AuditCause::Auditor);
    let mut audit = Audit::empty(AuditWriter::Vault, lane, at_ms, kind, cause);
    audit.number = 1_000;
    audit
}

/// What is said in short: code without its prefix, place, record.
fn told(report: &HideReport) -> Vec<String> {
    let told = |fault: &HideFault| {
        let row = fault.row.map(|row| row.to_string());
        let column = fault.column.map(|column| format!(".{column}"));
        format!(
            "{} {} {}{} {}",
            fault.code.trim_start_matches("LEDGER_HIDE_"),
            fault.table,
            row.as_deref().unwrap_or("-"),
            column.unwrap_or_default(),
            fault.audit_id.as_deref().unwrap_or("-")
        )
    };
    report.faults.iter().map(told).collect()
}

#[tokio::test]
async fn every_tampering_with_a_hide_is_named() {
    let acts = Acts::three().await;
    let good = acts.check().await;
    assert_eq!((good.rows, told(&good)), (5, vec![]));
    assert_eq!((good.waiting, good.unchecked), (0, 0));
    // As whoever owns the database: no constraint is in the way.
    acts.sql(
        "ALTER TABLE hidden DROP CONSTRAINT hidden_as_requested, DROP CONSTRAINT hidden_two_people,
             DROP CONSTRAINT hidden_two_principals, DROP CONSTRAINT hidden_request_key;
         ALTER TABLE hide_request DROP CONSTRAINT hide_request_term;
         CREATE TABLE kept_requests AS SELECT * FROM hide_request;
         CREATE TABLE kept AS SELECT * FROM hidden;
         CREATE TABLE kept_words AS SELECT * FROM word",
    )
    .await;
    let (request, approval) = ("vault-3-1", "vault-3-4");
    let columns = "subject, lane, consumer, until, requested_by, requested_as, reason";
    let approve =
        "INSERT INTO hidden (request, subject, consumer, until, requested_by, requested_as, reason,
             approved_by, approved_as)
         SELECT id, subject, consumer, until, requested_by, requested_as, reason";
    let police = "(SELECT id FROM word WHERE text = 'police')";
    let tamperings: Vec<(String, Vec<String>)> = vec![
        // A hide that nobody asked for, with and without its request.
        (
            format!(
                "INSERT INTO hide_request ({columns}) SELECT '\\x{}', 3, {police}, now() + interval '9 days',
                     'hz-07', 'police.window', 'case 9'",
                "09".repeat(16)
            ),
            vec!["UNREQUESTED hide_request 4 -".into()],
        ),
        (
            format!(
                "INSERT INTO hide_request ({columns}) SELECT subject, lane, consumer, now() + interval '99 days',
                     'hz-66', requested_as, 'case 66' FROM hide_request WHERE id = 1;
                 {approve}, 'sec-1', 'bus.security' FROM hide_request WHERE id = 4"
            ),
            vec![
                "UNAPPROVED hidden 3 -".into(),
                "UNREQUESTED hide_request 4 -".into(),
            ],
        ),
        (
            format!("{approve}, 'sec-1', 'bus.security' FROM hide_request WHERE id = 1;
                 UPDATE hidden SET request = 77 WHERE id = 3"),
            vec!["UNREQUESTED hidden 3 -".into()],
        ),
        // The same request twice has one record.
        (
            format!("INSERT INTO hide_request ({columns}) SELECT {columns} FROM hide_request WHERE id = 1"),
            vec!["UNREQUESTED hide_request 4 -".into()],
        ),
        // Requested, and never approved; approved by who asked.
        (
            format!("{approve}, 'sec-1', 'bus.security' FROM hide_request WHERE id = 2"),
            vec!["UNAPPROVED hidden 3 -".into()],
        ),
        (
            format!("{approve}, 'HZ-08 ', 'bus.security' FROM hide_request WHERE id = 2"),
            vec![
                "SELF_APPROVED hidden 3 -".into(),
                "UNAPPROVED hidden 3 -".into(),
            ],
        ),
        (
            format!("{approve}, 'sec-1', 'police.window' FROM hide_request WHERE id = 2"),
            vec![
                "SELF_APPROVED hidden 3 -".into(),
                "UNAPPROVED hidden 3 -".into(),
            ],
        ),
        (
            "UPDATE hidden SET approved_by = requested_by WHERE id = 1".into(),
            vec![
                format!("ALTERED hidden 1.approved_by {approval}"),
                format!("SELF_APPROVED hidden 1 {approval}"),
            ],
        ),
        // Prolonged: in one table, in both; ended early; by less than a millisecond.
        (
            "UPDATE hidden SET until = until + interval '1 day' WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.until {approval}")],
        ),
        (
            "UPDATE hide_request SET until = until + interval '1 day' WHERE id = 1;
             UPDATE hidden SET until = until + interval '1 day' WHERE id = 1".into(),
            vec![
                format!("ALTERED hidden 1.until {approval}"),
                format!("ALTERED hide_request 1.until {request}"),
            ],
        ),
        (
            "UPDATE hidden SET until = now() WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.until {approval}")],
        ),
        (
            "UPDATE hide_request SET until = until + interval '1 microsecond' WHERE id = 2".into(),
            vec!["ALTERED hide_request 2.until vault-3-2".into()],
        ),
        // About somebody else, by somebody else, for another department, on another ground.
        (
            "UPDATE hidden SET subject = '\\x09090909090909090909090909090909' WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.subject {approval}")],
        ),
        (
            "UPDATE hide_request SET subject = '\\x09090909090909090909090909090909' WHERE id = 1;
             UPDATE hidden SET subject = '\\x09090909090909090909090909090909' WHERE id = 1".into(),
            vec![
                format!("ALTERED hidden 1.subject {approval}"),
                format!("ALTERED hide_request 1.subject {request}"),
            ],
        ),
        (
            "UPDATE hidden SET consumer = (SELECT id FROM word WHERE text = 'tax') WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.consumer {approval}")],
        ),
        (
            "UPDATE word SET text = 'civil' WHERE text = 'tax'".into(),
            vec![
                "ALTERED hidden 2.consumer vault-3-5".into(),
                "ALTERED hide_request 3.consumer vault-3-3".into(),
            ],
        ),
        (
            "UPDATE hide_request SET lane = 1 WHERE id = 2".into(),
            vec!["ALTERED hide_request 2.lane vault-3-2".into()],
        ),
        (
            "UPDATE hide_request SET requested_by = 'hz-99' WHERE id = 1".into(),
            vec![format!("ALTERED hide_request 1.requested_by {request}")],
        ),
        (
            "UPDATE hide_request SET requested_as = 'police.auditor' WHERE id = 1".into(),
            vec![format!("ALTERED hide_request 1.requested_as {request}")],
        ),
        (
            "UPDATE hidden SET requested_as = 'police.auditor' WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.requested_as {approval}")],
        ),
        (
            "UPDATE hidden SET reason = 'case 2' WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.reason {approval}")],
        ),
        (
            "UPDATE hidden SET approved_by = 'sec-9' WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.approved_by {approval}")],
        ),
        (
            "UPDATE hidden SET approved_as = 'tax.security' WHERE id = 1".into(),
            vec![format!("ALTERED hidden 1.approved_as {approval}")],
        ),
        // Gone: the hide, the request, both, all.
        (
            "DELETE FROM hidden WHERE id = 1".into(),
            vec![format!("VANISHED hidden - {approval}")],
        ),
        (
            "DELETE FROM hide_request WHERE id = 2".into(),
            vec!["VANISHED hide_request - vault-3-2".into()],
        ),
        (
            "DELETE FROM hide_request WHERE id = 1".into(),
            vec![
                format!("UNREQUESTED hidden 1 {approval}"),
                format!("VANISHED hide_request - {request}"),
            ],
        ),
        (
            "DELETE FROM hidden; DELETE FROM hide_request".into(),
            vec![
                format!("VANISHED hidden - {approval}"),
                "VANISHED hidden - vault-3-5".into(),
                format!("VANISHED hide_request - {request}"),
                "VANISHED hide_request - vault-3-2".into(),
                "VANISHED hide_request - vault-3-3".into(),
            ],
        ),
        // Dated so that its record could still come.
        (
            format!(
                "INSERT INTO hide_request ({columns}, at) SELECT '\\x{}', 3, {police}, now() + interval '900 days',
                     'hz-07', 'police.window', 'case 9', now() + interval '800 days'",
                "09".repeat(16)
            ),
            vec!["UNREQUESTED hide_request 4 -".into()],
        ),
    ];
    let count = tamperings.len();
    for (tamper, wanted) in tamperings {
        acts.sql("ALTER TABLE hide_request ALTER id RESTART WITH 4; ALTER TABLE hidden ALTER id RESTART WITH 3").await;
        acts.sql(&tamper).await;
        assert_eq!(told(&acts.check().await), wanted, "{tamper}");
        acts.sql(
            "DELETE FROM hidden; DELETE FROM hide_request;
             INSERT INTO hide_request OVERRIDING SYSTEM VALUE SELECT * FROM kept_requests;
             INSERT INTO hidden OVERRIDING SYSTEM VALUE SELECT * FROM kept;
             UPDATE word SET text = kept_words.text FROM kept_words WHERE kept_words.id = word.id",
        )
        .await;
        assert_eq!(told(&acts.check().await), Vec::<String>::new(), "{tamper}");
    }
    println!("{count} kinds of tampering");
}

/// An act is recorded before it takes effect: what failed in between can be done again.
#[tokio::test]
async fn an_act_that_failed_is_repeated() {
    let mut acts = Acts::three().await;
    let hide = Hide {
        subject: subject(5),
        lane: LANE,
        consumer: "police".to_owned(),
        until_ms: acts.now + DAY_MS,
        by: actor("hz-07", "police.window"),
        reason: "case 5".to_owned(),
    };
    let at = acts.record(HIDE_REQUESTED, 5, ("police", "hz-07"), "case 5");
    acts.says(at, hide.terms(), hide.until_ms);
    let told_now = told(&acts.check().await);
    assert_eq!(told_now, ["VANISHED hide_request - vault-3-6"]);
    // While it is young, its row may still come.
    let soon = acts
        .world
        .index
        .check_hides(&acts.hidings(), acts.now + 1_000)
        .await;
    assert_eq!(soon.unwrap().waiting, 1);
    let at = acts.record(HIDE_REQUESTED, 5, ("police", "hz-07"), "case 5");
    acts.says(at, hide.terms(), hide.until_ms);
    let number = acts
        .world
        .index
        .request_hide(&hide, acts.now)
        .await
        .unwrap();
    assert_eq!(told(&acts.check().await), Vec::<String>::new());
    // Two approve at one moment, one is faster.
    acts.approve(number, "sec-1").await;
    let other = acts.record(HIDE_APPROVED, 5, ("bus", "sec-2"), "checked");
    acts.says(other, hide.terms(), hide.until_ms);
    assert_eq!(told(&acts.check().await), Vec::<String>::new());
}

/// Records of before they said what is hidden stay good, as far as they say something.
#[tokio::test]
async fn older_records_stay_good() {
    let mut acts = Acts::three().await;
    for audit in &mut acts.log {
        audit.event = [0; 32];
        audit.version_counter = 0;
    }
    assert_eq!(told(&acts.check().await), Vec::<String>::new());
    acts.sql("ALTER TABLE hidden DROP CONSTRAINT hidden_as_requested")
        .await;
    acts.sql("UPDATE hidden SET until = until + interval '1 day' WHERE id = 1")
        .await;
    assert_eq!(
        told(&acts.check().await),
        ["ALTERED hidden 1.until vault-3-4"]
    );
    acts.sql("UPDATE hidden SET until = until - interval '1 day', approved_by = 'x' WHERE id = 1")
        .await;
    assert_eq!(
        told(&acts.check().await),
        ["ALTERED hidden 1.approved_by vault-3-4"]
    );
    acts.sql("UPDATE hidden SET approved_by = 'sec-1' WHERE id = 1")
        .await;
    acts.sql("UPDATE hide_request SET requested_by = 'x' WHERE id = 2")
        .await;
    assert_eq!(
        told(&acts.check().await),
        ["ALTERED hide_request 2.requested_by vault-3-2"]
    );
}

/// What the logs at hand can't tell is no fault, and is counted.
#[tokio::test]
async fn rows_ahead_of_the_log_wait_and_rows_of_absent_logs_are_counted() {
    let mut acts = Acts::three().await;
    let all = acts.log.clone();
    let origin = "dg-bus/audit/0/2026";
    let forged = acts.now + MINUTE;
    // The log ends before the last approval: it may come.
    let mut behind = Hidings::new(1);
    behind.open(origin, false);
    all.iter().take(4).for_each(|audit| behind.take(audit));
    let report = acts.check_with(&behind).await;
    assert_eq!((told(&report), report.waiting), (vec![], 1));
    // Another lane went on for long: it does not come any more.
    behind.take(&later(acts.now + 11 * MINUTE, 1));
    let report = acts.check_with(&behind).await;
    assert_eq!(told(&report), ["UNAPPROVED hidden 2 -"]);

    // Logs of one shard of two: the lane's are elsewhere.
    let mut half = Hidings::new(2);
    half.open(origin, false);
    half.take(&later(forged, 0));
    let report = acts.check_with(&half).await;
    assert_eq!((told(&report), report.unchecked), (vec![], 5));

    // The first log follows one that is not there: what was before it is not known, unless it hides for
    // longer than anybody may.
    let mut cut = Hidings::new(1);
    cut.open(origin, true);
    cut.take(&later(forged, LANE));
    cut.take(&later(forged + 2 * MINUTE, LANE));
    let report = acts.check_with(&cut).await;
    assert_eq!((told(&report), report.unchecked), (vec![], 5));
    acts.now = forged;
    let far = i64::from(MAX_HIDE_DAYS) + 1;
    acts.sql("ALTER TABLE hide_request DROP CONSTRAINT hide_request_term")
        .await;
    acts.sql(&format!(
        "UPDATE hide_request SET until = now() + interval '{far} days' WHERE id = 2"
    ))
    .await;
    let report = acts.check_with(&cut).await;
    assert_eq!(
        (told(&report), report.unchecked),
        (vec!["UNREQUESTED hide_request 2 -".to_owned()], 4)
    );
}
