//! Witness and quorum beside a ledger that writes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mz_ledger::Progress;
use mz_ledger::quorum::COSIGNED;
use mz_tlog::note::Note;
use mz_vault::testing::eventually;

use super::world::World;

#[test]
fn a_running_ledger_is_witnessed() {
    let mut world = World::new();
    let [first, second] = world.departments();
    let mut witnesses = [world.witness(&first), world.witness(&second)];
    let options = mz_ledger::Options::new(
        world.bus.bus("bus.ledger"),
        &world.bus.contract,
        &world.bus.keys(),
        world.dir.path().join("running"),
    );
    let options = options.unwrap();
    let period = options.period.name(mz_ledger::system_clock());
    let origin = format!("{}/audit/0/{period}", options.bus_id);
    let folder = options.folder.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&stop);
    let ledger = std::thread::spawn(move || {
        mz_ledger::run(&options, &Arc::new(Progress::default()), &ended)
    });
    let source = crate::witness_source::of(&world.bus, &folder);
    eventually("the ledger has a log", || {
        source
            .logs()
            .is_ok_and(|logs| logs == [format!("0/{period}")])
    });
    let mut quorum = world.quorum_of(&origin, folder.clone());
    let (mut compared, mut met) = (0, 0);
    let mut turn = |world: &mut World, count| {
        world.deliver(count);
        met += quorum.poll(Duration::from_millis(50)).unwrap().met.len();
        for (at, witness) in witnesses.iter_mut().enumerate() {
            for (_, outcome) in witness.round(&*source).unwrap() {
                match outcome {
                    Ok(outcome) => {
                        compared += outcome.compared;
                        assert!(at == 0 || outcome.compared == 0);
                    }
                    Err(error) => assert!(!error.is_refusal(), "{error}"),
                }
            }
        }
        (compared, met)
    };
    for _ in 0..20 {
        turn(&mut world, 97);
    }
    eventually("every delivery is compared and cosigned", || {
        let (compared, met) = turn(&mut world, 0);
        compared == 20 * 97 && met > 0
    });
    stop.store(true, Ordering::Release);
    ledger.join().unwrap().unwrap();
    let cosigned = fs::read(folder.join("0").join(period).join(COSIGNED)).unwrap();
    let note = Note::parse(&cosigned).unwrap();
    assert_eq!(note.lines().count(), 3);
}
