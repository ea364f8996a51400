//! Fills the `{names}` of a `split` entry into an event's texts, so that one rule serves five groups
//! of columns.

use super::raw::{At, RawCondition, RawField};
use super::yaml::Faults;
use std::collections::BTreeMap;

type Places = BTreeMap<String, String>;

/// The text with every `{name}` of `places` filled in; a `{name}` that is not there is a fault.
pub(super) fn fill(text: &At<String>, places: &Places, faults: &mut Faults) -> At<String> {
    let mut filled = String::new();
    let mut rest = text.value.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            break;
        };
        filled.push_str(before);
        match places.get(name) {
            Some(value) => filled.push_str(value),
            None => faults.at("MAP_SPLIT_NAME", text, name, &names(places)),
        }
        rest = tail;
    }
    filled.push_str(rest);
    At {
        value: filled,
        referenced: text.referenced,
        defined: text.defined,
    }
}

pub(super) fn field(raw: &At<RawField>, places: &Places, faults: &mut Faults) -> At<RawField> {
    let mut value = raw.value.clone();
    let mut one = |text: &mut Option<At<String>>| {
        if let Some(text) = text {
            *text = fill(text, places, faults);
        }
    };
    one(&mut value.column);
    one(&mut value.constant);
    one(&mut value.array);
    one(&mut value.table);
    one(&mut value.default);
    for text in value.first_of.iter_mut().flatten() {
        *text = fill(text, places, faults);
    }
    At {
        value,
        referenced: raw.referenced,
        defined: raw.defined,
    }
}

pub(super) fn condition(
    raw: &At<RawCondition>,
    places: &Places,
    faults: &mut Faults,
) -> At<RawCondition> {
    let mut value = raw.value.clone();
    value.column = fill(&value.column, places, faults);
    At {
        value,
        referenced: raw.referenced,
        defined: raw.defined,
    }
}

fn names(places: &Places) -> String {
    places.keys().cloned().collect::<Vec<_>>().join(", ")
}
