//! The adapter is killed, frozen and cut off; nothing is lost, nothing doubled.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{APPROVAL, Fact, INSURANCE, Outgoing, World, receipt_signer};
use mz_adapter::Service;
use mz_journal::ReceiptAction;
use rand::Rng as _;
use sqlx::Row as _;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Not a test of its own: the adapter as a process that can be killed. See [`spawn`].
#[test]
fn child_process() {
    let Ok(prefix) = std::env::var("MZ_ADAPTER_CHILD_PREFIX") else {
        return;
    };
    let root = std::env::var("MZ_ADAPTER_CHILD_CONTRACT").unwrap();
    let url = std::env::var("MZ_ADAPTER_CHILD_URL").unwrap();
    let contract = mz_contract::Contract::load(root.as_ref(), mz_contract::Mode::Signed).unwrap();
    let config =
        mz_adapter::Config::parse("consumer: police\npurpose: talent-settlement\n").unwrap();
    let parts = mz_stack::testing::shared().bus("police.adapter");
    let bus = mz_bus::BusOptions {
        bootstrap: parts.bootstrap,
        prefix,
        tls: Some(mz_bus::TlsFiles {
            ca: parts.ca,
            cert: parts.cert,
            key: parts.key,
        }),
        client_id: "police.adapter".into(),
    };
    let mut options =
        mz_adapter::Options::new(bus, Arc::new(contract), config, Some(&url)).unwrap();
    options.receipt_signer = Some(receipt_signer(
        &mz_stack::testing::shared().keys(),
        root.as_ref(),
    ));
    match mz_adapter::run(options, &NEVER) {
        Ok(_) => {}
        Err(error) if error.is_superseded() => std::process::exit(6),
        Err(error) => panic!("{error}"),
    }
}

fn spawn(world: &World) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "crashes::child_process",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("MZ_ADAPTER_CHILD_PREFIX", &world.prefix)
        .env("MZ_ADAPTER_CHILD_CONTRACT", world.contract_root())
        .env("MZ_ADAPTER_CHILD_URL", &world.database_url)
        // Its own "test result" is none of the run's.
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < end, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Records read and committed; 0 before the tables are there.
fn delivered(world: &World) -> i64 {
    if !world.ask::<bool>("SELECT to_regclass('mz_positions') IS NOT NULL") {
        return 0;
    }
    world.ask("SELECT coalesce(sum(delivered), 0)::bigint FROM mz_positions")
}

/// What the table must hold: per person, the newest version or nothing.
#[derive(Default)]
struct Model(HashMap<u32, (u64, bool)>);

impl Model {
    fn take(&mut self, facts: &[Fact]) {
        for fact in facts {
            let held = self.0.entry(fact.person).or_default();
            if fact.counter > held.0 {
                *held = (fact.counter, fact.withdrawn);
            }
        }
    }

    fn check(&self, world: &World) {
        let found: HashMap<String, i64> = world
            .rows("SELECT id_no, mz_counter FROM hrss_insurance_status_v1")
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let wanted: HashMap<String, i64> = self
            .0
            .iter()
            .filter(|(_, (_, withdrawn))| !withdrawn)
            .map(|(person, (counter, _))| (Fact::insurance(*person, 1).id_no(), *counter as i64))
            .collect();
        assert_eq!(found.len(), wanted.len());
        assert!(found == wanted, "a row is not the newest version");
    }
}

#[test]
fn killed_at_random_moments_it_loses_and_doubles_nothing() {
    let world = World::new();
    let mut gateway = world.gateway();
    let mut random = rand::rng();
    let mut model = Model::default();
    let (mut sent, mut before) = (0i64, 0i64);
    let mut child = spawn(&world);
    for round in 0..40u64 {
        let facts: Vec<Fact> = (0..250)
            .map(|at| {
                let person = random.random_range(0..400);
                // Versions out of order on purpose: late ones must lose.
                let counter = 1 + round * 250 + random.random_range(0..500) * 2 % 700 + at % 2;
                let fact = Fact::insurance(person, counter.max(1));
                if random.random_range(0..20) == 0 {
                    fact.withdrawn()
                } else {
                    fact
                }
            })
            .collect();
        // A counter says one thing only: drop second uses of a person's counter.
        let mut seen = HashMap::new();
        let facts: Vec<Fact> = facts
            .into_iter()
            .filter(|fact| {
                let fresh = seen.insert((fact.person, fact.counter), ()).is_none();
                fresh
                    && model
                        .0
                        .get(&fact.person)
                        .is_none_or(|held| held.0 != fact.counter)
            })
            .collect();
        model.take(&facts);
        sent += facts.len() as i64;
        gateway.deliver(&facts);
        if round % 4 == 3 {
            // It must be at work to be killed at work: a moment after it has moved on.
            until("the child works", || delivered(&world) > before);
            std::thread::sleep(Duration::from_millis(random.random_range(0..60)));
            child.kill().unwrap();
            child.wait().unwrap();
            before = delivered(&world);
            child = spawn(&world);
        }
    }
    until("everything is read", || delivered(&world) >= sent);
    child.kill().unwrap();
    child.wait().unwrap();
    let rest = mz_adapter::run(world.options(""), &NEVER).unwrap().totals();
    assert_eq!(rest.delivered, 0, "positions are those of the rows");
    let row = &world.rows(
        "SELECT sum(delivered)::bigint, sum(stored + superseded + withdrawn + rejected)::bigint, \
         sum(rejected)::bigint, (SELECT count(*) FROM mz_sequence_faults) FROM mz_positions",
    )[0];
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (sent, sent));
    assert_eq!(
        (row.get::<i64, _>(2), row.get::<i64, _>(3)),
        (0, 0),
        "no refusal, no gap, no repeat"
    );
    model.check(&world);
}

/// Killed at random while it withdraws, freezes, releases and sends: every order is carried out at its
/// place, and its receipts come at least once, all saying the same.
#[test]
fn killed_between_doing_and_saying_it_says_it_later() {
    let world = World::new();
    let mut gateway = world.gateway();
    let mut random = rand::rng();
    // Persons below 40 are under a hold, by what the topics will say about them.
    mz_adapter::run(world.options(""), &NEVER).unwrap();
    world.execute(
        "INSERT INTO mz_legal_hold (mz_person, reason) \
         SELECT substring(int4send(n) || decode(repeat('ab', 16), 'hex') FOR 16), 'case' \
         FROM generate_series(0, 39) AS n",
    );
    // Person → the version that is in the table.
    let mut held: HashMap<u32, u64> = HashMap::new();
    let mut wanted: HashMap<u64, ReceiptAction> = HashMap::new();
    let (mut orders, mut sent, mut before) = (0u64, 0i64, 0i64);
    let mut child = spawn(&world);
    for round in 1..=32u64 {
        let mut records: Vec<Outgoing> = Vec::new();
        for _ in 0..40 {
            let person = random.random_range(0..120);
            if random.random_range(0..2) == 0 {
                let fact = Fact::insurance(person, round);
                records.extend(gateway.deliveries(&[fact]));
                held.insert(person, round);
            } else {
                orders += 1;
                records.push(gateway.withdrawal(&Fact::insurance(person, round), orders));
                let action = match held.remove(&person) {
                    Some(_) if person < 40 => ReceiptAction::Frozen,
                    Some(_) => ReceiptAction::Deleted,
                    // A frozen copy may be there of which nothing else is known here.
                    None if person < 40 => continue,
                    None => ReceiptAction::Absent,
                };
                wanted.insert(orders, action);
            }
        }
        sent += records.len() as i64;
        gateway.send(&records);
        if round % 2 == 0 {
            until("the child works", || delivered(&world) > before);
            std::thread::sleep(Duration::from_millis(random.random_range(0..40)));
            child.kill().unwrap();
            child.wait().unwrap();
            before = delivered(&world);
            child = spawn(&world);
        }
    }
    until("everything is read", || delivered(&world) >= sent);
    child.kill().unwrap();
    child.wait().unwrap();
    world.execute("UPDATE mz_legal_hold SET until = now()");
    let summary = mz_adapter::run(world.options(""), &NEVER).unwrap();
    assert_eq!((summary.frozen_held, summary.receipts_unsent), (0, 0));
    assert_eq!(delivered(&world), sent, "each record once");

    let found: HashMap<String, i64> = world
        .rows("SELECT id_no, mz_counter FROM hrss_insurance_status_v1")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let model: HashMap<String, i64> = held
        .iter()
        .map(|(person, counter)| (Fact::insurance(*person, 1).id_no(), *counter as i64))
        .collect();
    assert_eq!(found, model);

    let receipts = world.receipts();
    let mut said: HashMap<(u64, ReceiptAction), HashSet<Vec<u8>>> = HashMap::new();
    for receipt in &receipts {
        let number = u64::from_be_bytes(receipt.order.as_bytes()[8..].try_into().unwrap());
        said.entry((number, receipt.action))
            .or_default()
            .insert(receipt.payload());
    }
    assert!(
        said.values().all(|words| words.len() == 1),
        "the same bytes again"
    );
    for (order, action) in &wanted {
        assert!(said.contains_key(&(*order, *action)), "{order} {action:?}");
    }
    for order in 1..=orders {
        let actions: HashSet<ReceiptAction> = said
            .keys()
            .filter(|(of, _)| *of == order)
            .map(|(_, action)| *action)
            .collect();
        let ended = [ReceiptAction::Deleted, ReceiptAction::Absent];
        assert_eq!(
            actions
                .iter()
                .filter(|action| ended.contains(action))
                .count(),
            1,
            "order {order}: {actions:?}"
        );
    }
    eprintln!(
        "{orders} orders, {} receipts on the bus, {} of them again",
        receipts.len(),
        receipts.len() - said.len()
    );
}

/// The same, at the one moment that matters: done and committed, not yet said.
#[test]
fn killed_with_unsent_receipts_the_next_one_sends_them() {
    let world = World::new();
    let mut gateway = world.gateway();
    world.receipts_right(false);
    let mut child = spawn(&world);
    let facts: Vec<Fact> = (0..20).map(|person| Fact::insurance(person, 1)).collect();
    gateway.deliver(&facts);
    gateway.withdraw(&facts, 1);
    until("it withdrew", || delivered(&world) == 40);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(world.receipts().is_empty());
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM mz_receipts WHERE sent_at IS NULL"),
        20
    );
    world.receipts_right(true);
    let mut child = spawn(&world);
    until("the receipts are sent", || {
        world.ask::<i64>("SELECT count(*) FROM mz_receipts WHERE sent_at IS NULL") == 0
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let orders: HashSet<_> = world
        .receipts()
        .iter()
        .map(|receipt| receipt.order)
        .collect();
    assert_eq!(orders.len(), 20);
}

#[test]
fn a_lost_database_connection_is_found_again() {
    let world = World::new();
    let mut gateway = world.gateway();
    let service = Service::new({
        let mut options = world.options("");
        options.once = false;
        options
    })
    .unwrap();
    let handle = service.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let thread = std::thread::spawn(move || service.run(&flag));
    let mut model = Model::default();
    for round in 0..12u64 {
        let facts: Vec<Fact> = (0..50)
            .map(|person| Fact::insurance(person, 1 + round))
            .collect();
        model.take(&facts);
        gateway.deliver(&facts);
        if round % 3 == 1 {
            until("rows flow", || {
                handle.summary().totals().delivered > 50 * round
            });
            world.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'mianzheng-adapter' AND datname = current_database()",
            );
        }
    }
    until("everything is read", || {
        handle.summary().totals().delivered == 600
    });
    stop.store(true, Ordering::Relaxed);
    let summary = thread.join().unwrap().unwrap();
    assert!(summary.reconnects >= 1, "{}", summary.to_json());
    model.check(&world);
    assert_eq!(
        world.ask::<i64>("SELECT sum(delivered)::bigint FROM mz_positions"),
        600
    );
}

/// An adapter that was frozen while another took over commits nothing when it wakes.
#[test]
fn a_second_adapter_takes_over_and_the_first_ends() {
    let world = World::new();
    let mut gateway = world.gateway();
    let mut first = spawn(&world);
    gateway.deliver(&[Fact::insurance(1, 1)]);
    until("the first works", || delivered(&world) == 1);
    signal(&first, "STOP");
    gateway.deliver(&[Fact::insurance(1, 2), Fact::insurance(2, 1)]);
    let totals = mz_adapter::run(world.options(""), &NEVER).unwrap().totals();
    assert_eq!(totals.delivered, 2);
    signal(&first, "CONT");
    gateway.deliver(&[Fact::insurance(3, 1)]);
    let mut status = None;
    until("the first ends", || {
        status = first.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(6));
    assert_eq!(
        world.ask::<i64>("SELECT sum(delivered)::bigint FROM mz_positions"),
        3
    );
    assert_eq!(
        mz_adapter::run(world.options(""), &NEVER)
            .unwrap()
            .totals()
            .delivered,
        1
    );
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        3
    );
}

fn signal(child: &Child, name: &str) {
    let done = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(done.success());
}

/// At a steady pace: from the write into the topic to the commit of the row.
#[test]
fn rows_are_in_the_table_soon_after_their_delivery() {
    let world = World::new();
    let mut gateway = world.gateway();
    let mut options = world.options("");
    options.once = false;
    let service = Service::new(options).unwrap();
    let handle = service.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let thread = std::thread::spawn(move || service.run(&flag));
    gateway.deliver(&[Fact::of(APPROVAL, 1, 1, "TA-1")]);
    until("the adapter is up", || {
        handle.summary().totals().delivered == 1
    });
    handle.forget_latencies();
    // 500 a second for four seconds, in transactions of 50 ms as the gateway's.
    let started = Instant::now();
    for tick in 0..80u32 {
        let facts: Vec<Fact> = (0..25)
            .map(|at| Fact::insurance((tick * 25 + at) % 1000, 1 + u64::from(tick)))
            .collect();
        gateway.deliver(&facts);
        let next = started + Duration::from_millis(50) * (tick + 1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    until("everything is read", || {
        handle.summary().totals().delivered == 2001
    });
    stop.store(true, Ordering::Relaxed);
    let summary = thread.join().unwrap().unwrap();
    let latency = summary.delivery_to_table.quantiles();
    eprintln!("delivery to table at 500/s ({INSURANCE}): {latency:?}");
    assert_eq!(latency.count, 2000);
    assert!(latency.p50 < 2_000, "{latency:?}");
}

/// Asked to stop, it ends what it has in hand and writes down where it stands.
#[test]
fn a_stop_ends_it_with_everything_it_read() {
    let world = World::new();
    let mut gateway = world.gateway();
    let mut options = world.options("");
    options.once = false;
    let service = Service::new(options).unwrap();
    let handle = service.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let thread = std::thread::spawn(move || service.run(&flag));
    let facts: Vec<Fact> = (0..500).map(|person| Fact::insurance(person, 1)).collect();
    gateway.deliver(&facts);
    until("it works", || handle.summary().totals().delivered > 0);
    stop.store(true, Ordering::Relaxed);
    let first = thread.join().unwrap().unwrap().totals().delivered;
    let rest = mz_adapter::run(world.options(""), &NEVER)
        .unwrap()
        .totals()
        .delivered;
    assert_eq!(first + rest, 500);
    assert_eq!(
        world.ask::<i64>("SELECT count(*) FROM hrss_insurance_status_v1"),
        500
    );
}
