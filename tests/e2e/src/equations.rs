//! All checks of one installation, in one call.

use crate::adapter::AdapterTables;
use crate::audit::{self, Log};
use crate::city::City;
use crate::events::Events;
use crate::install::Installation;
use crate::{Check, database, holdings, ledger, registers, vault};
use mz_bus::BusError;
use mz_contract::Contract;
use mz_journal::{AuditCause, AuditKind};
use std::collections::BTreeMap;

/// Holds topics, log and tables against each other and against the registers. Everything must have
/// settled. `answered`: audit ids of the evidence bundles that somebody received.
pub fn check_all(
    it: &Installation,
    contract: &Contract,
    city: &City,
    adapter: &AdapterTables,
    answered: &[String],
) -> Result<Vec<Check>, BusError> {
    let bus = it.bus("bus.admin");
    let url = it.database_url();
    let mut events = BTreeMap::new();
    for dataset in &contract.datasets {
        events.insert(dataset.id.clone(), Events::read(&bus, contract, dataset)?);
    }
    let log = Log::read(&bus, contract.lanes)?;
    let grants = audit::grants(&bus, contract.lanes)?;
    let decided: BTreeMap<String, u64> = events
        .iter()
        .map(|(dataset, events)| {
            let all = events.good.len() + events.refused.len();
            let refused = log
                .of(AuditKind::Quarantined)
                .filter(|entry| entry.dataset == *dataset && entry.cause == AuditCause::Stream)
                .count();
            (dataset.clone(), (all - refused) as u64)
        })
        .collect();
    let mut checks = vec![
        registers::published(&city.expected(), &events),
        registers::contents(city.path(), contract, &events),
        vault::newest(url, contract, &events),
        audit::outcomes(contract, &log, &decided),
        audit::deliveries(&bus, contract, &log)?,
        audit::kinds(&bus, contract, &log, answered)?,
        audit::chains(&bus, contract.lanes, &log)?,
        vault::delivered_about_cases(url, contract, &log, &grants),
        adapter.check(url, &bus, contract, &log)?,
    ];
    if ledger::runs(it) {
        checks.push(ledger::whole(it, &log));
    }
    // Whoever runs no consent service has nobody who knows what is held.
    if database::has_table(url, "consent", "owner")
        && database::number(url, "SELECT count(*) FROM consent.owner") > 0
    {
        checks.push(holdings::held(url, &log));
    }
    Ok(checks)
}
