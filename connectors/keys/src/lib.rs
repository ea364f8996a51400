//! Keys and identities: signers by URI, keyed tags, the local certificate authority.
//!
//! - [`secret`]: 32-byte secrets and private files (0600, refused when anyone else can read them).
//! - [`tags`]: the keyed tags that stand for people and records on the bus.
//! - [`sign`]: one [`mz_seal::Signer`] for everything that signs, made from a key URI.
//! - [`public`]: the public halves, as the contract publishes them (`*.keys.yaml`).
//! - [`authority`]: the local certificate authority; any X.509 CA takes its place in production.
//! - [`provision`]: makes what is missing in a keys directory and never overwrites.
//! - [`approvals`]: a provider's signatures under the agreements that open its data.
//! - [`evidence`]: the bytes a citizen's app signs, and their check.
//! - [`rotate`]: a new seal key beside the old one; revocation by last accepted batch.
//! - [`vrf`]: the provable label of a person in the ledger.
//! - [`wrap`]: keys for data at rest, wrapped by a master key behind a key URI.
//! - [`layout`]: where each file lives and which principals exist.
//!
//! Nothing here prints, logs or puts into an error a private key or an identity number.

pub mod approvals;
pub mod authority;
mod error;
pub mod evidence;
pub mod layout;
pub mod provision;
pub mod public;
pub mod rotate;
pub mod secret;
pub mod sign;
pub mod tags;
pub mod vrf;
pub mod wrap;

pub use approvals::sign_approvals;
pub use error::KeyError;
pub use layout::KeysDir;
pub use provision::{Report, provision};
pub use rotate::{revoke, rotate_seal_key};
pub use secret::SecretKey;
pub use sign::{department_signer, signer};
pub use tags::{AgreementKey, AuditKey, PlacementKey, PseudonymKey, RecordKey, SubjectKey};
pub use vrf::SubjectVrf;
pub use wrap::{DataKey, KeyWrapper, WrapError, wrapper};
