//! An installation is made with the commands that a person types, and stays as it is.

use std::time::Duration;

use serde_json::Value;

use mz_e2e::{Exit, Installation, World, city, wait};

/// The vault's master key is replaced while nobody may read what rests under the former one any more.
#[test]
fn a_new_master_key_takes_the_vault_over() {
    let mut world = World::start("master", 60, 7, false, 1);
    world.publish();
    let id = world.city.expected().story["settler"].id.clone();
    let (_, before) = world.bundle(&id, "before");
    let bus = world.it.keys().root().join("bus");
    let key = |name: &str| std::fs::read(bus.join(name));
    let old = key("vault.key").unwrap();
    let said = world.it.run(&["keys", "rotate-vault"]);
    assert!(said.contains("wrapped anew"), "{said}");
    assert_ne!(key("vault.key").unwrap(), old);
    assert!(key("vault.key.next").is_err());

    // The running vault was shut out; with the next thing it would store it ends.
    world.city.export(1);
    city::publish_all(&world.it);
    let exit = world.vault.wait(Duration::from_secs(60));
    assert_ne!(exit, Exit::Code(0), "{}", world.vault.tail());
    world.vault = world.it.start("vault.again", &["vault"]);
    let line = "bundle --item talent-settlement --department police --operator hz-0042 --reason 人才入户 --id -";
    let ask: Vec<&str> = line.split_whitespace().collect();
    wait::value("the vault to answer", Duration::from_secs(60), || {
        world.alive();
        world
            .it
            .output(&ask, Some(&id))
            .status
            .success()
            .then_some(())
    });
    world.settle();
    let (_, after) = world.bundle(&id, "after");
    let facts = |bundle: &Value| bundle["facts"].as_array().unwrap().len();
    assert_eq!(facts(&after), facts(&before));

    // As a run leaves it that ended between database and files: typed again, it goes on.
    let former = std::fs::read_dir(&bus).unwrap();
    let former = former
        .map(|entry| entry.unwrap().path())
        .find(|path| path.display().to_string().contains("vault.key.former-"))
        .unwrap();
    let new = key("vault.key").unwrap();
    std::fs::rename(bus.join("vault.key"), bus.join("vault.key.next")).unwrap();
    std::fs::hard_link(&former, bus.join("vault.key")).unwrap();
    let said = world.it.run(&["keys", "rotate-vault"]);
    assert!(said.contains("wrapped anew before"), "{said}");
    assert_eq!(key("vault.key").unwrap(), new);
    assert!(former.exists());
    let (_, again) = world.bundle(&id, "again");
    assert_eq!(again["facts"], after["facts"]);
    world.stop();
}

#[test]
fn an_installation_is_made_and_made_again_without_change() {
    let it = Installation::new("install");
    assert!(it.contract().agreements.len() >= 2);
    // What is applied is what the contract says; applying again changes nothing.
    it.run(&["apply", "--check"]);
    it.run(&["keys"]);
    it.run(&["apply", "--yes"]);
    it.run(&["apply", "--check"]);
}
