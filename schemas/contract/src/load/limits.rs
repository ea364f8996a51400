//! The provider's limits: an agreement asks for less, or not at all.

use crate::agreement::BasisKind;
use crate::dataset::{Dataset, Sharing, Way};
use crate::fault::Faults;
use crate::yaml::Located;

/// What an agreement asks, beside fields.
pub(super) struct Terms<'a> {
    pub(super) basis_kind: BasisKind,
    pub(super) mode: Way,
    pub(super) valid_until: chrono::NaiveDate,
    pub(super) until: &'a Located<String>,
}

/// The provider's limits on what an agreement may ask.
pub(super) fn check(
    dataset: &Dataset,
    name: &Located<String>,
    file: &str,
    faults: &mut Faults,
    terms: &Terms<'_>,
) {
    if dataset.sharing == Sharing::NotShared {
        faults.push(
            "DATASET_NOT_SHARED",
            file,
            &name.referenced,
            &name.value,
            "",
        );
    }
    if !dataset.limits.bases.contains(&terms.basis_kind) {
        faults.push(
            "BASIS_NOT_ALLOWED",
            file,
            &name.referenced,
            &name.value,
            terms.basis_kind.as_str(),
        );
    }
    if !dataset.ways.contains(&terms.mode) {
        faults.push(
            "WAY_NOT_ALLOWED",
            file,
            &name.referenced,
            &name.value,
            "application.mode",
        );
    }
    if terms.valid_until > dataset.limits.until {
        let limit = format!("{} {}", dataset.id, dataset.limits.until);
        faults.push(
            "TERM_PAST_DATASET",
            file,
            &terms.until.referenced,
            &terms.until.value,
            &limit,
        );
    }
}
