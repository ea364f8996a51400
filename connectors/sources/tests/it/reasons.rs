//! Every code that a connector can show has its texts.

use mz_contract::Reasons;
use std::collections::BTreeSet;
use std::path::Path;

/// Upper-case literals that are no reason codes.
const OTHERS: [&str; 1] = ["LD_LIBRARY_PATH"];
/// Told by other crates, explained in their blocks.
const FOREIGN: [&str; 2] = ["BUS_FENCED", "BUS_TRANSACTION"];

fn codes_in(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, codes);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            for literal in source.split('"').skip(1).step_by(2) {
                let is_code = literal.contains('_')
                    && literal.len() > 4
                    && literal
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
                if is_code && !OTHERS.contains(&literal) {
                    codes.insert(literal.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_code_has_texts_and_a_place_in_the_guide() {
    let mut codes = BTreeSet::new();
    let root = crate::support::repository();
    codes_in(&root.join("connectors/sdk/src"), &mut codes);
    codes_in(&root.join("connectors/sources/src"), &mut codes);
    assert!(codes.len() > 90, "{}", codes.len());
    let reasons = Reasons::built_in();
    let guide = std::fs::read_to_string(root.join("docs/integrator.md")).unwrap();
    for code in &codes {
        if FOREIGN.contains(&code.as_str()) {
            continue;
        }
        assert!(
            reasons.contains(code),
            "{code} is not in schemas/reasons.yaml"
        );
        let contracts_own = code.starts_with("YAML_");
        assert!(
            contracts_own || guide.contains(&format!("`{code}`")),
            "{code} is not in docs/integrator.md"
        );
    }
}
