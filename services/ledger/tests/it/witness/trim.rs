//! Trimming `bus.audit` behind a real ledger and real witnesses: only what is committed, cosigned, read by
//! everybody, old, and whole on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mz_bus::{Isolation, Position, Reader};
use mz_journal::{LedgerState, topics};
use mz_ledger::check::check;
use mz_ledger::log::Folder;
use mz_ledger::trim::{self, Bound, LaneTrim, OtherReader, Trim, TrimError};
use mz_ledger::witness::{LogFolder, Witness};
use mz_ledger::{LedgerError, Options, Progress, prove, run, system_clock};
use mz_vault::testing::{LANES, eventually};

use super::world::{World, taken};

/// The ledger runs until it has so many entries more.
fn logged(options: &Options, more: u64) -> Result<(), LedgerError> {
    let (progress, stop) = (
        Arc::new(Progress::default()),
        Arc::new(AtomicBool::new(false)),
    );
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| run(options, &progress, &stop));
        eventually("the ledger has logged it", || {
            progress.committed() >= more || thread.is_finished()
        });
        stop.store(true, Ordering::Release);
        thread.join().unwrap()
    })
}

fn cosign(folder: &Path, log: &str, witnesses: &mut [Witness]) {
    for witness in witnesses {
        witness
            .step(&LogFolder::new(folder.to_path_buf()), log)
            .unwrap();
    }
}

fn consent(positions: BTreeMap<u16, i64>) -> OtherReader {
    OtherReader {
        name: "consent",
        positions,
    }
}

fn everywhere(next: i64) -> OtherReader {
    consent((0..LANES).map(|lane| (lane, next)).collect())
}

fn code(result: Result<Trim, TrimError>) -> &'static str {
    let error = result.unwrap_err();
    println!("{error}");
    error.code()
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copied(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn only_what_is_committed_cosigned_read_old_and_whole_goes() {
    let mut world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = world.dir.path().join("real");
    let bus = world.bus.bus("bus.ledger");
    let keys = world.bus.keys();
    let options = Options::new(bus, &world.bus.contract, &keys, folder.clone()).unwrap();
    let now = || system_clock() + 60_000;
    assert!(matches!(
        trim::committed(&options),
        Err(TrimError::Uncommitted { shard: 0 })
    ));

    world.deliver(300);
    logged(&options, 301).unwrap();
    let state = trim::committed(&options).unwrap();
    assert_eq!(state.size, 301);
    let policy = world.policy_of(&state.origin);
    let log = state.origin.split_once("/audit/").unwrap().1.to_owned();
    let plan = |state: &LedgerState, readers: &[OtherReader], before_ms| {
        trim::plan(&options, state, &policy, readers, before_ms)
    };
    // Nobody has cosigned; one of two is no quorum.
    assert_eq!(code(plan(&state, &[], now())), "LEDGER_TRIM_UNCOSIGNED");
    let mut witnesses = world
        .departments()
        .map(|department| world.witness(&department));
    let mut quorum = world.quorum_of(&state.origin, folder.clone());
    cosign(&folder, &log, &mut witnesses[..1]);
    taken(&mut quorum, 2);
    assert_eq!(code(plan(&state, &[], now())), "LEDGER_TRIM_UNCOSIGNED");
    cosign(&folder, &log, &mut witnesses[1..]);
    taken(&mut quorum, 2);

    // Each bound holds: the ledger's commit, another reader, a reader of whom nobody knows, age.
    let by = |trim: &Trim| -> Vec<Bound> { trim.lanes.iter().map(|lane| lane.bound).collect() };
    let all = plan(&state, &[everywhere(i64::MAX)], now()).unwrap();
    assert_eq!((all.committed, all.cosigned, all.verified), (301, 301, 301));
    for (lane, of) in (0..LANES).zip(&all.lanes) {
        let to = state.position(lane).unwrap();
        let bound = of.bound;
        assert_eq!(
            *of,
            LaneTrim {
                lane,
                low: 0,
                to,
                bound
            }
        );
    }
    let some = plan(&state, &[everywhere(7)], now()).unwrap();
    assert!(some.lanes.iter().all(|lane| lane.to == 7));
    assert!(
        by(&some)
            .iter()
            .all(|bound| *bound == Bound::Reader("consent"))
    );
    let unknown = plan(&state, &[consent(BTreeMap::from([(1, 9)]))], now()).unwrap();
    let to: Vec<i64> = unknown.lanes.iter().map(|lane| lane.to).collect();
    assert_eq!((to[0], to[1], unknown.offsets()), (0, 9, 9));
    let young = plan(&state, &[everywhere(i64::MAX)], system_clock() - 3_600_000).unwrap();
    assert_eq!(young.offsets(), 0);
    assert!(by(&young).iter().all(|bound| *bound == Bound::Age));

    // Another policy, another history, files that are not whole.
    let foreign = world.policy_of("elsewhere/audit/0/2026");
    let refused = trim::plan(&options, &state, &foreign, &[], now());
    assert_eq!(code(refused), "LEDGER_TRIM_UNCOSIGNED");
    let mut other = state.clone();
    other.root[0] ^= 1;
    assert_eq!(code(plan(&other, &[], now())), "LEDGER_PREFIX_DIFFERS");
    for (file, at) in [("tile/entries/000", 700), ("tile/0/001.p/45", 64)] {
        let copy = world.dir.path().join("copy");
        copied(&folder, &copy);
        let path = copy.join(&log).join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let elsewhere = Options {
            folder: copy.clone(),
            ..Options::new(
                world.bus.bus("bus.ledger"),
                &world.bus.contract,
                &keys,
                copy.clone(),
            )
            .unwrap()
        };
        let refused = trim::plan(&elsewhere, &state, &policy, &[], now());
        assert_eq!(code(refused), "LEDGER_TRIM_NOT_WHOLE", "{file}");
        fs::remove_dir_all(copy).unwrap();
    }

    // More was committed since: the witnesses are behind, and what was planned for stays good.
    world.deliver(40);
    logged(&options, 40).unwrap();
    let newer = trim::committed(&options).unwrap();
    assert_eq!(code(plan(&newer, &[], now())), "LEDGER_TRIM_BEHIND");
    let good = plan(&state, &[everywhere(20)], now()).unwrap();

    // Nobody but the operator may delete.
    for principal in ["bus.ledger", "bus.consent", "bus.gateway"] {
        let denied = runtime.block_on(trim::carry_out(&world.bus.bus(principal), &good));
        assert_eq!(denied.unwrap_err().code(), "BUS_DENIED", "{principal}");
    }
    let admin = world.bus.bus("bus.admin");
    let left = runtime.block_on(trim::carry_out(&admin, &good)).unwrap();
    assert_eq!(left.len(), usize::from(LANES));
    let mut reader = Reader::open(&admin, Isolation::Committed).unwrap();
    for lane in 0..LANES {
        assert_eq!(
            reader.watermarks(topics::AUDIT, i32::from(lane)).unwrap().0,
            20
        );
    }
    // What is above is there; what is below is not, and nobody jumps over it silently.
    reader
        .assign(&[(topics::AUDIT, 0, Position::Offset(20))])
        .unwrap();
    let mut first = None;
    reader
        .poll_to_end(std::time::Duration::from_secs(20), |record| {
            first.get_or_insert(record.offset);
        })
        .unwrap();
    assert!(first.is_some_and(|first| first >= 20));
    // A second time there is nothing to do.
    let again = plan(&state, &[everywhere(20)], now()).unwrap();
    assert_eq!(again.offsets(), 0);
    assert_eq!(
        runtime.block_on(trim::carry_out(&admin, &again)).unwrap(),
        []
    );

    // The ledger goes on, and proves what is gone from the topic.
    world.deliver(20);
    logged(&options, 20).unwrap();
    let end = trim::committed(&options).unwrap();
    let disk = Folder::new(folder.join(&log));
    let report = check(&disk, end.size, &end.root);
    assert!(report.good(), "{:?}", report.faults);
    assert_eq!(report.records, 360);
    assert_eq!(report.breaks, []);
    prove::prove(&disk, "gateway-0-1".parse().unwrap()).unwrap();

    // Somebody deletes what the ledger has not read: it stops and says so, it does not go on with a hole.
    world.deliver(20);
    let ends: Vec<LaneTrim> = (0..LANES)
        .map(|lane| LaneTrim {
            lane,
            low: 20,
            to: world.bus.head(topics::AUDIT, lane),
            bound: Bound::Age,
        })
        .collect();
    let too_much = Trim {
        lanes: ends,
        ..again
    };
    runtime
        .block_on(trim::carry_out(&admin, &too_much))
        .unwrap();
    let stopped = logged(&options, 20).unwrap_err();
    assert_eq!(stopped.code(), "BUS_OFFSET_LOST");
}
