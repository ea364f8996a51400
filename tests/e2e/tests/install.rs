//! An installation is made with the commands that a person types, and stays as it is.

use mz_e2e::Installation;

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
