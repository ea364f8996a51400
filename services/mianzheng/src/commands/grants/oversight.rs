//! `agreement`, `contract activate`, `why`, `withdrawals`, `subject`: what the bureau's officers do.

use std::collections::BTreeMap;
use std::path::Path;

use mz_consent::model::{
    Activate, AgreementAct, AgreementActKind, AskWithdrawals, Erase, VersionEntry, Why,
};
use mz_console::pretty::grants as pretty;
use mz_contract::{Contract, Mode, Reasons, diff};

use super::{Otherwise, Session, enforced, failure, person, reason, request_id};
use crate::cli::{
    ActivateArgs, AgreementArgs, AgreementCommand, SubjectCommand, VersionsArgs, WhyArgs,
    WithdrawalsArgs,
};
use crate::commands::apply::agreed;
use crate::commands::contract::hex;
use crate::exit;
use crate::outcome::{Failure, Outcome, lang, say};
use crate::say_line;

pub fn agreement(dir: &Path, command: &AgreementCommand) -> Outcome {
    match command {
        AgreementCommand::Suspend(args) => act(dir, args, AgreementActKind::Suspend),
        AgreementCommand::Resume(args) => act(dir, args, AgreementActKind::Resume),
        AgreementCommand::Terminate(args) => act(dir, args, AgreementActKind::Terminate),
        AgreementCommand::Versions(args) => versions(dir, args),
    }
}

fn act(dir: &Path, args: &AgreementArgs, kind: AgreementActKind) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Security)?;
    let request_id = request_id(&args.asked);
    let ask = AgreementAct {
        request_id: request_id.clone(),
        agreement: args.agreement.clone(),
        reason: args.reason.clone(),
        operator: session.operator()?,
        wait_ms: args.asked.wait_ms,
    };
    let view = session.client.agreement(kind, &ask);
    let view = view.map_err(|error| failure(error, Some(&request_id)))?;
    session.answer(&view, || pretty::in_force(&view, lang()))?;
    enforced(&view.enforcement)
}

fn versions(dir: &Path, args: &VersionsArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Auditor)?;
    let entries = session.client.versions();
    let entries = entries.map_err(|error| failure(error, None))?;
    session.answer(&entries, || pretty::versions(&entries, lang()))
}

/// Puts a contract in force. It is read, checked and compared here first, so that most faults show
/// before anything is sent; the service checks again and has the last word.
pub fn activate(dir: &Path, args: &ActivateArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Security)?;
    let operator = session.operator()?;
    let own = session.instance.contract_root();
    let root = args.root.as_deref().unwrap_or(&own);
    let files = Contract::files(root)?;
    let new = Contract::from_files(files.clone(), Mode::Signed)?;
    let in_force = session.client.versions();
    let in_force = in_force.map_err(|error| failure(error, None))?;
    let newest = in_force.iter().max_by_key(|entry| entry.version);
    if !session.json {
        preview(&own, root, &new, newest)?;
    }
    if !args.yes && !agreed()? {
        let text = say("未启用", "nothing was put in force");
        return Err(Failure::new(exit::FAILED, text));
    }
    let request_id = request_id(&args.asked);
    let ask = Activate {
        request_id: request_id.clone(),
        files,
        operator,
        reason: args.reason.clone(),
        wait_ms: args.asked.wait_ms,
    };
    let view = session.client.activate(&ask);
    let view = view.map_err(|error| failure(error, Some(&request_id)))?;
    if root != own {
        keep(&session, &ask.files);
    }
    session.answer(&view, || pretty::in_force(&view, lang()))?;
    enforced(&view.enforcement)
}

/// What would change, against the installation's own copy.
fn preview(
    own: &Path,
    root: &Path,
    new: &Contract,
    in_force: Option<&VersionEntry>,
) -> Result<(), Failure> {
    say_line!("{} {}", say("新契约", "new contract"), hex(&new.digest));
    if let Some(entry) = in_force {
        let label = say("生效中的版本", "in force: version");
        say_line!("{label} {} {}", entry.version, entry.digest);
    }
    if root == own {
        say_line!(
            "{}",
            say(
                "这就是本地副本，无从对比",
                "this is the installation's own copy: there is nothing to compare with"
            )
        );
        return Ok(());
    }
    let old = Contract::load(own, Mode::Draft)?;
    if in_force.is_some_and(|entry| entry.digest != hex(&old.digest)) {
        say_line!(
            "{}",
            say(
                "注意：生效中的版本与本地副本不同（例如协议已中止），以下对比以本地副本为准",
                "note: what is in force differs from the installation's copy (an agreement may be \
                 suspended); the comparison is with that copy"
            )
        );
    }
    let lines = diff(&old, new).lines(&Reasons::built_in(), lang());
    for text in &lines {
        say_line!("  {text}");
    }
    Ok(())
}

/// The installation's copy follows what is in force; where it can't be written, somebody is told.
fn keep(session: &Session, files: &BTreeMap<String, String>) {
    if let Err(error) = session.instance.replace_contract(files) {
        tracing::warn!(
            error = format!("{error:#}"),
            "the contract's copy was not replaced"
        );
    }
}

pub fn why(dir: &Path, args: &WhyArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Auditor)?;
    let ask = Why {
        id: person(&args.id)?.as_str().to_owned(),
        consumer: args.consumer.clone(),
        purpose: args.purpose.clone(),
        operator: session.asker()?,
        reason: reason(&args.reason),
    };
    let because = session.client.why(&ask);
    let because = because.map_err(|error| failure(error, None))?;
    session.answer(&because, || {
        pretty::because(&because, &Reasons::built_in(), lang())
    })
}

pub fn withdrawals(dir: &Path, args: &WithdrawalsArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Auditor)?;
    let ask = AskWithdrawals {
        agreement: args.agreement.clone(),
        open_only: args.open,
        cursor: None,
        limit: None,
    };
    let page = session.client.all_withdrawals(&ask);
    let page = page.map_err(|error| failure(error, None))?;
    session.answer(&page, || {
        pretty::withdrawals(&page, &Reasons::built_in(), lang())
    })
}

pub fn subject(dir: &Path, command: &SubjectCommand) -> Outcome {
    let SubjectCommand::Erase(args) = command;
    let session = Session::open(dir, &args.by, Otherwise::Security)?;
    let request_id = request_id(&args.asked);
    let ask = Erase {
        request_id: request_id.clone(),
        id: person(&args.id)?.as_str().to_owned(),
        operator: session.operator()?,
        reason: args.reason.clone(),
        wait_ms: args.asked.wait_ms,
    };
    let erased = session.client.erase(&ask);
    let erased = erased.map_err(|error| failure(error, Some(&request_id)))?;
    session.answer(&erased, || pretty::erased(&erased, lang()))?;
    enforced(&erased.enforcement)
}
