//! A counter of the union that gives, pauses, resumes, extends and revokes consents over HTTP, without a
//! pause. What gets no answer is asked again under the same request id, however often, until it is
//! answered. Each answer is written down: the checks hold the bus to it.

use crate::arrears::Person;
use crate::drill::Dice;
use crate::install::Installation;
use crate::people::{in_days, separate};
use crate::wait::good;
use mz_bus::{BusOptions, Isolation, Reader, TlsFiles};
use mz_consent::model::{
    AskEnforcement, Change, ChangeKind, Enforcement, EnforcementState, Evidence, Give,
};
use mz_console::{Client, ClientError};
use mz_contract::Contract;
use mz_journal::topics;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub const AGREEMENT: &str = "union/retirement-help";
const OPERATOR: &str = "gh-0042";
/// How long an answer may wait for enforcement: longer than it takes to shut an owner out.
const WAIT_MS: u64 = 4_000;
/// Between two attempts of one request.
const AGAIN: Duration = Duration::from_millis(100);
/// One request must be carried out within this, whatever is killed meanwhile.
const STUCK: Duration = Duration::from_secs(180);
/// How often a change that is not enforced yet is asked about.
const ASK_AGAIN: u32 = 3;
/// Of how many answers one is taken for lost, so that its request is sent once more.
const LOST: u64 = 6;

/// One change that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub person: usize,
    pub grant: String,
    pub counter: u64,
    /// As the consent service's history calls it.
    pub action: &'static str,
    /// As its grants are listed.
    pub status: &'static str,
}

/// The records of one partition that were written within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// End of what was committed when it began: whatever is committed later lies here or behind.
    pub from: i64,
    /// End of everything when it ended: whatever was written before lies below.
    pub to: Option<i64>,
}

impl Stretch {
    pub fn holds(&self, offset: i64) -> bool {
        offset >= self.from && self.to.is_none_or(|to| offset < to)
    }
}

/// Nothing may reach the union about this person: from the answer `enforced` until somebody asks for
/// more again.
#[derive(Clone, Debug)]
pub struct Barred {
    pub person: usize,
    pub grant: String,
    pub counter: u64,
    /// Clock of this machine when the answer had come.
    pub at_ms: i64,
    pub topic: Stretch,
    pub audit: Stretch,
}

/// Everything that the clients were told.
#[derive(Debug, Default)]
pub struct Told {
    pub acknowledged: Vec<Acknowledged>,
    pub barred: Vec<Barred>,
    /// Restrictions that were enforced with their first answer, when asked again, and never.
    pub at_once: u32,
    pub later: u32,
    pub pending: u32,
    /// Of those enforced, how many because an owner was shut out.
    pub fenced: u32,
    /// Requests sent again: without an answer, or as if it had been lost.
    pub retried: u32,
    pub repeated: u32,
    /// What should not have been said.
    pub faults: Vec<String>,
    /// From the first attempt of a restriction to `enforced` in the first answer.
    pub waits: Vec<Duration>,
}

impl Told {
    pub fn join(&mut self, mut other: Self) {
        self.acknowledged.append(&mut other.acknowledged);
        self.barred.append(&mut other.barred);
        self.at_once += other.at_once;
        self.later += other.later;
        self.pending += other.pending;
        self.fenced += other.fenced;
        self.retried += other.retried;
        self.repeated += other.repeated;
        self.faults.append(&mut other.faults);
        self.waits.append(&mut other.waits);
    }
}

/// Where the consent service is at the moment, for all clients.
#[derive(Debug)]
pub struct Desk {
    pub tls: TlsFiles,
    pub admin: BusOptions,
    pub contract: Arc<Contract>,
    pub people: Arc<Vec<Person>>,
    address: Mutex<String>,
    closing: AtomicBool,
}

impl Desk {
    pub fn new(
        it: &Installation,
        contract: &Arc<Contract>,
        people: &Arc<Vec<Person>>,
        address: &str,
    ) -> Self {
        Self {
            tls: TlsFiles::of(it.keys().root(), "union.window"),
            admin: it.bus("bus.admin"),
            contract: Arc::clone(contract),
            people: Arc::clone(people),
            address: Mutex::new(address.to_owned()),
            closing: AtomicBool::new(false),
        }
    }

    /// The service has moved.
    pub fn moved(&self, address: &str) {
        let mut held = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        address.clone_into(&mut held);
    }

    /// Clients end what they have in hand, leave nobody paused, and go.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn address(&self) -> String {
        let held = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }
}

/// What one person's consent is like, as far as this client was told.
struct Walk {
    person: usize,
    grant: String,
    standing: Standing,
    /// Days from today on which it ends.
    days: u64,
    /// Where the bars in force stand in `Told::barred`.
    bars: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Nothing,
    Open,
    Paused,
}

/// One client with people of its own.
pub struct Counter {
    desk: Arc<Desk>,
    number: usize,
    dice: Dice,
    walks: Vec<Walk>,
    client: Option<(String, Client)>,
    committed: Reader,
    written: Reader,
    requests: u64,
    told: Told,
}

impl Counter {
    /// The `number`-th of `all` clients.
    pub fn new(desk: &Arc<Desk>, number: usize, all: usize, seed: u64) -> Self {
        let walks = (0..desk.people.len())
            .filter(|person| person % all == number)
            .map(|person| Walk {
                person,
                grant: String::new(),
                standing: Standing::Nothing,
                days: 0,
                bars: Vec::new(),
            })
            .collect();
        Self {
            number,
            dice: Dice(seed.wrapping_mul(1_000).wrapping_add(number as u64)),
            walks,
            client: None,
            committed: good("reader", Reader::open(&desk.admin, Isolation::Committed)),
            written: good("reader", Reader::open(&desk.admin, Isolation::Uncommitted)),
            requests: 0,
            told: Told::default(),
            desk: Arc::clone(desk),
        }
    }

    /// Changes one consent after the other until the desk closes. Panics when a request can't be
    /// brought to its end.
    pub fn run(mut self) -> Told {
        while !self.desk.closing.load(Ordering::Acquire) {
            let at = self.dice.below(self.walks.len() as u64) as usize;
            self.turn(at);
        }
        for at in 0..self.walks.len() {
            if self.walks[at].standing == Standing::Paused {
                let kind = match self.dice.below(2) {
                    0 => ChangeKind::Resume,
                    _ => ChangeKind::Revoke,
                };
                self.change(at, kind);
            }
        }
        self.told.pending = (self.told.acknowledged.iter())
            .filter(|one| one.action == "revoked" || one.action == "paused")
            .count() as u32
            - self.told.at_once
            - self.told.later;
        self.told
    }

    fn turn(&mut self, at: usize) {
        let kind = match (self.walks[at].standing, self.dice.below(10)) {
            (Standing::Nothing, _) => return self.give(at),
            (Standing::Open, 0..=3) => ChangeKind::Revoke,
            (Standing::Open, 4..=7) => ChangeKind::Pause,
            (Standing::Paused, 0..=5) => ChangeKind::Resume,
            (Standing::Paused, 6..=7) => ChangeKind::Revoke,
            // A paused consent that is extended stays paused.
            (_, _) => ChangeKind::Extend,
        };
        self.change(at, kind);
    }

    fn give(&mut self, at: usize) {
        let (person, days) = (self.walks[at].person, 100);
        let give = Give {
            request_id: self.request_id(),
            id: self.desk.people[person].id.as_str().to_owned(),
            agreement: AGREEMENT.to_owned(),
            datasets: Vec::new(),
            separate: separate(&self.desk.contract, AGREEMENT),
            valid_until: in_days(days),
            notice_version: 1,
            evidence: evidence(),
            representation: None,
            wait_ms: Some(WAIT_MS),
        };
        self.unbar(at);
        let Some(given) = self.insist("give", |client| client.give(&give)) else {
            return;
        };
        let grant = given.consent.record_id;
        if self.dice.below(LOST) == 0 {
            self.told.repeated += 1;
            let again = self.insist("give again", |client| client.give(&give));
            if again.is_some_and(|again| again.consent.record_id != grant) {
                self.fault("one request id, two consents");
            }
        }
        self.walks[at].grant.clone_from(&grant);
        self.walks[at].standing = Standing::Open;
        self.walks[at].days = days;
        self.told.acknowledged.push(Acknowledged {
            person,
            grant,
            counter: 1,
            action: "given",
            status: "open",
        });
    }

    fn change(&mut self, at: usize, kind: ChangeKind) {
        let widens = matches!(kind, ChangeKind::Resume | ChangeKind::Extend);
        let (person, grant) = (self.walks[at].person, self.walks[at].grant.clone());
        let days = self.walks[at].days + u64::from(kind == ChangeKind::Extend);
        let change = Change {
            request_id: self.request_id(),
            grant: grant.clone(),
            id: Some(self.desk.people[person].id.as_str().to_owned()),
            reason: "drill".to_owned(),
            operator: Some(OPERATOR.to_owned()),
            valid_until: (kind == ChangeKind::Extend).then(|| in_days(days)),
            evidence: widens.then(evidence),
            wait_ms: Some(WAIT_MS),
        };
        if kind == ChangeKind::Resume {
            self.unbar(at);
        }
        let started = Instant::now();
        let Some(changed) = self.insist("change", |client| client.change(kind, &change)) else {
            return;
        };
        let took = started.elapsed();
        let (counter, status) = (changed.grant.counter, changed.grant.status);
        let mut enforcement = changed.enforcement;
        if self.dice.below(LOST) == 0 {
            self.told.repeated += 1;
            let again = self.insist("change again", |client| client.change(kind, &change));
            if let Some(again) = again {
                if again.grant.counter != counter {
                    self.fault("one request id, two changes");
                }
                enforcement = again.enforcement;
            }
        }
        let (action, standing, expected) = match (kind, self.walks[at].standing) {
            (ChangeKind::Revoke | ChangeKind::Close, _) => ("revoked", Standing::Nothing, "closed"),
            (ChangeKind::Pause, _) => ("paused", Standing::Paused, "paused"),
            (ChangeKind::Resume, _) => ("resumed", Standing::Open, "open"),
            (ChangeKind::Extend, Standing::Paused) => ("extended", Standing::Paused, "paused"),
            (ChangeKind::Extend, standing) => ("extended", standing, "open"),
        };
        if status != expected {
            self.fault(format!("{action}: the answer says {status}"));
        }
        self.walks[at].standing = standing;
        self.walks[at].days = days;
        self.told.acknowledged.push(Acknowledged {
            person,
            grant,
            counter,
            action,
            status: expected,
        });
        if matches!(kind, ChangeKind::Revoke | ChangeKind::Pause) {
            self.restricted(at, counter, enforcement, took);
        }
    }

    /// Notes from where on nothing may come, once that was said.
    fn restricted(&mut self, at: usize, counter: u64, first: Enforcement, took: Duration) {
        let grant = self.walks[at].grant.clone();
        let mut answer = first;
        let mut asked = 0;
        while answer.state != EnforcementState::Enforced && asked < ASK_AGAIN {
            asked += 1;
            let ask = AskEnforcement {
                grant: grant.clone(),
                wait_ms: Some(WAIT_MS),
            };
            match self.insist("enforcement", |client| client.enforcement(&ask)) {
                Some(now) => answer = now,
                None => return,
            }
        }
        if answer.state != EnforcementState::Enforced {
            return;
        }
        // Behind the answer: what is committed after this is committed after the answer.
        let lane = self.desk.people[self.walks[at].person].lane;
        let (topic, audit) = (topic(&self.desk.contract), topics::AUDIT);
        let stretch = |reader: &Reader, topic: &str| {
            let (_, end) = good("watermarks", reader.watermarks(topic, i32::from(lane)));
            Stretch {
                from: end,
                to: None,
            }
        };
        self.told.barred.push(Barred {
            person: self.walks[at].person,
            grant,
            counter,
            at_ms: chrono::Utc::now().timestamp_millis(),
            topic: stretch(&self.committed, &topic),
            audit: stretch(&self.committed, audit),
        });
        self.walks[at].bars.push(self.told.barred.len() - 1);
        self.told.fenced += u32::from(!answer.fenced.is_empty());
        if asked == 0 {
            self.told.at_once += 1;
            self.told.waits.push(took);
        } else {
            self.told.later += 1;
        }
    }

    /// More is about to be asked for: what is written from now on may be right.
    fn unbar(&mut self, at: usize) {
        let walk = &mut self.walks[at];
        if walk.bars.is_empty() {
            return;
        }
        let lane = i32::from(self.desk.people[walk.person].lane);
        let topic = topic(&self.desk.contract);
        let end = |topic: &str| good("watermarks", self.written.watermarks(topic, lane)).1;
        let (deliveries, audit) = (end(&topic), end(topics::AUDIT));
        for bar in walk.bars.drain(..) {
            let barred = &mut self.told.barred[bar];
            barred.topic.to = Some(deliveries);
            barred.audit.to = Some(audit);
        }
    }

    /// Sends one request until it is answered. A refusal is an answer that should not have come.
    fn insist<A>(
        &mut self,
        what: &str,
        call: impl Fn(&Client) -> Result<A, ClientError>,
    ) -> Option<A> {
        let started = Instant::now();
        loop {
            let address = self.desk.address();
            if self
                .client
                .as_ref()
                .is_none_or(|(held, _)| *held != address)
            {
                let base = format!("https://{address}");
                let client = good("client", Client::new(&base, &self.desk.tls));
                self.client = Some((address, client));
            }
            let (_, client) = self.client.as_ref()?;
            let fault = match call(client) {
                Ok(answer) => return Some(answer),
                Err(fault) => fault,
            };
            match &fault {
                // Busy, too late, not ready, no longer the owner: somebody else will answer.
                ClientError::Refused { status, .. } if *status >= 500 => {}
                ClientError::Transport(_) | ClientError::Answer { .. } | ClientError::Json(_) => {}
                other => {
                    self.fault(format!("{what}: {other}"));
                    return None;
                }
            }
            assert!(
                started.elapsed() < STUCK,
                "{what} of client {} was not carried out within {STUCK:?}: {fault}",
                self.number
            );
            self.told.retried += 1;
            self.client = None;
            std::thread::sleep(AGAIN);
        }
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("drill-{}-{}", self.number, self.requests)
    }

    fn fault(&mut self, fault: impl Into<String>) {
        self.told.faults.push(fault.into());
    }
}

/// The union's topic of the agreement.
pub fn topic(contract: &Contract) -> String {
    contract
        .agreement(AGREEMENT)
        .and_then(|agreement| agreement.sections.first())
        .map(|section| section.out_topic.clone())
        .unwrap_or_default()
}

fn evidence() -> Evidence {
    Evidence::Counter {
        operator: OPERATOR.to_owned(),
        at: chrono::Utc::now().to_rfc3339(),
        document: "drill".to_owned(),
    }
}
