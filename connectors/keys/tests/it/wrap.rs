//! Data keys and the master key that wraps them.

use mz_keys::{DataKey, KeyError, SecretKey, WrapError, wrapper};

#[test]
fn a_data_key_comes_back_only_under_its_own_master_key_and_binding() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = dir.path().join(name);
        SecretKey::generate().unwrap().save_new(&path).unwrap();
        wrapper(&format!("file:{}", path.display())).unwrap()
    };
    let (ours, other) = (open("a.key"), open("b.key"));
    assert_eq!(ours.key_id(), open("a.key").key_id());
    assert_ne!(ours.key_id(), other.key_id());
    let key = DataKey::generate().unwrap();
    let sealed = key.seal(b"row 1", b"MARK-value").unwrap();
    assert!(!sealed.windows(4).any(|w| w == b"MARK"));
    assert_ne!(sealed, key.seal(b"row 1", b"MARK-value").unwrap());
    let wrapped = ours.wrap(&key, b"person 1").unwrap();
    let back = ours.unwrap(&wrapped, b"person 1").unwrap();
    assert_eq!(back.open(b"row 1", sealed.clone()).unwrap(), b"MARK-value");
    let mismatch = |result: Result<Vec<u8>, WrapError>| {
        assert_eq!(result.unwrap_err(), WrapError::Mismatch);
    };
    mismatch(back.open(b"row 2", sealed.clone()));
    mismatch(DataKey::generate().unwrap().open(b"row 1", sealed.clone()));
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        mismatch(back.open(b"row 1", altered));
        mismatch(back.open(b"row 1", sealed[..at].to_vec()));
    }
    assert!(ours.unwrap(&wrapped, b"person 2").is_err());
    assert!(other.unwrap(&wrapped, b"person 1").is_err());
    assert!(!format!("{key:?}").contains(|c: char| c.is_ascii_digit()));
}

#[test]
fn only_key_uris_that_this_build_can_open_are_taken() {
    let code = |uri: &str| match wrapper(uri) {
        Ok(_) => "opened",
        Err(KeyError::UriMalformed) => "malformed",
        Err(KeyError::SchemeUnsupported { .. }) => "unsupported",
        Err(_) => "other",
    };
    assert_eq!(code("vault.key"), "malformed");
    assert_eq!(code("file:"), "malformed");
    assert_eq!(code("pkcs11:token=bus"), "unsupported");
    assert_eq!(code("file:/nowhere/vault.key"), "other");
}
