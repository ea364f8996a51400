//! From a contract to the cluster that it needs: compute what must be, compare with what is,
//! print the difference, make it so. Running it twice changes nothing the second time.
//!
//! Topics are created and their settings changed, never deleted: a topic that the contract no
//! longer names is only pointed out. Access rules on the bus's resources that the contract does
//! not give are removed, whoever made them.

mod desired;
mod run;

pub use desired::{
    CONSOLE_TRANSACTIONAL_ID, Desired, MAX_LEDGER_SHARDS, PlanOptions, consumer_group, desired,
};
pub use run::{ApplyError, Mode, Outcome, run};

use crate::admin::{Acl, Admin, Pattern, Resource, SettingChange, Topic};
use crate::error::BusError;
use crate::options::BusOptions;
use mz_contract::Contract;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// First parts of the names of the bus's own topics.
const TOPIC_FAMILIES: [&str; 6] = ["src.", "to.", "bus.", "state.", "status.", "quarantine."];
/// First part of the bus's own groups and transactional ids.
const ID_FAMILY: &str = "mz-";
/// Settings that Kafka's own tools put on a topic for a while.
const PASSING_SETTINGS: [&str; 2] = [
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
];

/// A busy cluster takes seconds to make some hundred partitions.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_STEP: Duration = Duration::from_millis(100);

/// One difference between what is and what must be. Names are physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    CreateTopic {
        name: String,
        topic: Topic,
    },
    /// `(setting, value now, value wanted)`; a wanted `None` is the cluster's default.
    AlterTopic {
        name: String,
        settings: Vec<(String, Option<String>, Option<String>)>,
    },
    AddAcl(Acl),
    DeleteAcl(Acl),
    /// Copies can't be added by a setting: `kafka-reassign-partitions` does it.
    Replication {
        name: String,
        found: u16,
        wanted: u16,
    },
}

impl Change {
    /// The cluster is as this change wants it.
    fn holds(&self, now: &Actual) -> bool {
        match self {
            Self::CreateTopic { name, .. } => now.topics.contains_key(name),
            Self::AlterTopic { name, settings } => now.topics.get(name).is_some_and(|topic| {
                let holds = |key: &String, wanted: &Option<String>| {
                    topic.settings.get(key) == wanted.as_ref()
                };
                settings.iter().all(|(key, _, wanted)| holds(key, wanted))
            }),
            Self::AddAcl(acl) => now.acls.contains(acl),
            Self::DeleteAcl(acl) => !now.acls.contains(acl),
            Self::Replication { .. } => true,
        }
    }

    /// No call to the cluster makes this change.
    pub const fn by_hand(&self) -> bool {
        matches!(self, Self::Replication { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTopic { name, topic } => {
                write!(f, "+ topic {name}: {} partitions", topic.partitions)?;
                for (key, value) in &topic.settings {
                    write!(f, ", {key}={value}")?;
                }
                Ok(())
            }
            Self::AlterTopic { name, settings } => {
                write!(f, "~ topic {name}:")?;
                for (at, (key, now, wanted)) in settings.iter().enumerate() {
                    let comma = if at == 0 { " " } else { ", " };
                    let now = now.as_deref().unwrap_or("default");
                    let wanted = wanted.as_deref().unwrap_or("default");
                    write!(f, "{comma}{key}: {now} -> {wanted}")?;
                }
                Ok(())
            }
            Self::AddAcl(acl) => write!(f, "+ rule {acl}"),
            Self::DeleteAcl(acl) => write!(f, "- rule {acl}"),
            Self::Replication {
                name,
                found,
                wanted,
            } => write!(
                f,
                "! topic {name}: {found} copies instead of {wanted}: use kafka-reassign-partitions"
            ),
        }
    }
}

/// The differences, and topics that look like the bus's but are not in the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// Left alone: delete them by hand when their data may go.
    pub orphans: Vec<String>,
}

impl Plan {
    /// The cluster is as the contract wants it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Why a plan can't be made or carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Lanes are chosen once: more partitions would send a person's events to another lane.
    #[error("topic {topic} has {found} partitions, the contract says {wanted}: move to new topics")]
    Partitions {
        topic: String,
        found: u32,
        wanted: u32,
    },
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl PlanError {
    /// The code under which `schemas/reasons.yaml` explains this to people.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Partitions { .. } => "BUS_PARTITIONS_DIFFER",
            Self::Bus(error) => error.code(),
        }
    }
}

/// What a cluster is now, as far as it concerns this installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub topics: BTreeMap<String, Topic>,
    pub acls: BTreeSet<Acl>,
}

/// Reads the cluster.
pub fn actual(admin: &mut Admin, prefix: &str) -> Result<Actual, BusError> {
    Ok(Actual {
        topics: admin.topics(|name| is_ours(name, prefix, &TOPIC_FAMILIES))?,
        acls: admin.acls()?.into_iter().collect(),
    })
}

fn is_ours(name: &str, prefix: &str, families: &[&str]) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| families.iter().any(|family| rest.starts_with(family)))
}

/// Puts the installation's prefix before every name.
fn physical(desired: &Desired, prefix: &str) -> Desired {
    let name = |logical: &str| format!("{prefix}{logical}");
    Desired {
        topics: desired
            .topics
            .iter()
            .map(|(logical, topic)| (name(logical), topic.clone()))
            .collect(),
        acls: desired
            .acls
            .iter()
            .map(|acl| Acl {
                name: name(&acl.name),
                ..acl.clone()
            })
            .collect(),
    }
}

/// What must change. Pure.
pub fn diff(desired: &Desired, actual: &Actual, prefix: &str) -> Result<Plan, PlanError> {
    let wanted = physical(desired, prefix);
    let mut changes = Vec::new();
    for (name, topic) in &wanted.topics {
        match actual.topics.get(name) {
            None => changes.push(Change::CreateTopic {
                name: name.clone(),
                topic: topic.clone(),
            }),
            Some(found) if found.partitions != topic.partitions => {
                return Err(PlanError::Partitions {
                    topic: name.clone(),
                    found: found.partitions,
                    wanted: topic.partitions,
                });
            }
            Some(found) => changes.extend(topic_changes(name, found, topic)),
        }
    }
    for acl in wanted.acls.difference(&actual.acls) {
        changes.push(Change::AddAcl(acl.clone()));
    }
    for acl in actual.acls.difference(&wanted.acls) {
        if concerns(acl, &wanted, prefix) {
            changes.push(Change::DeleteAcl(acl.clone()));
        }
    }
    let known = |name: &&String| !wanted.topics.contains_key(*name);
    let orphans = actual.topics.keys().filter(known).cloned().collect();
    Ok(Plan { changes, orphans })
}

fn topic_changes(name: &str, found: &Topic, wanted: &Topic) -> Vec<Change> {
    let mut settings = Vec::new();
    for (key, value) in &wanted.settings {
        let now = found.settings.get(key);
        if now != Some(value) {
            settings.push((key.clone(), now.cloned(), Some(value.clone())));
        }
    }
    for (key, value) in &found.settings {
        let passing = PASSING_SETTINGS.contains(&key.as_str());
        if !passing && !wanted.settings.contains_key(key) {
            settings.push((key.clone(), Some(value.clone()), None));
        }
    }
    let mut changes = Vec::new();
    if !settings.is_empty() {
        changes.push(Change::AlterTopic {
            name: name.to_owned(),
            settings,
        });
    }
    if let (Some(found), Some(wanted)) = (found.replication, wanted.replication)
        && found != wanted
    {
        changes.push(Change::Replication {
            name: name.to_owned(),
            found,
            wanted,
        });
    }
    changes
}

/// Whether a rule that the contract does not give touches this installation: by the name of a
/// resource of the bus, or by a pattern that covers one.
fn concerns(acl: &Acl, wanted: &Desired, prefix: &str) -> bool {
    let ours = match acl.resource {
        Resource::Topic => is_ours(&acl.name, prefix, &TOPIC_FAMILIES),
        Resource::Group | Resource::TransactionalId => {
            let listed = |known: &Acl| known.resource == acl.resource && known.name == acl.name;
            is_ours(&acl.name, prefix, &[ID_FAMILY]) || wanted.acls.iter().any(listed)
        }
        Resource::Cluster | Resource::Other(_) => {
            // Rights over the cluster reach past every rule on a topic.
            prefix.is_empty()
                && wanted
                    .acls
                    .iter()
                    .any(|known| known.principal == acl.principal)
        }
    };
    ours || covers(acl, wanted)
}

fn covers(acl: &Acl, wanted: &Desired) -> bool {
    let matches = |name: &str| match acl.pattern {
        Pattern::Prefixed => name.starts_with(&acl.name),
        Pattern::Literal | Pattern::Other(_) => acl.name == "*",
    };
    match acl.resource {
        Resource::Topic => wanted.topics.keys().any(|name| matches(name)),
        Resource::Group | Resource::TransactionalId => wanted
            .acls
            .iter()
            .any(|known| known.resource == acl.resource && matches(&known.name)),
        Resource::Cluster | Resource::Other(_) => false,
    }
}

/// Makes the plan for a contract against a cluster.
pub fn plan(
    bus: &BusOptions,
    contract: &Contract,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let mut admin = Admin::connect(bus)?;
    let actual = actual(&mut admin, &bus.prefix)?;
    diff(&desired(contract, options), &actual, &bus.prefix)
}

/// Carries a plan out: first what gives nobody more than before, rights last.
pub fn apply(bus: &BusOptions, plan: &Plan) -> Result<(), PlanError> {
    let mut admin = Admin::connect(bus)?;
    let mut created = Vec::new();
    let mut altered: Vec<(String, Vec<SettingChange>)> = Vec::new();
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    for change in &plan.changes {
        match change {
            Change::CreateTopic { name, topic } => created.push((name.clone(), topic.clone())),
            Change::AlterTopic { name, settings } => {
                let settings = settings
                    .iter()
                    .map(|(key, _, wanted)| (key.clone(), wanted.clone()))
                    .collect();
                altered.push((name.clone(), settings));
            }
            Change::AddAcl(acl) => added.push(acl.clone()),
            Change::DeleteAcl(acl) => deleted.push(acl.clone()),
            Change::Replication { .. } => {}
        }
    }
    admin.delete_acls(&deleted)?;
    admin.create_topics(&created)?;
    admin.alter_topics(&altered)?;
    admin.create_acls(&added)?;
    settle(&mut admin, plan, &bus.prefix)
}

/// Waits until a broker shows the changes: the controller has them before the brokers do.
fn settle(admin: &mut Admin, plan: &Plan, prefix: &str) -> Result<(), PlanError> {
    let start = Instant::now();
    loop {
        let now = actual(admin, prefix)?;
        if plan.changes.iter().all(|change| change.holds(&now)) {
            return Ok(());
        }
        let waited = start.elapsed();
        if waited > SETTLE_TIMEOUT {
            let operation = "wait for the changes to take effect";
            return Err(BusError::Timeout { operation, waited }.into());
        }
        std::thread::sleep(SETTLE_STEP);
    }
}

/// The rules as `kafka-acls` commands, for a cluster whose rules somebody else administers.
pub fn acl_commands(
    contract: &Contract,
    options: &PlanOptions,
    bootstrap: &str,
    prefix: &str,
) -> String {
    let wanted = physical(&desired(contract, options), prefix);
    let mut script = String::from(
        "#!/bin/sh\n# Access rules of the bus, from its contract. admin.properties holds the \
         administrator's TLS settings.\nset -eu\n",
    );
    for acl in &wanted.acls {
        script.push_str(&format!(
            "kafka-acls --bootstrap-server '{bootstrap}' --command-config admin.properties --add {}\n",
            acl.command()
        ));
    }
    script
}
