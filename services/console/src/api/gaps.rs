//! The auditor's question about gaps: the index says which source offsets the log accounts for, the
//! source topics themselves whether anything lies between.

use std::sync::Arc;

use mz_bus::BusOptions;
use mz_contract::Contract;
use mz_ledger::index::{Days, Index, PageRequest, Stretch};
use serde_json::Value;

use super::answers::{Answered, period};
use super::ledger::Unanswered;
use crate::limits::MAX_GAP_LANES;
use crate::source_gaps::{Lane, look};

/// One page of lanes.
pub async fn answer(
    index: &Index,
    contract: &Contract,
    bus: &Arc<BusOptions>,
    (days, provider): (Days, Option<&str>),
    page: &PageRequest,
) -> Result<Answered, Unanswered> {
    let limit = page
        .limit
        .map_or(MAX_GAP_LANES, |limit| limit.min(MAX_GAP_LANES));
    let page = PageRequest {
        cursor: page.cursor.clone(),
        limit: Some(limit),
    };
    let datasets = read_datasets(contract, provider);
    let found = index.stretches(&datasets, period(days), &page).await?;
    let (bus, stretches): (_, Vec<Stretch>) = (Arc::clone(bus), found.items);
    // The reader blocks.
    let looked = tokio::task::spawn_blocking(move || look(&bus, stretches)).await;
    let lanes: Vec<Lane> = match looked {
        Ok(Ok(lanes)) => lanes,
        Ok(Err(error)) => {
            tracing::warn!(code = error.code(), error = %error, "source topics not readable");
            return Err(Unanswered::Source(error.code()));
        }
        Err(_) => return Err(Unanswered::Source("BUS_UNAVAILABLE")),
    };
    let items = lanes.into_iter().map(serde_json::to_value);
    let items: Result<Vec<Value>, _> = items.collect();
    let damaged = |_| mz_ledger::index::IndexError::Damaged("answer");
    Ok((items.map_err(damaged)?, found.cursor))
}

/// The datasets that an agreement reads: of the others nobody writes a summary.
fn read_datasets(contract: &Contract, provider: Option<&str>) -> Vec<String> {
    let read = |ix: usize| contract.sections().any(|section| section.dataset_ix == ix);
    let datasets = contract.datasets.iter().enumerate();
    datasets
        .filter(|(_, dataset)| provider.is_none_or(|provider| dataset.department == provider))
        .filter(|(ix, _)| read(*ix))
        .map(|(_, dataset)| dataset.id.clone())
        .collect()
}
