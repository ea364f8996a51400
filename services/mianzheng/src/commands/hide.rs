//! `ledger hide request | approve | list`: two people, two certificates.

use std::path::Path;

use mz_console::{Client, ClientError, HideAct, HideRequest};
use mz_contract::Reasons;
use mz_ledger::index::{HideReport, PageRequest};

use super::ask_ledger::{MAX_PAGES, day, show};
use super::evidence::stdin_only;
use crate::cli::LedgerHide;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, lang, say};
use crate::say_line;

pub fn run(dir: &Path, act: &LedgerHide) -> Outcome {
    let instance = Instance::open(dir)?;
    match act {
        LedgerHide::Request {
            id,
            until,
            reason,
            operator,
            principal,
        } => {
            let request = HideRequest {
                id: stdin_only(id)?.as_str().to_owned(),
                until: day(until)?,
                operator: operator.clone(),
                reason: reason.clone(),
            };
            let client = client(&instance, principal)?;
            let answer = client.request_hide(&request).map_err(failure)?;
            say_line!("{}", answer.number);
        }
        LedgerHide::Approve {
            number,
            reason,
            operator,
            principal,
        } => {
            let act = act_of(operator, reason);
            let client = client(&instance, principal)?;
            let answer = client.approve_hide(*number, &act).map_err(failure)?;
            say_line!("{}", answer.audit_id);
        }
        LedgerHide::List {
            operator,
            reason,
            principal,
            json,
            csv,
        } => {
            let client = client(&instance, principal)?;
            return list(&client, act_of(operator, reason), (*json, *csv));
        }
    }
    Ok(())
}

fn list(client: &Client, mut act: HideAct, form: (bool, bool)) -> Outcome {
    let mut header = Vec::new();
    for _ in 0..MAX_PAGES {
        let answer = client.list_hides(&act).map_err(failure)?;
        for item in &answer.items {
            show(item, form, &mut header)?;
        }
        if answer.cursor.is_none() {
            return Ok(());
        }
        act.page.cursor = answer.cursor;
    }
    Err(Failure::silent(exit::FAILED))
}

fn act_of(operator: &str, reason: &str) -> HideAct {
    HideAct {
        operator: operator.to_owned(),
        reason: reason.to_owned(),
        page: PageRequest::default(),
    }
}

fn client(instance: &Instance, principal: &str) -> Result<Client, Failure> {
    let tls = instance.tls(principal)?;
    let vault = format!("https://{}", instance.settings.http.vault);
    Client::new(&vault, &tls).map_err(failure)
}

fn failure(error: ClientError) -> Failure {
    coded(exit::FAILED, error.code(), &error)
}

/// What `ledger audit --index` says of the hides.
pub fn print_checked(hides: &HideReport, reasons: &Reasons) {
    let (rows, waiting, unchecked) = (hides.rows, hides.waiting, hides.unchecked);
    let verdict = match hides.faults.is_empty() {
        true => say("与审计记录一致", "as their audit records say"),
        false => say("与审计记录不一致", "not as their audit records say"),
    };
    say_line!("{} {rows}: {verdict}", say("隐藏记录", "hides"));
    if waiting + unchecked > 0 {
        say_line!(
            "  {}",
            say(
                &format!("{waiting} 条尚待入账，{unchecked} 条所在账本不在此处"),
                &format!("{waiting} not logged yet, {unchecked} of logs that are not here"),
            )
        );
    }
    for fault in &hides.faults {
        let row = fault.row.map(|row| format!(" {row}")).unwrap_or_default();
        let column = fault.column.map(|column| format!(".{column}"));
        let audit_id = fault.audit_id.as_deref().unwrap_or("-");
        say_line!(
            "  {}{row}{}, {audit_id}: {}: {}",
            fault.table,
            column.unwrap_or_default(),
            fault.code,
            reasons.text(fault.code, lang())
        );
    }
}
