//! The plan from the committed contract: what it grants on paper, and what the cluster then lets
//! through.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

mod common;

use common::{WAIT, bus};
use mz_bus::admin::{Acl, Operation, Pattern, Resource, Topic, topic_id};
use mz_bus::plan::{self, Change, Desired, Mode, Outcome, PlanError, PlanOptions, desired};
use mz_bus::tuning::TRANSACTION_TIMEOUT;
use mz_bus::{Admin, BusError, BusOptions, Isolation, Position, Reader, TxError, TxProducer};
use mz_contract::Contract;
use mz_stack::testing;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

const SRC: &str = "src.hrss.insurance.status.v1";
const TO: &str = "to.police.talent-settlement.hrss.insurance.status.v1";

fn contract() -> Contract {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    Contract::load(&root, mz_contract::Mode::Draft).unwrap()
}

fn run(bus: &BusOptions, contract: &Contract, mode: Mode) -> (Outcome, String) {
    let mut printed = Vec::new();
    let outcome = plan::run(bus, contract, &PlanOptions::default(), mode, &mut printed).unwrap();
    (outcome, String::from_utf8(printed).unwrap())
}

/// A fresh installation on the shared stack.
fn installation() -> (BusOptions, Contract) {
    let (bus, contract) = (bus("bus.admin", &testing::prefix()), contract());
    let (outcome, _) = run(&bus, &contract, Mode::Apply);
    assert!(matches!(outcome, Outcome::Applied(_)));
    (bus, contract)
}

#[test]
fn nobody_is_granted_more_than_their_part() {
    let contract = contract();
    let wanted = desired(
        &contract,
        &PlanOptions {
            slots: 3,
            ..PlanOptions::default()
        },
    );
    let writers = |start: &str| {
        let mut found: Vec<&Acl> = wanted.acls.iter().collect();
        found.retain(|acl| {
            acl.resource == Resource::Topic
                && acl.operation == Operation::Write
                && acl.name.starts_with(start)
        });
        found
    };
    for acl in &wanted.acls {
        assert!(acl.allow && acl.pattern == Pattern::Literal, "{acl}");
        assert!(!acl.name.contains('*') && !acl.name.is_empty(), "{acl}");
        assert!(acl.resource != Resource::Cluster, "{acl}");
    }
    assert!(
        writers("to.")
            .iter()
            .all(|acl| acl.principal == "User:bus.gateway")
    );
    assert!(!writers("to.").is_empty());
    for acl in writers("src.") {
        let department = acl.name.split('.').nth(1).unwrap();
        assert_eq!(acl.principal, format!("User:{department}.connector"));
    }
    for acl in &wanted.acls {
        // A department reads its own part of `to.*`, and nothing that says who a person is.
        let department = contract.departments.iter().find(|department| {
            acl.principal
                .starts_with(&format!("User:{}.", department.id))
        });
        let Some(department) = department else {
            continue;
        };
        // Of the bus's own topics, adapters write receipts and witnesses' cosignatures, and nobody reads
        // anything.
        let receipt = ["bus.receipts", "bus.cosignatures"].contains(&&*acl.name)
            && acl.operation == Operation::Write
            && acl.principal == format!("User:{}.adapter", department.id);
        assert!(receipt || !acl.name.starts_with("bus."), "{acl}");
        if acl.resource == Resource::Topic && acl.operation == Operation::Read {
            let own = [
                format!("to.{}.", department.id),
                format!("src.{}.", department.id),
                format!("state.{}.", department.id),
                format!("status.{}.", department.id),
                format!("quarantine.{}", department.id),
            ];
            assert!(own.iter().any(|start| acl.name.starts_with(start)), "{acl}");
        }
    }
    // One principal for each transactional id, but for consent, which can shut out a slot's owner.
    let consents = rights(&wanted, "bus.consent");
    for id in [
        "mz-consent-0",
        "mz-gw-0",
        "mz-gw-2",
        "mz-vault-0",
        "mz-vault-2",
    ] {
        assert!(
            consents.contains(&(Resource::TransactionalId, id, Operation::Write)),
            "{id}"
        );
    }
    let mut owners = BTreeMap::new();
    for acl in &wanted.acls {
        if acl.resource == Resource::TransactionalId && acl.principal != "User:bus.consent" {
            let owner = owners.entry(&acl.name).or_insert(&acl.principal);
            assert_eq!(*owner, &acl.principal, "{}", acl.name);
        }
    }
    assert!(owners.keys().any(|id| *id == "mz-vault-2"));
}

/// What a principal may do, by name.
fn rights<'a>(wanted: &'a Desired, principal: &str) -> BTreeSet<(Resource, &'a str, Operation)> {
    let user = format!("User:{principal}");
    let own = wanted.acls.iter().filter(|acl| acl.principal == user);
    own.map(|acl| (acl.resource, acl.name.as_str(), acl.operation))
        .collect()
}

#[test]
fn consent_orders_and_shuts_out_but_delivers_nothing() {
    let contract = contract();
    let wanted = desired(&contract, &PlanOptions::default());
    let topics: BTreeSet<(&str, Operation)> = rights(&wanted, "bus.consent")
        .into_iter()
        .filter(|(resource, _, _)| *resource == Resource::Topic)
        .map(|(_, name, operation)| (name, operation))
        // It sees that the contract's topics are there, not what is in them.
        .filter(|(name, operation)| *operation != Operation::Describe || name.starts_with("bus."))
        .collect();
    let expected = [
        ("bus.audit", Operation::Read),
        ("bus.audit", Operation::Write),
        ("bus.contract", Operation::Read),
        ("bus.contract", Operation::Write),
        ("bus.grants", Operation::Read),
        ("bus.grants", Operation::Write),
        ("bus.orders", Operation::Write),
        ("bus.receipts", Operation::Read),
        ("bus.state", Operation::Read),
        ("bus.state", Operation::Write),
    ];
    assert_eq!(topics, expected.into_iter().collect());
    for slot in ["bus.gateway", "bus.vault"] {
        let own = rights(&wanted, slot);
        for topic in ["bus.orders", "bus.contract"] {
            assert!(
                own.contains(&(Resource::Topic, topic, Operation::Read)),
                "{slot}"
            );
            assert!(
                !own.contains(&(Resource::Topic, topic, Operation::Write)),
                "{slot}"
            );
        }
    }
    // Who may say that something was deleted: adapters, and they alone.
    let mut writers: Vec<&str> = wanted
        .acls
        .iter()
        .filter(|acl| acl.name == "bus.receipts" && acl.operation == Operation::Write)
        .map(|acl| acl.principal.as_str())
        .collect();
    writers.sort_unstable();
    let adapters = contract.departments.iter();
    let mut adapters: Vec<_> = adapters
        .map(|it| format!("User:{}.adapter", it.id))
        .collect();
    adapters.sort_unstable();
    assert_eq!(writers, adapters);
}

#[test]
fn topics_keep_what_the_contract_promises() {
    const DAY: u64 = 86_400_000;
    let contract = contract();
    let options = PlanOptions {
        slots: 3,
        replication: Some(3),
        min_insync: Some(2),
    };
    let wanted = desired(&contract, &options);
    let lanes = u32::from(contract.lanes);
    let setting = |name: &str, key: &str| wanted.topics[name].settings.get(key).cloned();
    for (name, topic) in &wanted.topics {
        assert_eq!(
            (topic.replication, setting(name, "min.insync.replicas")),
            (Some(3), Some("2".to_owned()))
        );
        let lane_topic = ["src.", "to.", "bus."]
            .iter()
            .any(|start| name.starts_with(start));
        let partitions = if name == "bus.slots" {
            3
        } else if ["bus.contract", "bus.cosignatures"].contains(&&**name) {
            1
        } else if lane_topic {
            lanes
        } else {
            1
        };
        assert_eq!(topic.partitions, partitions, "{name}");
        if name.starts_with("src.") {
            let kept: u64 = setting(name, "retention.ms").unwrap().parse().unwrap();
            assert!(kept <= 90 * DAY, "{name}");
        }
        if name.starts_with("to.") {
            assert_eq!(setting(name, "cleanup.policy").unwrap(), "compact,delete");
            assert_eq!(
                setting(name, "max.compaction.lag.ms").unwrap(),
                DAY.to_string()
            );
            assert_eq!(
                setting(name, "delete.retention.ms").unwrap(),
                (30 * DAY).to_string()
            );
        }
    }
    assert_eq!(setting("bus.audit", "retention.ms").unwrap(), "-1");
    for name in ["bus.state", "bus.contract"] {
        assert_eq!(setting(name, "cleanup.policy").unwrap(), "compact");
        assert_eq!(setting(name, "retention.ms"), None, "{name}");
    }
    for (name, days) in [("bus.orders", 7), ("bus.receipts", 90)] {
        assert_eq!(setting(name, "cleanup.policy").unwrap(), "delete");
        let kept = (days * DAY).to_string();
        assert_eq!(setting(name, "retention.ms").unwrap(), kept, "{name}");
    }
    assert!(wanted.topics.contains_key(SRC) && wanted.topics.contains_key(TO));
}

#[test]
fn the_second_run_changes_nothing_and_drift_shows() {
    let (bus, contract) = installation();
    assert_eq!(
        run(&bus, &contract, Mode::Apply),
        (Outcome::Unchanged, String::new())
    );
    assert_eq!(run(&bus, &contract, Mode::Check).0, Outcome::Unchanged);

    // Somebody shortens the audit log, adds a setting, and lets the police read a source.
    let name = |logical: &str| format!("{}{logical}", bus.prefix);
    let mut admin = Admin::connect(&bus).unwrap();
    let day = Some("86400000".to_owned());
    admin
        .alter_topics(&[
            (name("bus.audit"), vec![("retention.ms".to_owned(), day)]),
            (
                name(SRC),
                vec![("max.message.bytes".to_owned(), Some("100".to_owned()))],
            ),
        ])
        .unwrap();
    let opened = Acl::grant(
        "police.adapter",
        Resource::Topic,
        name(SRC),
        Operation::Read,
    );
    let everything = Acl {
        name: bus.prefix.clone(),
        pattern: Pattern::Prefixed,
        ..Acl::grant("somebody", Resource::Topic, "", Operation::Other(2))
    };
    admin
        .create_acls(&[opened.clone(), everything.clone()])
        .unwrap();
    let closed = Acl::grant("police.adapter", Resource::Topic, name(TO), Operation::Read);
    admin.delete_acls(&[closed]).unwrap();

    let (outcome, printed) = run(&bus, &contract, Mode::Check);
    assert_eq!(outcome, Outcome::Drift(5), "{printed}");
    assert!(
        printed.contains("bus.audit: retention.ms: 86400000 -> -1"),
        "{printed}"
    );
    assert!(
        printed.contains("max.message.bytes: 100 -> default"),
        "{printed}"
    );
    assert!(printed.contains(&format!("- rule {opened}")), "{printed}");
    assert!(
        printed.contains(&format!("- rule {everything}")),
        "{printed}"
    );
    assert!(
        printed.contains("+ rule User:police.adapter may Read"),
        "{printed}"
    );

    assert_eq!(run(&bus, &contract, Mode::Apply).0, Outcome::Applied(5));
    assert_eq!(
        run(&bus, &contract, Mode::Check),
        (Outcome::Unchanged, String::new())
    );
}

#[test]
fn another_number_of_partitions_stops_the_plan() {
    let (bus, contract) = (bus("bus.admin", &testing::prefix()), contract());
    let topic = Topic {
        partitions: 3,
        replication: None,
        settings: BTreeMap::new(),
    };
    let name = format!("{}bus.grants", bus.prefix);
    Admin::connect(&bus)
        .unwrap()
        .create_topics(&[(name.clone(), topic)])
        .unwrap();
    let fault = plan::plan(&bus, &contract, &PlanOptions::default()).unwrap_err();
    let wanted = u32::from(contract.lanes);
    assert!(
        matches!(&fault, PlanError::Partitions { topic, found: 3, wanted: w } if *topic == name && *w == wanted),
        "{fault}"
    );
    assert_eq!(fault.code(), "BUS_PARTITIONS_DIFFER");
}

#[test]
fn a_topic_outside_the_contract_is_pointed_out_and_left() {
    let (bus, contract) = installation();
    let name = format!("{}src.nobody.knows.v1", bus.prefix);
    let topic = Topic {
        partitions: 1,
        replication: None,
        settings: BTreeMap::new(),
    };
    Admin::connect(&bus)
        .unwrap()
        .create_topics(&[(name.clone(), topic)])
        .unwrap();
    let found = plan::plan(&bus, &contract, &PlanOptions::default()).unwrap();
    assert!(found.is_empty());
    assert_eq!(found.orphans, [name]);
}

#[test]
fn copies_are_compared_and_never_changed() {
    let contract = contract();
    let options = PlanOptions {
        replication: Some(3),
        ..PlanOptions::default()
    };
    let wanted = desired(&contract, &options);
    let mut found = plan::Actual {
        topics: wanted.topics.clone(),
        acls: wanted.acls.clone(),
    };
    found.topics.get_mut(SRC).unwrap().replication = Some(1);
    let plan = plan::diff(&wanted, &found, "").unwrap();
    let name = SRC.to_owned();
    assert_eq!(
        plan.changes,
        [Change::Replication {
            name,
            found: 1,
            wanted: 3
        }]
    );
    assert!(plan.changes[0].by_hand());
}

/// Under an empty prefix the cluster may serve others too: their rules are none of our business,
/// ours are, and so is whatever covers them.
#[test]
fn other_tenants_rules_are_left_alone() {
    let contract = contract();
    let wanted = desired(&contract, &PlanOptions::default());
    let mut found = plan::Actual {
        topics: wanted.topics.clone(),
        acls: wanted.acls.clone(),
    };
    let theirs = [
        Acl::grant("shop", Resource::Topic, "orders", Operation::Read),
        Acl::grant("shop", Resource::Group, "orders-app", Operation::Read),
    ];
    found.acls.extend(theirs);
    assert!(plan::diff(&wanted, &found, "").unwrap().is_empty());
    let wild = Acl::grant("shop", Resource::Topic, "*", Operation::Read);
    let thief = Acl::grant(
        "shop",
        Resource::TransactionalId,
        "mz-gw-0",
        Operation::Write,
    );
    let barred = Acl {
        allow: false,
        ..Acl::grant("bus.gateway", Resource::Topic, SRC, Operation::Read)
    };
    for acl in [wild, thief, barred] {
        found.acls.insert(acl.clone());
        let plan = plan::diff(&wanted, &found, "").unwrap();
        assert_eq!(plan.changes, [Change::DeleteAcl(acl.clone())]);
        found.acls.remove(&acl);
    }
}

#[test]
fn commands_for_a_cluster_that_others_administer() {
    let (bus, contract) = (bus("bus.admin", ""), contract());
    let (outcome, script) = run(&bus, &contract, Mode::AclCommands);
    assert_eq!(outcome, Outcome::Printed);
    let line =
        format!("--add --allow-principal 'User:police.adapter' --operation Read --topic '{TO}'");
    assert!(script.contains(&line), "{script}");
    let rules = desired(&contract, &PlanOptions::default()).acls.len();
    assert_eq!(script.matches("--add").count(), rules);
}

/// What the rules are for.
#[test]
fn a_department_reads_its_deliveries_and_nothing_else() {
    let (admin, _contract) = installation();
    let police = bus("police.adapter", &admin.prefix);
    assert!(reads(&police, TO).is_ok());
    for closed in [
        SRC,
        "bus.audit",
        "bus.grants",
        "to.hrss.talent-status.police.household.v1",
        "state.hrss.insurance",
    ] {
        let fault = reads(&police, closed).unwrap_err();
        assert!(
            matches!(
                fault,
                BusError::Denied { .. } | BusError::TopicMissing { .. }
            ),
            "{closed}: {fault:?}"
        );
    }
    assert!(matches!(reads(&police, SRC), Err(BusError::Denied { .. })));
    // Not even with somebody else's transactional id.
    for id in ["mz-gw-0", "mz-police-own"] {
        let mut producer = TxProducer::open(&police, id, TRANSACTION_TIMEOUT).unwrap();
        assert!(matches!(producer.init(), Err(TxError::Fatal(_))), "{id}");
    }
}

#[test]
fn a_connector_writes_its_own_datasets_only() {
    let (admin, contract) = installation();
    let stream = &contract
        .dataset("hrss.insurance.status.v1")
        .unwrap()
        .streams[0];
    let hrss = bus("hrss.connector", &admin.prefix);
    let id = mz_journal::topics::connector_transactional_id("hrss", stream);
    let mut producer = TxProducer::open(&hrss, &id, TRANSACTION_TIMEOUT).unwrap();
    producer.init().unwrap();
    let mut write = |topic: &str| {
        producer.begin()?;
        let sent = producer.send(topic, 0, b"key", Some(b"value"), &[]);
        let ended = sent.and_then(|()| producer.commit());
        if ended.is_err() {
            producer.abort()?;
        }
        ended
    };
    write(SRC).unwrap();
    for closed in [TO, "bus.grants", "src.police.household.v1"] {
        assert!(matches!(write(closed), Err(TxError::Abort(_))), "{closed}");
    }
    write(SRC).unwrap();
}

#[test]
fn a_stranger_gets_nowhere() {
    let (admin, contract) = installation();
    // A certificate of the same CA, for which the contract grants nothing.
    let window = bus("police.window", &admin.prefix);
    assert!(matches!(reads(&window, TO), Err(BusError::Denied { .. })));
    let fault = plan::apply(&window, &plan_of(&contract, &window)).unwrap_err();
    assert!(
        matches!(fault, PlanError::Bus(BusError::Denied { .. })),
        "{fault:?}"
    );
}

/// A plan that would create everything.
fn plan_of(contract: &Contract, bus: &BusOptions) -> plan::Plan {
    let wanted = desired(contract, &PlanOptions::default());
    plan::diff(
        &wanted,
        &plan::Actual::default(),
        &format!("{}x.", bus.prefix),
    )
    .unwrap()
}

fn reads(bus: &BusOptions, topic: &str) -> Result<(), BusError> {
    let mut reader = Reader::open(bus, Isolation::Committed)?;
    reader.assign(&[(topic, 0, Position::Beginning)])?;
    reader.poll_to_end(WAIT, |_| {})
}

#[test]
fn a_topic_made_anew_has_another_id_and_strangers_are_told_nothing() {
    let prefix = testing::prefix();
    let own = bus("bus.admin", &prefix);
    let mut admin = Admin::connect(&own).unwrap();
    let name = format!("{prefix}bus.audit");
    let topic = Topic {
        partitions: 1,
        replication: None,
        settings: BTreeMap::new(),
    };
    admin
        .create_topics(&[(name.clone(), topic.clone())])
        .unwrap();
    let id = topic_id(&own, "bus.audit").unwrap();
    assert_eq!(topic_id(&own, "bus.audit").unwrap(), id);
    // Without a right on it a topic is not there.
    let stranger = topic_id(&bus("police.adapter", &prefix), "bus.audit").unwrap_err();
    assert!(
        matches!(stranger.code(), "BUS_DENIED" | "BUS_TOPIC_MISSING"),
        "{stranger}"
    );
    admin.delete_topics(std::slice::from_ref(&name)).unwrap();
    let started = Instant::now();
    let gone = loop {
        match topic_id(&own, "bus.audit") {
            Err(error) => break error,
            Ok(_) => assert!(started.elapsed() < WAIT, "still there"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(gone.code(), "BUS_TOPIC_MISSING");
    admin.create_topics(&[(name.clone(), topic)]).unwrap();
    assert_ne!(topic_id(&own, "bus.audit").unwrap(), id);
    admin.delete_topics(&[name]).unwrap();
}
