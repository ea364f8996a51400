//! The talent settlement item: what the counter is told for each state of the facts, and by when.

use crate::tree;

use mz_contract::{Contract, Mode, Moment, Outcome, parse_date};
use serde_json::{Value as Json, json};

fn contract() -> Contract {
    Contract::load(&tree::repository(), Mode::Draft).unwrap()
}

fn approval(dependents: usize, valid_until: Json) -> Json {
    let dependents: Vec<_> = (0..dependents)
        .map(|n| json!({"idNo": n.to_string(), "name": "x", "relation": "SON"}))
        .collect();
    json!({"fields": {"status": "APPROVED", "dependents": dependents, "validUntil": valid_until}, "answers": {}})
}

fn present(rows: Json) -> Json {
    json!({"state": "present", "rows": rows})
}

fn facts() -> Json {
    json!({
        "approval": present(json!([approval(0, Json::Null)])),
        "insurance": present(json!([{"fields": {"status": "INSURED", "type": "PENSION"}, "answers": {"insured6of12": true}}])),
        "property": present(json!([{"fields": {"status": "CURRENT", "seized": false, "plannedUse": "DWELLING_UNIT", "share": "50%"}}])),
        "household": {"state": "none", "rows": []},
    })
}

fn decide(facts: &Json) -> Outcome {
    let now = Moment::on(parse_date("2026-11-23").unwrap());
    contract()
        .item("talent-settlement")
        .unwrap()
        .decide(facts, now)
}

fn with(name: &str, fact: Json) -> Json {
    let mut facts = facts();
    facts[name] = fact;
    facts
}

fn assert_outcome(facts: &Json, kind: &str, days: u32, reasons: &[&str]) {
    let outcome = decide(facts);
    assert_eq!(
        (outcome.kind.as_str(), outcome.working_days),
        (kind, days),
        "{outcome:?}"
    );
    assert_eq!(outcome.reasons, reasons);
    let contract = contract();
    for reason in reasons {
        assert!(contract.reasons.contains(reason));
    }
}

#[test]
fn alone_and_approved_is_settled_in_the_same_visit() {
    assert_outcome(&facts(), "same_visit", 0, &["SETTLEMENT_SAME_VISIT"]);
}

#[test]
fn dependents_take_five_working_days() {
    let facts = with(
        "approval",
        present(json!([approval(2, json!("2027-01-01"))])),
    );
    assert_outcome(&facts, "within_term", 5, &["SETTLEMENT_WITH_DEPENDENTS"]);
}

#[test]
fn no_property_means_choosing_the_address_and_never_refusal() {
    for property in [
        json!({"state": "none", "rows": []}),
        // Seized, historic or a shop: no home to register at.
        present(
            json!([{"fields": {"status": "CURRENT", "seized": true, "plannedUse": "DWELLING_UNIT"}}]),
        ),
        present(
            json!([{"fields": {"status": "HISTORIC", "seized": false, "plannedUse": "DWELLING_UNIT"}}]),
        ),
        present(
            json!([{"fields": {"status": "CURRENT", "seized": false, "plannedUse": "COMMERCIAL"}}]),
        ),
    ] {
        let facts = with("property", property);
        assert_outcome(
            &facts,
            "same_visit",
            0,
            &["SETTLEMENT_SAME_VISIT", "SETTLEMENT_CHOOSE_ADDRESS"],
        );
    }
}

#[test]
fn without_a_valid_approval_it_says_where_to_get_one() {
    let expired = present(json!([approval(0, json!("2026-11-22"))]));
    let revoked = present(json!([{"fields": {"status": "REVOKED", "dependents": []}}]));
    for fact in [json!({"state": "none", "rows": []}), expired, revoked] {
        assert_outcome(
            &with("approval", fact),
            "not_eligible",
            0,
            &["SETTLEMENT_NO_APPROVAL"],
        );
    }
    // Its last day counts.
    assert_eq!(
        decide(&with(
            "approval",
            present(json!([approval(0, json!("2026-11-23"))]))
        ))
        .kind,
        "same_visit"
    );
}

#[test]
fn a_source_that_is_away_is_said_and_asks_for_no_paper() {
    let away = json!({"state": "source_unavailable"});
    assert_outcome(
        &with("approval", away.clone()),
        "accepted",
        5,
        &["SETTLEMENT_APPROVAL_UNAVAILABLE"],
    );
    assert_outcome(
        &with("property", away.clone()),
        "same_visit",
        0,
        &["SETTLEMENT_SAME_VISIT", "SETTLEMENT_PROPERTY_UNAVAILABLE"],
    );
    assert_outcome(
        &with("insurance", away.clone()),
        "same_visit",
        0,
        &["SETTLEMENT_SAME_VISIT", "SETTLEMENT_INSURANCE_UNAVAILABLE"],
    );
    assert_outcome(
        &with("household", away),
        "same_visit",
        0,
        &["SETTLEMENT_SAME_VISIT", "SETTLEMENT_HOUSEHOLD_UNAVAILABLE"],
    );
    // Silence is not absence.
    let outcome = decide(&json!({}));
    assert_eq!(outcome.kind, "accepted");
    assert!(
        !outcome
            .reasons
            .iter()
            .any(|code| code == "SETTLEMENT_NO_APPROVAL")
    );
}

#[test]
fn a_suspended_agreement_is_the_departments_problem() {
    let barred = json!({"state": "not_permitted"});
    assert_eq!(
        decide(&with("approval", barred.clone())).reasons[0],
        "SETTLEMENT_APPROVAL_NOT_PERMITTED"
    );
    assert_outcome(
        &with("property", barred),
        "same_visit",
        0,
        &["SETTLEMENT_SAME_VISIT", "SETTLEMENT_FACT_NOT_PERMITTED"],
    );
}

#[test]
fn insurance_that_stopped_shows() {
    let stopped = present(json!([{"fields": {"status": "SUSPENDED", "type": "PENSION"}}]));
    assert_outcome(
        &with("insurance", stopped),
        "same_visit",
        0,
        &["SETTLEMENT_SAME_VISIT", "SETTLEMENT_NOT_INSURED"],
    );
}

#[test]
fn malformed_facts_are_never_a_yes() {
    for approval in [
        json!(null),
        json!("present"),
        json!({"state": "PRESENT", "rows": []}),
        present(json!([{"fields": {"status": "APROVED"}}])),
        present(json!([{"fields": {"status": 1}}])),
        present(json!([{"fields": {"status": "APPROVED", "validUntil": "tomorrow"}}])),
        present(json!({"status": "APPROVED"})),
    ] {
        let outcome = decide(&with("approval", approval));
        assert!(
            matches!(outcome.kind.as_str(), "accepted" | "not_eligible"),
            "{outcome:?}"
        );
    }
}

#[test]
fn what_is_due_skips_holidays_and_counts_make_up_days() {
    let calendar = contract().calendar;
    let due = |from: &str, days: u32| calendar.due(parse_date(from).unwrap(), days);
    for (from, days, expected) in [
        ("2026-11-23", 0, "2026-11-23"),
        ("2026-11-23", 5, "2026-11-30"),
        // Friday: Saturday and Sunday don't count.
        ("2026-11-20", 1, "2026-11-23"),
        // National Day: 10-01 to 10-07 off, Saturday 10-10 worked.
        ("2026-09-30", 3, "2026-10-10"),
        ("2026-09-30", 4, "2026-10-12"),
        // Mid-Autumn is off; Sunday 09-20 is worked.
        ("2026-09-18", 1, "2026-09-20"),
        ("2026-09-24", 1, "2026-09-28"),
        // Spring Festival: 02-14 (Saturday) worked, off until 02-23, 02-28 (Saturday) worked.
        ("2026-02-13", 5, "2026-02-27"),
        ("2026-02-13", 6, "2026-02-28"),
    ] {
        assert_eq!(
            due(from, days).day,
            parse_date(expected).unwrap(),
            "{from} + {days}"
        );
    }
    // Nobody has verified the year yet, and the next one is not there: said, not hidden.
    assert!(!due("2026-11-23", 5).certain);
    assert!(!due("2026-12-30", 5).certain);
    assert_eq!(due("2026-12-30", 2).day, parse_date("2027-01-01").unwrap());
    assert!(calendar.due(chrono::NaiveDate::MAX, u32::MAX).day == chrono::NaiveDate::MAX);
}

fn proposed(item: &str, facts: &Json) -> (String, Vec<String>) {
    let now = Moment::on(parse_date("2026-11-23").unwrap());
    let outcome = contract().item(item).unwrap().decide(facts, now);
    (outcome.kind, outcome.reasons)
}

fn rows(fields: &[Json]) -> Json {
    present(
        fields
            .iter()
            .map(|fields| json!({"fields": fields}))
            .collect(),
    )
}

fn none() -> Json {
    json!({"state": "none", "rows": []})
}

/// What the union may know of somebody who has nothing yet.
fn household() -> Json {
    json!({
        "allowance": none(),
        "plan": none(),
        "livingAid": none(),
        "insurance": rows(&[json!({"status": "INSURED"})]),
        "dwellings": rows(&[json!({"plannedUse": "DWELLING_UNIT"})]),
    })
}

#[test]
fn aid_is_not_given_twice_and_a_household_has_one_plan() {
    let plan = json!({"status": "ACTIVE", "tier": "DEEP", "livingAidUntil": null});
    let paid = json!({"status": "ACTIVE", "tier": "DEEP", "livingAidUntil": "2026-11-23"});
    let ended = json!({"status": "ACTIVE", "tier": "DEEP", "livingAidUntil": "2026-11-22"});
    for (changes, kind, reasons) in [
        (json!({}), "new_plan", vec!["HARDSHIP_NEW_PLAN"]),
        (
            json!({"allowance": rows(&[json!({"status": "RECEIVING"})])}),
            "living_aid_blocked",
            vec!["HARDSHIP_ALLOWANCE_PAID"],
        ),
        // An allowance that ended blocks nothing.
        (
            json!({"allowance": rows(&[json!({"status": "ENDED"})])}),
            "new_plan",
            vec!["HARDSHIP_NEW_PLAN"],
        ),
        (
            json!({"plan": rows(std::slice::from_ref(&plan)), "livingAid": rows(std::slice::from_ref(&plan))}),
            "continue_plan",
            vec!["HARDSHIP_PLAN_EXISTS"],
        ),
        // The last day counts.
        (
            json!({"plan": rows(std::slice::from_ref(&paid)), "livingAid": rows(&[paid])}),
            "living_aid_blocked",
            vec!["HARDSHIP_LIVING_AID_PAID"],
        ),
        (
            json!({"plan": rows(std::slice::from_ref(&ended)), "livingAid": rows(&[ended])}),
            "continue_plan",
            vec!["HARDSHIP_PLAN_EXISTS"],
        ),
        (
            json!({"plan": rows(&[plan.clone(), plan])}),
            "merge_plans",
            vec!["HARDSHIP_SEVERAL_PLANS"],
        ),
        (
            json!({"insurance": none(), "dwellings": rows(&[json!({"plannedUse": "DWELLING_UNIT"}), json!({"plannedUse": "DWELLING_OTHER"})])}),
            "new_plan",
            vec![
                "HARDSHIP_NEW_PLAN",
                "HARDSHIP_SEVERAL_DWELLINGS",
                "HARDSHIP_NOT_INSURED",
            ],
        ),
    ] {
        let mut facts = household();
        for (name, fact) in changes.as_object().unwrap() {
            facts[name] = fact.clone();
        }
        let reasons = reasons.into_iter().map(str::to_owned).collect();
        assert_eq!(
            proposed("hardship-aid", &facts),
            (kind.to_owned(), reasons),
            "{changes}"
        );
    }
}

#[test]
fn civil_affairs_sees_the_unions_aid() {
    let file = |until: Json| {
        let fields = [json!({"tier": "RELATIVE", "livingAidUntil": until})];
        json!({"file": rows(&fields), "livingAid": rows(&fields)})
    };
    for (facts, kind) in [
        (json!({"file": none(), "livingAid": none()}), "clear"),
        (file(json!(null)), "join_plan"),
        (file(json!("2026-11-22")), "join_plan"),
        (file(json!("2027-06-30")), "living_aid_blocked"),
    ] {
        assert_eq!(proposed("aid-check", &facts).0, kind, "{facts}");
    }
}

#[test]
fn arrears_are_helped_with_and_paid_ones_are_gone() {
    let owed = |months: u32| {
        rows(&[json!({"type": "PENSION", "status": "INSURED", "arrearsMonths": months})])
    };
    for (arrears, kind) in [
        (owed(3), "help"),
        (owed(0), "no_arrears"),
        (none(), "no_arrears"),
    ] {
        assert_eq!(
            proposed("retirement-help", &json!({"arrears": arrears})).0,
            kind
        );
    }
}

/// No consent, or a source that is away, asks for consent or for time: never for a paper.
#[test]
fn what_is_missing_never_means_paper() {
    for (item, facts) in [
        ("retirement-help", &["arrears"][..]),
        (
            "hardship-aid",
            &["allowance", "plan", "livingAid", "insurance", "dwellings"],
        ),
        ("aid-check", &["file", "livingAid"]),
    ] {
        for (state, wanted) in [
            ("not_permitted", "consent_needed"),
            ("source_unavailable", "accepted"),
        ] {
            let all: serde_json::Map<_, _> = facts
                .iter()
                .map(|name| ((*name).to_owned(), json!({"state": state})))
                .collect();
            let (kind, reasons) = proposed(item, &Json::Object(all));
            assert_eq!(kind, wanted, "{item}");
            let contract = contract();
            for reason in reasons {
                let text = contract.reasons.text(&reason, mz_contract::Lang::En);
                assert!(text.contains("do not ask for paper"), "{reason}: {text}");
            }
        }
        // Silence is not absence.
        assert_eq!(proposed(item, &json!({})).0, "accepted", "{item}");
    }
}
