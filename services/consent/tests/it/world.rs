//! One installation with all three services, and what people do with it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mz_bus::PlainProducer;
use mz_consent::model::{Change, ChangeKind, Changed, Evidence, Give, Given};
use mz_consent::{Caller, ConsentKeys, Handle, Options, Refusal, Service, store};
use mz_contract::{BUS, Contract, IdNumber};
use mz_gateway::Ownership;
use mz_journal::{
    Audit, Grant, GrantId, GrantStatus, Receipt, ReceiptAction, Record as _, WITHDRAWAL_HEADER,
    Withdrawal, topics,
};
use mz_keys::department_signer;
use mz_keys::evidence::{Act, ChangeAct, ChangeAction, GiveAct, change_act, give_act, sign};
use mz_keys::public::KeyUse;
use mz_seal::Signer;
use mz_vault::testing::{PATIENCE, SLOTS, TestBus, eventually};
use tokio::runtime::Runtime;

pub const RETIREMENT: &str = "union/retirement-help";
pub const ARREARS_TOPIC: &str = "to.union.retirement-help.hrss.insurance.status.v1";
pub const SETTLEMENT: &str = "police/talent-settlement";

pub struct World {
    pub bus: TestBus,
    pub runtime: Runtime,
    consent: Option<Service>,
    vault: Option<mz_vault::Service>,
    gateway: Option<Gateway>,
}

struct Gateway {
    handle: mz_gateway::Handle,
    thread: JoinHandle<Result<(), mz_gateway::Error>>,
}

/// A record of a `to.*` topic.
#[derive(Debug, Clone)]
pub struct Seen {
    pub lane: i32,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub withdrawal: Option<Withdrawal>,
    pub sequence: u64,
}

impl World {
    /// Everything running.
    pub fn new() -> Self {
        let mut world = Self::without_slots(|_| {});
        world.start_vault();
        world.start_gateway();
        world.start_consent();
        world
    }

    /// Nothing running yet.
    pub fn without_slots(change: impl FnOnce(&Path)) -> Self {
        Self {
            bus: TestBus::with(change),
            runtime: Runtime::new().expect("runtime"),
            consent: None,
            vault: None,
            gateway: None,
        }
    }

    pub fn start_vault(&mut self) {
        self.vault = Some(self.bus.start_vault().0);
    }

    pub fn vault(&self) -> mz_vault::Handle {
        self.vault.as_ref().expect("a running vault").handle()
    }

    pub fn start_gateway(&mut self) {
        let keys = mz_gateway::Keys::load(&self.bus.keys(), &self.bus.contract_root());
        let mut options = mz_gateway::Options::new(
            self.bus.bus("bus.gateway"),
            Arc::clone(&self.bus.contract),
            Arc::new(keys.expect("gateway keys")),
            SLOTS,
        );
        options.ownership = Ownership::Fixed((0..SLOTS).collect());
        let service = mz_gateway::Service::new(options).expect("gateway");
        let handle = service.handle();
        let thread = std::thread::spawn(move || service.run());
        let watched = handle.clone();
        eventually("the gateway runs", || {
            watched.running().len() == SLOTS as usize
        });
        self.gateway = Some(Gateway { handle, thread });
    }

    pub fn stop_gateway(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.handle.stop();
            let ended = gateway.thread.join().expect("gateway thread");
            ended.expect("gateway");
        }
    }

    pub fn gateway(&self) -> &mz_gateway::Handle {
        &self.gateway.as_ref().expect("a running gateway").handle
    }

    pub fn start_consent(&mut self) {
        self.start_consent_with(|_| {});
    }

    pub fn start_consent_with(&mut self, change: impl FnOnce(&mut Options)) {
        let service = Service::start(self.options(change)).expect("consent service");
        let handle = service.handle();
        eventually("the consent service is ready", || handle.is_ready());
        self.consent = Some(service);
    }

    pub fn options(&self, change: impl FnOnce(&mut Options)) -> Options {
        let root = self.bus.contract_root();
        let keys = ConsentKeys::load(&self.bus.keys(), &root).expect("consent keys");
        let mut options = Options::new(
            self.bus.bus("bus.consent"),
            Arc::clone(&self.bus.contract),
            Contract::files(&root).expect("contract files"),
            Arc::new(keys),
            store::Database::new(&self.bus.database_url, store::SCHEMA).expect("database"),
            SLOTS,
        );
        change(&mut options);
        options
    }

    pub fn stop_consent(&mut self) {
        if let Some(consent) = self.consent.take() {
            consent.stop().expect("consent service");
        }
    }

    pub fn consent(&self) -> Handle {
        self.consent
            .as_ref()
            .expect("a running consent service")
            .handle()
    }

    pub fn consent_has_failed(&self) -> bool {
        self.consent.as_ref().is_some_and(Service::has_failed)
    }

    /// The service as it is, failed or not.
    pub fn take_consent(&mut self) -> Service {
        self.consent.take().expect("a consent service")
    }

    /// A revocation that a service recorded and had no time to send: written as the service writes.
    pub fn record_unsent_revocation(&self, id: GrantId) {
        self.runtime.block_on(async {
            let database = store::Database::new(&self.bus.database_url, store::SCHEMA);
            let store = store::Store::take_over(&database.expect("database"), "test").await;
            let store = store.expect("store");
            let mut step = store.step().await.expect("step");
            let row = step.grant(id).await.expect("grant").expect("grant");
            let next = Grant {
                status: GrantStatus::Closed,
                counter: row.grant.counter + 1,
                closed_ms: Some(chrono::Utc::now().timestamp_millis()),
                ..row.grant
            };
            step.put_grant(row.lane, &next, None).await.expect("put");
            step.send(row.lane, store::Outgoing::Grant(&next), None)
                .await
                .expect("send");
            step.commit().await.expect("commit");
        });
    }

    /// What a service that put version 1 in force had no time to do: send its grants once more.
    pub fn record_due_refetch(&self, agreement: &str) {
        self.runtime.block_on(async {
            let database = store::Database::new(&self.bus.database_url, store::SCHEMA);
            let store = store::Store::take_over(&database.expect("database"), "test").await;
            let mut step = store.expect("store").step().await.expect("step");
            let scope = store::Scope::Agreement {
                id: agreement.to_owned(),
                dataset: String::new(),
            };
            let (reason, occasion) = (mz_policy::REFETCH, 1_u64.to_be_bytes());
            step.put_due(
                0,
                &scope,
                reason,
                mz_journal::OrderCondition::Always,
                &occasion,
            )
            .await
            .expect("due");
            step.commit().await.expect("commit");
        });
    }

    /// Lets a grant run out in a moment: recorded and sent as any other change.
    pub fn expire_soon(&mut self, grant: &str, in_ms: i64) {
        let id = GrantId::from_hex(grant).expect("id");
        self.stop_consent();
        self.runtime.block_on(async {
            let database = store::Database::new(&self.bus.database_url, store::SCHEMA);
            let store = store::Store::take_over(&database.expect("database"), "test").await;
            let store = store.expect("store");
            let mut step = store.step().await.expect("step");
            let row = step.grant(id).await.expect("grant").expect("grant");
            let next = Grant {
                counter: row.grant.counter + 1,
                expires_ms: chrono::Utc::now().timestamp_millis() + in_ms,
                ..row.grant
            };
            step.put_grant(row.lane, &next, None).await.expect("put");
            step.send(row.lane, store::Outgoing::Grant(&next), None)
                .await
                .expect("send");
            step.commit().await.expect("commit");
        });
        self.start_consent();
    }

    /// Runs one call.
    pub fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// A person gives consent in the app, for everything that the agreement reads.
    pub fn give(&self, request_id: &str, id: &IdNumber, agreement: &str) -> Given {
        let give = self.app_give(request_id, id, agreement);
        self.call(self.consent().give(&portal(), give))
            .expect("consent")
    }

    /// A request of the app, signed as the portal signs.
    pub fn app_give(&self, request_id: &str, id: &IdNumber, agreement: &str) -> Give {
        let contract = self.consent().contract();
        let agreed = contract.agreement(agreement).expect("agreement");
        let separate = agreed
            .sections
            .iter()
            .flat_map(|section| {
                let dataset = &contract.datasets[section.dataset_ix];
                section.sensitive.iter().map(|field| {
                    format!(
                        "{}#{}",
                        dataset.id,
                        dataset.fields[usize::from(*field)].name
                    )
                })
            })
            .collect();
        let mut give = Give {
            request_id: request_id.to_owned(),
            id: id.as_str().to_owned(),
            agreement: agreement.to_owned(),
            datasets: Vec::new(),
            separate,
            valid_until: in_days(100),
            notice_version: agreed
                .consent
                .as_ref()
                .map_or(1, |terms| terms.notice_version),
            evidence: Evidence::Counter {
                operator: String::new(),
                at: String::new(),
                document: String::new(),
            },
            representation: None,
            wait_ms: Some(20_000),
        };
        self.sign_give(&mut give, id);
        give
    }

    /// Signs what the request says now.
    pub fn sign_give(&self, give: &mut Give, id: &IdNumber) {
        let (at, session) = (chrono::Utc::now().to_rfc3339(), "session-1");
        let act = give_act(&GiveAct {
            agreement: &give.agreement,
            datasets: &give.datasets,
            separate: &give.separate,
            notice_version: give.notice_version,
            valid_until: &give.valid_until,
            by: Act {
                request_id: &give.request_id,
                at: &at,
                session,
                person: id,
            },
        });
        give.evidence = self.evidence(&act.expect("act"), &at, session);
    }

    fn evidence(&self, act: &[u8], at: &str, session: &str) -> Evidence {
        let signer = self.signer(BUS, KeyUse::Evidence);
        let (key_id, signature) = sign(&*signer, act).expect("evidence");
        Evidence::App {
            session: session.to_owned(),
            at: at.to_owned(),
            key_id,
            signature,
        }
    }

    pub fn signer(&self, owner: &str, usage: KeyUse) -> Box<dyn Signer> {
        department_signer(&self.bus.keys(), &self.bus.contract_root(), owner, usage)
            .expect("signer")
    }

    /// A change by the person in the app.
    pub fn change(
        &self,
        kind: ChangeKind,
        request_id: &str,
        grant: &str,
        id: &IdNumber,
    ) -> Result<Changed, Refusal> {
        let action = match kind {
            ChangeKind::Resume => Some(ChangeAction::Resume),
            ChangeKind::Extend => Some(ChangeAction::Extend),
            _ => None,
        };
        let (at, session) = (chrono::Utc::now().to_rfc3339(), "session-2");
        let valid_until = (kind == ChangeKind::Extend).then(|| in_days(200));
        let evidence = action.map(|action| {
            let act = change_act(&ChangeAct {
                action,
                grant,
                valid_until: valid_until.as_deref(),
                by: Act {
                    request_id,
                    at: &at,
                    session,
                    person: id,
                },
            });
            self.evidence(&act.expect("act"), &at, session)
        });
        let change = Change {
            request_id: request_id.to_owned(),
            grant: grant.to_owned(),
            id: Some(id.as_str().to_owned()),
            reason: "in the app".to_owned(),
            operator: None,
            valid_until,
            evidence,
            wait_ms: Some(20_000),
        };
        self.call(self.consent().change(&portal(), kind, change))
    }

    /// All committed records of a `to.*` topic, lane by lane.
    pub fn deliveries(&self, topic: &str) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.bus.read(topic, |record| {
            let headers = record.headers().expect("headers");
            let header = |name: &str| {
                headers
                    .iter()
                    .find(|(found, _)| *found == name)
                    .and_then(|(_, value)| *value)
            };
            let delivery = header(mz_journal::DELIVERY_HEADER).expect("mz-delivery");
            seen.push(Seen {
                lane: record.partition,
                key: record.key.expect("key").to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                withdrawal: header(WITHDRAWAL_HEADER)
                    .map(|bytes| Withdrawal::decode(bytes).expect("withdrawal")),
                sequence: mz_journal::DeliveryHeader::decode(delivery)
                    .expect("delivery header")
                    .sequence,
            });
        });
        seen
    }

    /// Values and withdrawals in a topic: (values, null values).
    pub fn counts(&self, topic: &str) -> (usize, usize) {
        let seen = self.deliveries(topic);
        let values = seen.iter().filter(|one| one.value.is_some()).count();
        (values, seen.len() - values)
    }

    /// What a topic holds now: the newest value of each key.
    pub fn held(&self, topic: &str) -> usize {
        let mut newest = std::collections::HashMap::new();
        for one in self.deliveries(topic) {
            newest.insert(one.key, one.value.is_some());
        }
        newest.values().filter(|held| **held).count()
    }

    pub fn audits(&self) -> Vec<Audit<'static>> {
        self.bus.audits()
    }

    /// A consumer's adapter says what it did.
    pub fn receipt(&self, topic: &str, seen: &Seen, action: ReceiptAction, by: &str) {
        let withdrawal = seen.withdrawal.as_ref().expect("a withdrawal");
        let signer = self.signer(by, KeyUse::Receipt);
        let agreement = topic
            .split('.')
            .skip(1)
            .take(2)
            .collect::<Vec<_>>()
            .join("/");
        let mut receipt = Receipt {
            order: withdrawal.order,
            agreement,
            topic: topic.to_owned(),
            lane: u16::try_from(seen.lane).expect("lane"),
            sequence: seen.sequence,
            key: seen.key.as_slice().try_into().expect("key"),
            action,
            at_ms: chrono::Utc::now().timestamp_millis(),
            key_id: signer.key_id().to_owned(),
            signature: [0; 64],
        };
        receipt.signature = signer.sign(&receipt.payload()).expect("signature");
        self.send_receipt(by, &receipt);
    }

    pub fn send_receipt(&self, by: &str, receipt: &Receipt) {
        let bus = self.bus.bus(&format!("{by}.adapter"));
        let mut producer = PlainProducer::open(&bus).expect("producer");
        let lane = i32::from(receipt.lane);
        producer
            .send(
                topics::RECEIPTS,
                lane,
                &receipt.order.0,
                Some(&receipt.encode()),
                &[],
            )
            .expect("receipt");
        producer.flush(PATIENCE).expect("receipt");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The slots end before the topics that they wait for.
        self.consent.take();
        self.vault.take();
        if let Some(gateway) = self.gateway.take() {
            gateway.handle.stop();
            let _ = gateway.thread.join();
        }
    }
}

pub fn in_days(days: u64) -> String {
    let day = chrono::Utc::now().date_naive() + chrono::Days::new(days);
    day.format("%Y-%m-%d").to_string()
}

pub fn portal() -> Caller {
    caller("bus.portal")
}

pub fn security() -> Caller {
    caller("bus.security")
}

pub fn auditor() -> Caller {
    caller("bus.auditor")
}

pub fn caller(name: &str) -> Caller {
    let (department, role) = name.split_once('.').expect("department.role");
    Caller {
        department: department.to_owned(),
        role: role.to_owned(),
    }
}

/// Long enough for whatever is on its way to have come, as the idle slots say.
pub fn settled(world: &World) {
    std::thread::sleep(Duration::from_millis(100));
    eventually("the gateway is idle", || world.gateway().is_idle());
}
