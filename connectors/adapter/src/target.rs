//! What the agreement delivers, as topics and tables: one target per dataset and per
//! derived answer, with every schema that its records may carry.

use std::sync::Arc;

use mz_contract::schema_ids::{SchemaEntry, SchemaKey};
use mz_contract::{Agreement, BUS, Contract, Dataset};
use mz_seal::{Digest, Layout, schema_digest};

use crate::column::{Column, ColumnType};
use crate::config::Config;
use crate::error::Error;
use crate::ident::Ident;

/// Columns that every table has; a field of the contract can't take their names.
pub(crate) const RESERVED: &str = "mz_";

/// One delivery topic and its table.
#[derive(Debug, Clone)]
pub struct Target {
    /// `hrss.insurance.status.v1` or `answer.insured6of12.v1`: its name in the configuration.
    pub name: String,
    /// `to.…`, without an installation's prefix.
    pub topic: String,
    pub table: Ident,
    pub title: String,
    pub columns: Vec<Column>,
    pub(crate) kind: Kind,
    pub(crate) variants: Vec<Variant>,
}

/// What a delivery is verified as.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A department's record, by the dataset's index in the contract.
    Section { dataset: usize },
    /// The bus's answer, computed from a dataset; `sealed_as` is the dataset that its seal names.
    Answer { dataset: usize, sealed_as: String },
}

/// One schema of the topic: the current one, or one that older records were written with.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub schema_id: u32,
    pub layout: Arc<Layout>,
    pub digest: Digest,
    /// Source fields, rising (sections only).
    pub kept: Vec<u16>,
    /// Per column of the table, the field of this schema that fills it.
    pub fields: Vec<Option<usize>>,
}

/// All targets of an agreement, in the contract's order.
pub fn targets(contract: &Contract, config: &Config) -> Result<Vec<Target>, Error> {
    let id = config.agreement();
    let agreement = contract
        .agreement(&id)
        .ok_or_else(|| Error::NoAgreement(id.clone()))?;
    let mut all = Vec::new();
    for section in &agreement.sections {
        let dataset = &contract.datasets[section.dataset_ix];
        let table = table_name(config, &dataset.id)?;
        all.push(of_section(
            contract,
            agreement,
            dataset,
            &section.out_topic,
            table,
        ));
        for answer in &section.answers {
            let name = format!("answer.{}.v{}", answer.name, answer.version);
            let table = table_name(config, &name)?;
            let title = format!("{} · {}", answer.title.zh, answer.title.en);
            let sealed_as = format!("{}.{}.{name}", agreement.consumer, agreement.purpose);
            let kind = Kind::Answer {
                dataset: dataset.ix,
                sealed_as,
            };
            all.push(of_answer(
                contract,
                name,
                title,
                &answer.out_topic,
                table,
                kind,
            ));
        }
    }
    for name in config.only.iter().chain(config.tables.keys()) {
        if !all.iter().any(|target| target.name == *name) {
            return Err(Error::NoSuchDelivery(name.clone()));
        }
    }
    if !config.only.is_empty() {
        all.retain(|target| config.only.contains(&target.name));
    }
    for (at, target) in all.iter().enumerate() {
        if all[..at].iter().any(|other| other.table == target.table) {
            return Err(Error::Name {
                what: "table",
                name: target.table.as_str().to_owned(),
            });
        }
    }
    for target in &mut all {
        target.lay_out(contract)?;
    }
    Ok(all)
}

/// The configured name, or one made of the delivery's.
fn table_name(config: &Config, name: &str) -> Result<Ident, Error> {
    let configured = config.tables.get(name);
    let wanted = match configured {
        Some(table) => Ident::new(table),
        None => Ident::from_name(name),
    };
    wanted
        .filter(|table| !table.as_str().starts_with(RESERVED))
        .ok_or_else(|| Error::Name {
            what: "table",
            name: configured.map_or(name, String::as_str).to_owned(),
        })
}

fn of_section(
    contract: &Contract,
    agreement: &Agreement,
    dataset: &Dataset,
    topic: &str,
    table: Ident,
) -> Target {
    let variants = entries(contract, topic)
        .filter_map(|entry| match &entry.key {
            SchemaKey::Projected {
                agreement: of,
                dataset: from,
                fields,
            } if *of == agreement.id && *from == dataset.id => {
                let mut kept: Vec<u16> = fields
                    .iter()
                    .filter_map(|name| dataset.field_index(name))
                    .map(|at| at as u16)
                    .collect();
                kept.sort_unstable();
                Some(Variant {
                    schema_id: entry.id,
                    layout: Arc::clone(&entry.layout),
                    digest: entry.digest,
                    kept,
                    fields: Vec::new(),
                })
            }
            _ => None,
        })
        .collect();
    Target {
        name: dataset.id.clone(),
        topic: topic.to_owned(),
        table,
        title: format!("{} · {}", dataset.title.zh, dataset.title.en),
        columns: Vec::new(),
        kind: Kind::Section {
            dataset: dataset.ix,
        },
        variants,
    }
}

fn of_answer(
    contract: &Contract,
    name: String,
    title: String,
    topic: &str,
    table: Ident,
    kind: Kind,
) -> Target {
    let variants = entries(contract, topic)
        .map(|entry| Variant {
            schema_id: entry.id,
            layout: Arc::clone(&entry.layout),
            digest: schema_digest(entry.avsc.as_bytes()),
            kept: Vec::new(),
            fields: Vec::new(),
        })
        .collect();
    Target {
        name,
        topic: topic.to_owned(),
        table,
        title,
        columns: Vec::new(),
        kind,
        variants,
    }
}

fn entries<'c>(contract: &'c Contract, topic: &'c str) -> impl Iterator<Item = &'c SchemaEntry> {
    contract.schema_ids.of_topic(topic)
}

impl Target {
    /// Columns: the fields of all schemas of the topic, newest schema first; a field that an
    /// older schema had under another type can't share its column.
    fn lay_out(&mut self, contract: &Contract) -> Result<(), Error> {
        let dataset = match &self.kind {
            Kind::Section { dataset } | Kind::Answer { dataset, .. } => {
                &contract.datasets[*dataset]
            }
        };
        for variant in self.variants.iter().rev() {
            for field in variant.layout.fields() {
                let refused = || Error::Name {
                    what: "field",
                    name: field.name.clone(),
                };
                let name = Ident::from_name(&field.name).ok_or_else(refused)?;
                if name.as_str().starts_with(RESERVED) {
                    return Err(refused());
                }
                let ty = ColumnType::of(&field.ty);
                match self.columns.iter().find(|column| column.name == name) {
                    Some(column) if column.ty == ty => {}
                    Some(column) => {
                        return Err(Error::ColumnType {
                            table: self.table.as_str().to_owned(),
                            column: name.as_str().to_owned(),
                            found: ty.sql(),
                            wanted: column.ty.sql(),
                        });
                    }
                    None => {
                        let titled = match self.kind {
                            Kind::Section { .. } => {
                                dataset.fields.iter().find(|known| known.name == field.name)
                            }
                            Kind::Answer { .. } => None,
                        };
                        let comment = titled
                            .map(|known| format!("{} · {}", known.title.zh, known.title.en))
                            .unwrap_or_default();
                        self.columns.push(Column { name, ty, comment });
                    }
                }
            }
        }
        for variant in &mut self.variants {
            variant.fields = self
                .columns
                .iter()
                .map(|column| {
                    variant.layout.fields().iter().position(|field| {
                        Ident::from_name(&field.name).as_ref() == Some(&column.name)
                    })
                })
                .collect();
        }
        Ok(())
    }

    /// The dataset that the target is about.
    pub(crate) fn dataset<'c>(&self, contract: &'c Contract) -> &'c Dataset {
        match &self.kind {
            Kind::Section { dataset } | Kind::Answer { dataset, .. } => {
                &contract.datasets[*dataset]
            }
        }
    }
}

/// The department of answers.
pub(crate) const ANSWERS_BY: &str = BUS;
