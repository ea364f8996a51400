//! Evidence of a citizen's act: its bytes stand still, and only the portal's key speaks for it.

#![cfg(test)]

use mz_contract::{Contract, IdNumber, Mode};
use mz_keys::evidence::{
    Act, ChangeAct, ChangeAction, GiveAct, change_act, give_act, sign, verify,
};
use mz_keys::public::KeyUse;
use mz_keys::{department_signer, layout};

use crate::approvals::signed;

const AT: &str = "2026-11-26T09:30:00Z";

fn by<'a>(person: &'a IdNumber, request_id: &'a str) -> Act<'a> {
    Act {
        request_id,
        at: AT,
        session: "s-1",
        person,
    }
}

fn person() -> IdNumber {
    IdNumber::parse("11010519491231002X").unwrap()
}

#[test]
fn the_bytes_are_those_of_the_docs() {
    let person = person();
    let names = |list: &[&str]| {
        list.iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let (datasets, separate) = (names(&["b.v1", "a.v1", "b.v1"]), names(&["a.v1#x"]));
    let act = give_act(&GiveAct {
        agreement: "union/hardship-aid",
        datasets: &datasets,
        separate: &separate,
        notice_version: 3,
        valid_until: "2027-11-25",
        by: by(&person, "r-1"),
    });
    assert_eq!(
        String::from_utf8(act.unwrap()).unwrap(),
        "mianzheng/evidence/v1\n{\"action\":\"give\",\"agreement\":\"union/hardship-aid\",\
         \"at\":\"2026-11-26T09:30:00Z\",\"datasets\":[\"a.v1\",\"b.v1\"],\"notice_version\":3,\
         \"person\":\"950946ffc4cef9551ed73d282b11ad39e682a0ede0d78c0bb20e18fed99c830b\",\
         \"request_id\":\"r-1\",\"separate\":[\"a.v1#x\"],\"session\":\"s-1\",\
         \"valid_until\":\"2027-11-25\"}"
    );
    let act = change_act(&ChangeAct {
        action: ChangeAction::Resume,
        grant: "00112233445566778899aabbccddeeff",
        valid_until: None,
        by: by(&person, "r-2"),
    });
    assert_eq!(
        String::from_utf8(act.unwrap()).unwrap(),
        "mianzheng/evidence/v1\n{\"action\":\"resume\",\"at\":\"2026-11-26T09:30:00Z\",\
         \"grant\":\"00112233445566778899aabbccddeeff\",\
         \"person\":\"950946ffc4cef9551ed73d282b11ad39e682a0ede0d78c0bb20e18fed99c830b\",\
         \"request_id\":\"r-2\",\"session\":\"s-1\",\"valid_until\":\"\"}"
    );
}

#[test]
fn only_the_portals_key_speaks_for_a_person() {
    let it = signed();
    let person = person();
    let act = |request: &str| {
        change_act(&ChangeAct {
            action: ChangeAction::Extend,
            grant: "00112233445566778899aabbccddeeff",
            valid_until: Some("2027-01-31"),
            by: by(&person, request),
        })
        .unwrap()
    };
    let load = || Contract::load(&it.contract, Mode::Signed).unwrap();
    let contract = load();
    let portal = department_signer(&it.keys, &it.contract, "bus", KeyUse::Evidence).unwrap();
    let (key, signature) = sign(portal.as_ref(), &act("r-1")).unwrap();
    assert!(verify(&contract, &key, &act("r-1"), &signature));
    assert!(!verify(&contract, &key, &act("r-2"), &signature));
    assert!(!verify(
        &contract,
        "bus-evidence-9",
        &act("r-1"),
        &signature
    ));
    assert!(!verify(&contract, &key, &act("r-1"), &signature[4..]));
    assert!(!verify(&contract, &key, &act("r-1"), ""));

    // The bus's other keys sign other things.
    for usage in [KeyUse::Seal, KeyUse::Consent] {
        let other = department_signer(&it.keys, &it.contract, "bus", usage).unwrap();
        let (key, signature) = sign(other.as_ref(), &act("r-1")).unwrap();
        assert!(
            !verify(&contract, &key, &act("r-1"), &signature),
            "{usage:?}"
        );
    }

    let file = layout::public_file(&it.contract, "bus");
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.find("bus-evidence-1").unwrap();
    let revoked = text[at..].replacen(
        "status: active",
        "status: {revoked: {reason: KEY_STOLEN, last_batch: {}}}",
        1,
    );
    std::fs::write(&file, format!("{}{revoked}", &text[..at])).unwrap();
    assert!(!verify(&load(), &key, &act("r-1"), &signature));
}
