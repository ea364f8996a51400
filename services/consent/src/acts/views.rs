//! How grants look to people.

use mz_contract::Contract;
use mz_journal::{GrantKind, GrantStatus};
use mz_policy::CLOCK_SKEW_MS;
use mz_seal::timestamp_text;

use crate::handle::Handle;
use crate::model::GrantView;
use crate::store::GrantRow;

impl Handle {
    pub(super) fn view(&self, contract: &Contract, row: &GrantRow, now_ms: i64) -> GrantView {
        let grant = &row.grant;
        let (consumer, purpose) = grant.agreement.split_once('/').unwrap_or_default();
        let title = contract.agreement(&grant.agreement);
        let title = title.map(|agreement| agreement.title.clone());
        let (title_zh, title_en) = title.map_or_else(
            || (grant.agreement.clone(), grant.agreement.clone()),
            |title| (title.zh, title.en),
        );
        // As the slots see it: a grant that ends within the skew of the clocks has ended.
        let expired = now_ms.saturating_add(CLOCK_SKEW_MS) >= grant.expires_ms;
        let status = match grant.status {
            GrantStatus::Closed => "closed",
            _ if expired => "expired",
            GrantStatus::Paused => "paused",
            GrantStatus::Open => "open",
        };
        GrantView {
            id: grant.id.hex(),
            kind: match grant.kind {
                GrantKind::Consent => "consent".to_owned(),
                GrantKind::Case => "case".to_owned(),
            },
            agreement: grant.agreement.clone(),
            consumer: consumer.to_owned(),
            purpose: purpose.to_owned(),
            title_zh,
            title_en,
            datasets: grant.datasets.clone(),
            status: status.to_owned(),
            counter: grant.counter,
            opened_at: timestamp_text(grant.opened_ms),
            expires_at: timestamp_text(grant.expires_ms),
            closed_at: grant.closed_ms.map(timestamp_text),
            cause: grant.cause.clone(),
            reason: grant.reason.clone(),
            record: row.record.clone(),
        }
    }
}
