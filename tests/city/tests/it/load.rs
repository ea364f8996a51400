//! property.sql loads into a real PostgreSQL, twice, and a later export moves the watermark.

use mz_city::{Options, load_property, mutate, write};
use mz_stack::testing::shared;
use sqlx::{Connection as _, PgConnection, Row as _};

fn count(url: &str, query: &'static str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query(query)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0)
    })
}

#[test]
fn the_registry_loads_and_reloads() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        dirty_per_mille: 30,
        marks: true,
        ..Options::new(directory.path(), 2_000, 1)
    };
    let expected = write(&options).unwrap();
    let script = directory.path().join("realestate/property.sql");
    let server = &shared().info().pg_url;
    let fresh = shared().database();
    let name = fresh.rsplit_once('/').unwrap().1.split('?').next().unwrap();

    let url = load_property(server, name, &script).unwrap();
    let owners = expected.registers["realestate.right"].rows;
    assert_eq!(count(&url, "SELECT count(*) FROM bdc.qlr") as u64, owners);
    assert!(count(&url, "SELECT count(*) FROM bdc.qlr WHERE sxh > 1") > 0);
    assert_eq!(
        count(
            &url,
            "SELECT count(*) FROM bdc.fdcq WHERE length(bdcdyh) <> 28"
        ),
        0
    );
    let fresh_rows =
        "SELECT count(*) FROM bdc.fdcq WHERE gxsj >= timestamptz '2026-11-21 00:00+08'";
    assert_eq!(count(&url, fresh_rows), 0);

    mutate(&options, 1).unwrap();
    load_property(server, name, &script).unwrap();
    assert_eq!(count(&url, "SELECT count(*) FROM bdc.qlr") as u64, owners);
    let changed =
        count(&url, fresh_rows) as f64 / count(&url, "SELECT count(*) FROM bdc.fdcq") as f64;
    assert!((0.05..0.15).contains(&changed), "{changed}");
}
