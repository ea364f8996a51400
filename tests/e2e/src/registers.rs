//! The source topics against the registers of the synthetic city: every record published, none
//! twice, the numbering of every stream without a gap.

use crate::check::Check;
use crate::events::Events;
use mz_city::Expected;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Reads `expected.json` of a city.
pub fn expected(city: &std::path::Path) -> Expected {
    let path = city.join("expected.json");
    let read = std::fs::read(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    match read {
        Ok(expected) => expected,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// What the connectors published is what the registers hold, once each.
pub fn published(expected: &Expected, events: &BTreeMap<String, Events>) -> Check {
    let mut check = Check::new("topics = registers");
    let mut total = 0;
    for (dataset, events) in events {
        total += events.good.len();
        for refused in events.refused.iter().take(2) {
            check.fault(format!("{dataset}: {refused:?}"));
        }
        let name = dataset
            .rsplit_once(".v")
            .map_or(&**dataset, |(name, _)| name);
        let Some(register) = expected.registers.get(name) else {
            check.fault(format!("{dataset}: no such register"));
            continue;
        };
        let newest = events.newest();
        check.equal(
            &format!("{dataset}: records"),
            newest.len() as u64,
            register.records,
        );
        let versions: HashSet<(&[u8], u32, u64)> = events
            .good
            .iter()
            .map(|event| (&*event.key, event.version.epoch, event.version.counter))
            .collect();
        check.equal(
            &format!("{dataset}: published twice"),
            events.good.len(),
            versions.len(),
        );
        numbered(&mut check, dataset, events);
    }
    check.figure = format!("{total} events");
    check
}

/// Per stream and lane, in the order of the topic: 1, 2, 3 …
fn numbered(check: &mut Check, dataset: &str, events: &Events) {
    let mut last: HashMap<(&str, u32, u16), u64> = HashMap::new();
    for event in &events.good {
        let last = last
            .entry((&*event.stream, event.version.epoch, event.lane))
            .or_insert(0);
        if event.sequence != *last + 1 {
            check.fault(format!(
                "{dataset} lane {}: sequence {} after {last}",
                event.lane, event.sequence
            ));
        }
        *last = event.sequence;
    }
}
