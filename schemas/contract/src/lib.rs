#![doc = include_str!("../README.md")]

// Reading: files → YAML → faults.
mod fault;
mod raw;
mod reasons;
mod tree;
mod yaml;

// What a contract consists of.
pub mod agreement;
pub mod calendar;
pub mod dataset;
pub mod department;
pub mod item;
pub mod keys;
pub mod schema_ids;
pub mod status;

// Rules and values.
mod avro;
pub mod expr;
mod id_number;
mod value;
pub mod words;

// The whole.
pub mod approval;
pub mod codes;
mod contract;
mod diff;
mod lint;
mod load;
pub mod matrix;

pub use agreement::{
    Agreement, AgreementIx, Answer, BasisKind, CaseRules, CloseRule, ConsentTerms, OpenRule,
    Representation, Scope, ScopeKind, Section, SubjectPath, Suspension, Termination,
};
pub use approval::{approval_payload, section_digest};
pub use calendar::{Calendar, Due};
pub use contract::{BUS, Contract, MAX_LANES, Mode, SectionRef};
pub use dataset::{Availability, Classification, Dataset, DatasetIx, Field, Share};
pub use department::{Department, is_uscc};
pub use diff::{ContractDiff, Reading, Refusal, SectionChange, SectionDiff, diff};
pub use expr::{EvalError, Expr};
pub use fault::Fault;
pub use id_number::{ID_INPUT_MAX_BYTES, ID_LENGTH, IdFault, IdNumber, check_character};
pub use item::{Cardinality, FactNeed, FactState, Outcome, ServiceItem};
pub use keys::{KeyUse, PublicKey, VrfKey};
pub use lint::{IdsReport, Lint, allocate_schema_ids, lint, load_draft};
pub use reasons::{Lang, Reason, Reasons, Text};
pub use schema_ids::{SchemaEntry, SchemaIds, SchemaKey};
pub use status::{AgreementState, STATUS_FILE, StatusEntry, status_file};
pub use tree::{MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES};
pub use value::{Decimal, Moment, Value, date_text, months_between, parse_date};
