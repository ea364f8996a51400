//! Whether each version of a dataset can still be read as the next one (Avro, "Schema Resolution"):
//! a reader of v2 must be able to read what was published as v1. Where it can't, the entry must say why.

use mz_seal::FieldType;

use super::avsc::place;
use crate::dataset::Dataset;
use crate::fault::Faults;
use crate::tree::Tree;

pub(super) fn check(datasets: &[Dataset], tree: &Tree, faults: &mut Faults) {
    for new in datasets
        .iter()
        .filter(|dataset| dataset.breaking_change.is_none())
    {
        let old = datasets
            .iter()
            .filter(|old| {
                old.department == new.department
                    && old.name == new.name
                    && old.version < new.version
            })
            .max_by_key(|old| old.version);
        let Some(old) = old else { continue };
        let file = format!("{}.avsc", new.stem());
        let avsc = tree.get(&file).unwrap_or_default();
        for (field, detail) in differences(old, new) {
            let at = place(avsc, &field);
            faults.push_at(
                "SCHEMA_INCOMPATIBLE",
                &file,
                at,
                &field,
                &format!("{}: {detail}", old.id),
            );
        }
    }
}

/// Field and what makes it unreadable.
fn differences(old: &Dataset, new: &Dataset) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for before in &old.fields {
        let Some(after) = new.fields.iter().find(|field| field.name == before.name) else {
            found.push((before.name.clone(), "-".to_owned()));
            continue;
        };
        if before.layout.nullable && !after.layout.nullable {
            found.push((before.name.clone(), "null".to_owned()));
        }
        if let Some(detail) = unreadable(&before.layout.ty, &after.layout.ty) {
            found.push((before.name.clone(), detail));
        }
    }
    for after in &new.fields {
        let added = old.fields.iter().all(|field| field.name != after.name);
        if added && !after.layout.nullable {
            found.push((after.name.clone(), "+".to_owned()));
        }
    }
    if old.fields[old.subject_field].name != new.fields[new.subject_field].name {
        found.push((
            new.fields[new.subject_field].name.clone(),
            "subject".to_owned(),
        ));
    }
    let record = |dataset: &Dataset| -> Vec<String> {
        dataset
            .record_fields
            .iter()
            .map(|&index| dataset.fields[index].name.clone())
            .collect()
    };
    if record(old) != record(new) {
        found.push((record(new).join(", "), "record".to_owned()));
    }
    found
}

/// `None` when every old value reads as the same value under the new type.
fn unreadable(old: &FieldType, new: &FieldType) -> Option<String> {
    match (old, new) {
        (FieldType::Int, FieldType::Long) | (FieldType::Float, FieldType::Double) => None,
        (FieldType::Enum(old), FieldType::Enum(new)) => old
            .iter()
            .find(|symbol| !new.contains(symbol))
            .map(|symbol| format!("-{symbol}")),
        (FieldType::Array(old), FieldType::Array(new))
        | (FieldType::Map(old), FieldType::Map(new)) => unreadable(old, new),
        (FieldType::Record(old), FieldType::Record(new)) => {
            for (name, ty) in old {
                match new.iter().find(|(other, _)| other == name) {
                    None => return Some(format!("-{name}")),
                    Some((_, other)) => {
                        if let Some(detail) = unreadable(ty, other) {
                            return Some(format!("{name}: {detail}"));
                        }
                    }
                }
            }
            // Only a nullable member has a default (lint asks for it).
            new.iter()
                .find(|(name, ty)| {
                    let nullable = matches!(ty, FieldType::Union(branches) if branches.contains(&FieldType::Null));
                    !nullable && old.iter().all(|(other, _)| other != name)
                })
                .map(|(name, _)| format!("+{name}"))
        }
        // T may become ["null", T].
        (old, FieldType::Union(branches)) if !matches!(old, FieldType::Union(_)) => {
            match branches.as_slice() {
                [FieldType::Null, inner] => unreadable(old, inner),
                _ => Some(format!("{old:?} → {new:?}")),
            }
        }
        (FieldType::Union(old), FieldType::Union(new)) if old.len() == new.len() => old
            .iter()
            .zip(new)
            .find_map(|(old, new)| unreadable(old, new)),
        (old, new) if old == new => None,
        (old, new) => Some(format!("{old:?} → {new:?}")),
    }
}
