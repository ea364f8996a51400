//! Every code that this crate writes has its texts in `schemas/reasons.yaml`.

use std::path::Path;

use mz_contract::{Lang, Reasons};

const PREFIXES: [&str; 3] = ["HTTP_", "WHO_READ", "RECEIPT_"];

fn codes(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for literal in text.split('"').skip(1).step_by(2) {
            let code = literal.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            if code && PREFIXES.iter().any(|prefix| literal.starts_with(prefix)) {
                found.push(literal.to_owned());
            }
        }
    }
}

#[test]
fn every_code_has_its_texts() {
    let reasons = Reasons::built_in();
    let mut found = Vec::new();
    codes(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 15, "{}", found.len());
    for code in found {
        assert!(reasons.contains(&code), "{code} has no text");
        assert_ne!(
            reasons.text(&code, Lang::Zh),
            reasons.text(&code, Lang::En),
            "{code}"
        );
    }
}
