//! Who holds what is known from the first audit record on, or not at all.

use mz_bus::admin::delete_records;
use mz_consent::Service;
use mz_consent::store::{Database, SCHEMA};
use mz_journal::topics;
use mz_vault::testing::{LANES, approval, eventually, person};

use crate::world::*;

const APPROVALS: &str = "to.police.talent-settlement.hrss.talent.approval.v1";

fn delete_below(world: &World, below: &[(i32, i64)]) {
    let admin = world.bus.bus("bus.admin");
    let deleted = delete_records(&admin, topics::AUDIT, below);
    world.runtime.block_on(deleted).expect("deleted");
}

/// Deletes all of `bus.audit` there is.
fn delete(world: &World) {
    let below: Vec<(i32, i64)> = (0..LANES)
        .map(|lane| (i32::from(lane), world.bus.head(topics::AUDIT, lane)))
        .collect();
    delete_below(world, &below);
}

/// A service that starts now stops by itself, and says why.
fn refuses(world: &World) {
    let service = Service::start(world.options(|_| {})).expect("consent service");
    eventually("it stops", || service.has_failed());
    let error = service.stop().expect_err("a hole");
    assert_eq!(error.code(), "CONSENT_AUDIT_GAP", "{error}");
}

#[test]
fn records_deleted_before_they_were_read_stop_the_service_and_read_ones_do_not() {
    let mut world = World::new();
    let mut talent = world.bus.connector("hrss", "talent");
    talent.publish(vec![approval(&person(230), "A-1")]);
    eventually("delivered", || world.held(APPROVALS) == 1);
    // What it has read may go: it knows the holder.
    let database = Database::new(&world.bus.database_url, SCHEMA).expect("database");
    let mut read = Vec::new();
    eventually("consent has read it", || {
        let positions = world.runtime.block_on(database.positions());
        let audit = positions.expect("positions").into_iter();
        let audit = audit.filter(|((topic, _), _)| topic == topics::AUDIT);
        read = audit
            .map(|((_, lane), next)| (i32::from(lane), next))
            .collect();
        read.iter().any(|(_, next)| *next > 0)
    });
    world.stop_consent();
    delete_below(&world, &read);
    world.start_consent();
    assert_eq!(world.counts(APPROVALS).0, 1);
    world.stop_consent();

    // What it has not read may not.
    talent.publish(vec![approval(&person(231), "A-2")]);
    eventually("delivered", || world.counts(APPROVALS).0 == 2);
    delete(&world);
    refuses(&world);

    // A database that was lost and made anew is no way round it.
    world.runtime.block_on(async {
        let pool = sqlx::PgPool::connect(&world.bus.database_url).await;
        let forget = format!("DELETE FROM {SCHEMA}.position");
        let done = sqlx::query(sqlx::AssertSqlSafe(forget))
            .execute(&pool.expect("database"))
            .await;
        assert!(done.expect("forgotten").rows_affected() > 0);
    });
    refuses(&world);
}
