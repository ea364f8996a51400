//! Topics, their settings and ACLs of a cluster. Names here are physical: an installation's prefix
//! is the plan's business.

mod acl;
mod delete;
mod wire;

pub use acl::{Acl, Operation, Pattern, Resource};
pub use delete::delete_records;

use crate::error::BusError;
use crate::options::BusOptions;
use crate::tuning::CALL_TIMEOUT;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::{Answer, Connection, Writer};

/// Kafka's number for "topic" in settings requests.
const TOPIC: i8 = 2;
/// A setting that somebody made for this topic (not a default).
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const LIST: &str = "list topics";
/// A busy cluster takes seconds to make some hundred partitions.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
/// Resources in one request: keeps requests and answers small.
const CHUNK: usize = 200;

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;

/// A topic as it is, or as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub partitions: u32,
    /// `None`: the cluster's default.
    pub replication: Option<u16>,
    /// Settings made for this topic.
    pub settings: BTreeMap<String, String>,
}

/// One change of a topic's settings; `None` goes back to the default.
pub type SettingChange = (String, Option<String>);

/// A connection with which a cluster is administered, as `bus.admin`.
pub struct Admin {
    connection: Connection,
}

impl Admin {
    pub fn connect(bus: &BusOptions) -> Result<Self, BusError> {
        Ok(Self {
            connection: Connection::open(bus)?,
        })
    }

    /// All topics whose names pass, with settings.
    pub fn topics(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Topic>, BusError> {
        let listed = self.listed()?;
        let mut topics = BTreeMap::new();
        for (code, name, replicas) in listed {
            if !wanted(&name) {
                continue;
            }
            refuse(LIST, &name, code, None)?;
            let topic = Topic {
                partitions: u32::try_from(replicas.len()).unwrap_or(u32::MAX),
                replication: replicas
                    .iter()
                    .min()
                    .and_then(|least| u16::try_from(*least).ok()),
                settings: BTreeMap::new(),
            };
            topics.insert(name, topic);
        }
        let names: Vec<String> = topics.keys().cloned().collect();
        for chunk in names.chunks(CHUNK) {
            self.settings(chunk, &mut topics)?;
        }
        Ok(topics)
    }

    /// Error code, name and copies of each partition of every topic.
    fn listed(&mut self) -> Result<Vec<(i16, String, Vec<usize>)>, BusError> {
        let mut request = Writer::default();
        request.no_list();
        request.bool(false);
        let answer = self.connection.call(LIST, 3, 4, &request)?;
        let mut answer = Answer::new(LIST, &answer);
        answer.i32()?;
        answer.list(|answer| {
            answer.i32()?;
            answer.name()?;
            answer.i32()?;
            answer.text()
        })?;
        answer.text()?;
        answer.i32()?;
        answer.list(|answer| {
            let code = answer.i16()?;
            let name = answer.name()?;
            answer.bool()?;
            let replicas = answer.list(|answer| {
                answer.i16()?;
                answer.i32()?;
                answer.i32()?;
                let replicas = answer.list(Answer::i32)?;
                answer.list(Answer::i32)?;
                Ok(replicas.len())
            })?;
            Ok((code, name, replicas))
        })
    }

    fn settings(
        &mut self,
        names: &[String],
        topics: &mut BTreeMap<String, Topic>,
    ) -> Result<(), BusError> {
        const DESCRIBE: &str = "read topic settings";
        let mut request = Writer::default();
        request.list(names, |request, name| {
            request.i8(TOPIC);
            request.text(Some(name));
            request.no_list();
        });
        request.bool(false);
        let answer = self.connection.call(DESCRIBE, 32, 1, &request)?;
        let mut answer = Answer::new(DESCRIBE, &answer);
        answer.i32()?;
        let described = answer.list(|answer| {
            let (code, message) = (answer.i16()?, answer.text()?);
            answer.i8()?;
            let name = answer.name()?;
            let settings = answer.list(|answer| {
                let (key, value) = (answer.name()?, answer.text()?);
                answer.bool()?;
                let source = answer.i8()?;
                answer.bool()?;
                answer.list(|answer| {
                    answer.name()?;
                    answer.text()?;
                    answer.i8()
                })?;
                Ok((source == DYNAMIC_TOPIC_CONFIG).then(|| (key, value.unwrap_or_default())))
            })?;
            Ok((code, message, name, settings))
        })?;
        for (code, message, name, settings) in described {
            refuse(DESCRIBE, &name, code, message)?;
            if let Some(topic) = topics.get_mut(&name) {
                topic.settings = settings.into_iter().flatten().collect();
            }
        }
        Ok(())
    }

    /// Creates topics; one that exists already is left as it is.
    pub fn create_topics(&mut self, topics: &[(String, Topic)]) -> Result<(), BusError> {
        const CREATE: &str = "create topics";
        for chunk in topics.chunks(CHUNK) {
            let mut request = Writer::default();
            request.list(chunk, |request, (name, topic)| {
                request.text(Some(name));
                request.i32(i32::try_from(topic.partitions).unwrap_or(i32::MAX));
                let replication = topic
                    .replication
                    .map_or(-1, |factor| i16::try_from(factor).unwrap_or(i16::MAX));
                request.i16(replication);
                request.list::<()>(&[], |_, ()| {});
                let settings: Vec<_> = topic.settings.iter().collect();
                request.list(&settings, |request, (key, value)| {
                    request.text(Some(key));
                    request.text(Some(value));
                });
            });
            self.timeout(&mut request);
            request.bool(false);
            let answer = self.connection.call(CREATE, 19, 4, &request)?;
            let mut answer = Answer::new(CREATE, &answer);
            answer.i32()?;
            let results =
                answer.list(|answer| Ok((answer.name()?, answer.i16()?, answer.text()?)))?;
            for (name, code, message) in results {
                if code != TOPIC_ALREADY_EXISTS {
                    refuse(CREATE, &name, code, message)?;
                }
            }
        }
        self.wait_for(topics)
    }

    /// The controller has a topic before the brokers show it; whoever uses it asks a broker.
    fn wait_for(&mut self, topics: &[(String, Topic)]) -> Result<(), BusError> {
        const STEP: Duration = Duration::from_millis(20);
        let start = Instant::now();
        loop {
            let listed = self.listed()?;
            let shown = |name: &str| {
                listed
                    .iter()
                    .any(|(code, known, _)| *code == 0 && known == name)
            };
            if topics.iter().all(|(name, _)| shown(name)) {
                return Ok(());
            }
            let waited = start.elapsed();
            if waited > SHOWN_WITHIN {
                let operation = "wait for new topics";
                return Err(BusError::Timeout { operation, waited });
            }
            std::thread::sleep(STEP);
        }
    }

    /// Deletes topics; one that does not exist is fine. Used by tests and benchmarks: the plan
    /// never deletes a topic.
    pub fn delete_topics(&mut self, names: &[String]) -> Result<(), BusError> {
        const DELETE: &str = "delete topics";
        for chunk in names.chunks(CHUNK) {
            let mut request = Writer::default();
            request.list(chunk, |request, name| request.text(Some(name)));
            self.timeout(&mut request);
            let answer = self.connection.call(DELETE, 20, 1, &request)?;
            let mut answer = Answer::new(DELETE, &answer);
            answer.i32()?;
            for (name, code) in answer.list(|answer| Ok((answer.name()?, answer.i16()?)))? {
                if code != UNKNOWN_TOPIC_OR_PARTITION {
                    refuse(DELETE, &name, code, None)?;
                }
            }
        }
        Ok(())
    }

    /// Sets and unsets settings of topics; what is not named stays.
    pub fn alter_topics(
        &mut self,
        changes: &[(String, Vec<SettingChange>)],
    ) -> Result<(), BusError> {
        const ALTER: &str = "change topic settings";
        const SET: i8 = 0;
        const UNSET: i8 = 1;
        for chunk in changes.chunks(CHUNK) {
            let mut request = Writer::default();
            request.list(chunk, |request, (name, settings)| {
                request.i8(TOPIC);
                request.text(Some(name));
                request.list(settings, |request, (key, value)| {
                    request.text(Some(key));
                    request.i8(if value.is_some() { SET } else { UNSET });
                    request.text(value.as_deref());
                });
            });
            request.bool(false);
            let answer = self.connection.call(ALTER, 44, 0, &request)?;
            let mut answer = Answer::new(ALTER, &answer);
            answer.i32()?;
            let results = answer.list(|answer| {
                let (code, message) = (answer.i16()?, answer.text()?);
                answer.i8()?;
                Ok((code, message, answer.name()?))
            })?;
            for (code, message, name) in results {
                refuse(ALTER, &name, code, message)?;
            }
        }
        Ok(())
    }

    /// Every rule of the cluster.
    pub fn acls(&mut self) -> Result<Vec<Acl>, BusError> {
        const DESCRIBE: &str = "list access rules";
        let mut request = Writer::default();
        any_acl(&mut request);
        let answer = self.connection.call(DESCRIBE, 29, 1, &request)?;
        let mut answer = Answer::new(DESCRIBE, &answer);
        answer.i32()?;
        let (code, message) = (answer.i16()?, answer.text()?);
        refuse(DESCRIBE, "the cluster", code, message)?;
        let resources = answer.list(|answer| {
            let (resource, name) = (Resource::of(answer.i8()?), answer.name()?);
            let pattern = Pattern::of(answer.i8()?);
            answer.list(|answer| {
                Ok(Acl {
                    principal: answer.name()?,
                    host: answer.name()?,
                    operation: Operation::of(answer.i8()?),
                    allow: answer.i8()? == ALLOW,
                    resource,
                    name: name.clone(),
                    pattern,
                })
            })
        })?;
        Ok(resources.into_iter().flatten().collect())
    }

    pub fn create_acls(&mut self, acls: &[Acl]) -> Result<(), BusError> {
        const CREATE: &str = "add access rules";
        for chunk in acls.chunks(CHUNK) {
            let mut request = Writer::default();
            request.list(chunk, |request, acl| {
                request.i8(acl.resource.number());
                request.text(Some(&acl.name));
                request.i8(acl.pattern.number());
                request.text(Some(&acl.principal));
                request.text(Some(&acl.host));
                request.i8(acl.operation.number());
                request.i8(permission(acl.allow));
            });
            let answer = self.connection.call(CREATE, 30, 1, &request)?;
            let mut answer = Answer::new(CREATE, &answer);
            answer.i32()?;
            let results = answer.list(|answer| Ok((answer.i16()?, answer.text()?)))?;
            for (acl, (code, message)) in chunk.iter().zip(results) {
                refuse(CREATE, &acl.name, code, message)?;
            }
        }
        Ok(())
    }

    /// Removes exactly these rules; one that is not there is fine.
    pub fn delete_acls(&mut self, acls: &[Acl]) -> Result<(), BusError> {
        const DELETE: &str = "remove access rules";
        for chunk in acls.chunks(CHUNK) {
            let mut request = Writer::default();
            request.list(chunk, |request, acl| {
                request.i8(acl.resource.number());
                request.text(Some(&acl.name));
                request.i8(acl.pattern.number());
                request.text(Some(&acl.principal));
                request.text(Some(&acl.host));
                request.i8(acl.operation.number());
                request.i8(permission(acl.allow));
            });
            let answer = self.connection.call(DELETE, 31, 1, &request)?;
            let mut answer = Answer::new(DELETE, &answer);
            answer.i32()?;
            let results = answer.list(|answer| {
                let outcome = (answer.i16()?, answer.text()?);
                answer.list(|answer| {
                    answer.i16()?;
                    answer.text()?;
                    answer.i8()?;
                    answer.name()?;
                    answer.i8()?;
                    answer.name()?;
                    answer.name()?;
                    answer.i8()?;
                    answer.i8()
                })?;
                Ok(outcome)
            })?;
            for (acl, (code, message)) in chunk.iter().zip(results) {
                refuse(DELETE, &acl.name, code, message)?;
            }
        }
        Ok(())
    }

    fn timeout(&self, request: &mut Writer) {
        request.i32(i32::try_from(CALL_TIMEOUT.as_millis()).unwrap_or(i32::MAX));
    }
}

const ALLOW: i8 = 3;
const DENY: i8 = 2;

const fn permission(allow: bool) -> i8 {
    if allow { ALLOW } else { DENY }
}

/// The filter that every rule passes.
fn any_acl(request: &mut Writer) {
    const ANY: i8 = 1;
    request.i8(ANY);
    request.text(None);
    request.i8(ANY);
    request.text(None);
    request.text(None);
    request.i8(ANY);
    request.i8(ANY);
}

fn refuse(
    operation: &'static str,
    resource: &str,
    code: i16,
    message: Option<String>,
) -> Result<(), BusError> {
    let resource = resource.to_owned();
    match code {
        0 => Ok(()),
        TOPIC_AUTHORIZATION_FAILED | GROUP_AUTHORIZATION_FAILED | CLUSTER_AUTHORIZATION_FAILED => {
            Err(BusError::Denied {
                operation,
                resource,
            })
        }
        code => Err(BusError::Refused {
            operation,
            resource,
            code,
            detail: message.map_or_else(String::new, |text| format!(": {text}")),
        }),
    }
}
