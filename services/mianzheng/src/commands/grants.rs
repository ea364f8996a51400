//! Commands that ask the consent service: whose certificate asks, with which request id, and how the
//! answer and a refusal look. What is asked stands in the files below.

mod consent;
mod oversight;

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use mz_consent::model::{Enforcement, EnforcementState};
use mz_console::{Client, ClientError};
use mz_contract::IdNumber;
use serde::Serialize;
use uuid::Uuid;

pub use consent::{case, consent};
pub use oversight::{activate, agreement, subject, why, withdrawals};

use crate::cli::{Asked, By};
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, print, say};
use crate::say_line;

/// The citizen's app.
const PORTAL: &str = "bus.portal";

/// Who asks when the command line doesn't say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Otherwise {
    /// The person, through the portal.
    Portal,
    /// Nobody: a counter must be named.
    Window,
    Auditor,
    Security,
}

/// One caller at the consent service.
struct Session {
    instance: Instance,
    client: Client,
    principal: String,
    operator: Option<String>,
    json: bool,
}

impl Session {
    fn open(dir: &Path, by: &By, otherwise: Otherwise) -> Result<Self, Failure> {
        let principal = principal(by, otherwise)?;
        let instance = Instance::open(dir)?;
        let base = format!("https://{}", instance.consent_address()?);
        let tls = instance.tls(&principal)?;
        let client = Client::new(&base, &tls).map_err(|error| failure(error, None))?;
        Ok(Self {
            instance,
            client,
            principal,
            operator: by.operator.clone(),
            json: by.json,
        })
    }

    fn is_portal(&self) -> bool {
        self.principal == PORTAL
    }

    /// The operator id, where a request can't be without.
    fn operator(&self) -> Result<String, Failure> {
        self.operator.clone().ok_or_else(|| {
            usage(
                "请用 --operator 注明经办人",
                "name the operator with --operator",
            )
        })
    }

    /// Who asks, for the record of the question: the person through the portal, or an operator.
    fn asker(&self) -> Result<Option<String>, Failure> {
        if self.is_portal() {
            return Ok(self.operator.clone());
        }
        self.operator().map(Some)
    }

    /// Prints an answer: JSON for programs, text for people.
    fn answer(&self, answer: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
        if self.json {
            let json = serde_json::to_string_pretty(answer).context("JSON")?;
            say_line!("{json}");
        } else {
            print(format_args!("{}", text()));
        }
        Ok(())
    }
}

fn principal(by: &By, otherwise: Otherwise) -> Result<String, Failure> {
    match (&by.principal, &by.department, otherwise) {
        (Some(principal), ..) => Ok(principal.clone()),
        (None, Some(department), _) => Ok(format!("{department}.window")),
        // An operator acts at a counter, and the portal has none: whose counter?
        (None, None, Otherwise::Portal) if by.operator.is_none() => Ok(PORTAL.to_owned()),
        (None, None, Otherwise::Portal | Otherwise::Window) => Err(usage(
            "请用 --department 注明哪个部门的窗口",
            "name the counter's department with --department",
        )),
        (None, None, Otherwise::Auditor) => Ok("bus.auditor".to_owned()),
        (None, None, Otherwise::Security) => Ok("bus.security".to_owned()),
    }
}

fn usage(zh: &str, en: &str) -> Failure {
    Failure::new(exit::USAGE, say(zh, en))
}

/// The caller's request id, or a new one.
fn request_id(asked: &Asked) -> String {
    let new = || format!("cli-{}", Uuid::now_v7());
    asked.request_id.clone().unwrap_or_else(new)
}

/// Why it is asked, when nobody said: a question is never recorded without a reason.
fn reason(given: &str) -> String {
    if given.is_empty() {
        return say("命令行查询", "asked on the command line");
    }
    given.to_owned()
}

/// Now, RFC 3339.
fn now() -> anyhow::Result<String> {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    let ms = i64::try_from(since.as_millis()).context("the clock")?;
    Ok(mz_seal::timestamp_text(ms))
}

/// Only `-` is taken, from standard input.
fn person(id: &str) -> Result<IdNumber, Failure> {
    super::evidence::stdin_only(id)
}

/// A refusal or a failure. `request`: under which the same change can be asked again.
fn failure(error: ClientError, request: Option<&str>) -> Failure {
    if let ClientError::Refused { problem, .. } = &error {
        if !problem.detail.is_empty() {
            let first = say(&problem.zh, &problem.en);
            let mut lines = vec![format!("{}: {first}", problem.code)];
            lines.extend(problem.detail.iter().cloned());
            return Failure::lines(exit::FAULTS, lines);
        }
        return coded(exit::FAILED, error.code(), &error);
    }
    let failed = coded(exit::FAILED, error.code(), &error);
    match request {
        // Whether it was carried out is not known: the same id asks for the same change.
        Some(id) => failed.and(say(
            &format!("是否已办理不得而知：用 --request-id {id} 重试，不会重复办理"),
            &format!("whether it was done is not known: --request-id {id} asks again, never twice"),
        )),
        None => failed,
    }
}

/// Recorded is not yet enforced: a script must be able to tell.
fn enforced<'e>(all: impl IntoIterator<Item = &'e Enforcement>) -> Outcome {
    let pending = |it: &Enforcement| it.state == EnforcementState::Pending;
    if all.into_iter().any(pending) {
        return Err(Failure::silent(exit::PENDING));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(principal: Option<&str>, department: Option<&str>, operator: Option<&str>) -> By {
        By {
            principal: principal.map(str::to_owned),
            department: department.map(str::to_owned),
            operator: operator.map(str::to_owned),
            json: false,
        }
    }

    #[test]
    fn whoever_is_named_asks_and_otherwise_the_one_whose_task_it_is() {
        let asks = |by: &By, otherwise| principal(by, otherwise).ok();
        let nobody = by(None, None, None);
        assert_eq!(asks(&nobody, Otherwise::Portal).unwrap(), "bus.portal");
        assert_eq!(asks(&nobody, Otherwise::Auditor).unwrap(), "bus.auditor");
        assert_eq!(asks(&nobody, Otherwise::Security).unwrap(), "bus.security");
        assert_eq!(asks(&nobody, Otherwise::Window), None);
        let counter = by(None, Some("union"), Some("U1"));
        for otherwise in [Otherwise::Portal, Otherwise::Window, Otherwise::Auditor] {
            assert_eq!(asks(&counter, otherwise).unwrap(), "union.window");
        }
        // An operator without a counter is never taken for the person.
        assert_eq!(asks(&by(None, None, Some("U1")), Otherwise::Portal), None);
        let named = by(Some("police.window"), None, Some("H1"));
        assert_eq!(asks(&named, Otherwise::Portal).unwrap(), "police.window");
    }

    #[test]
    fn a_request_has_an_id_of_its_own() {
        let asked = |id: Option<&str>| Asked {
            request_id: id.map(str::to_owned),
            wait_ms: None,
        };
        assert_eq!(request_id(&asked(Some("r-1"))), "r-1");
        let (one, other) = (request_id(&asked(None)), request_id(&asked(None)));
        assert!(one != other && one.len() <= 64);
    }
}
