//! `consent`, `case`: what people and counters do with grants.

use std::path::Path;

use anyhow::Context;
use mz_consent::model::{
    About, AskEnforcement, Change, ChangeKind, Evidence, Give, Listed, OpenCase, Representation,
};
use mz_console::pretty::grants as pretty;
use mz_console::receipt;
use mz_contract::{Contract, IdNumber, Mode, Reasons};
use mz_keys::evidence::{self, Act, ChangeAct, ChangeAction, GiveAct};
use mz_keys::public::KeyUse;
use mz_keys::{KeysDir, department_signer};
use uuid::Uuid;

use super::{Otherwise, Session, enforced, failure, now, person, reason, request_id, usage};
use crate::cli::{
    AboutArgs, CaseCommand, ChangeArgs, ConsentCommand, EnforcementArgs, GiveArgs, OpenCaseArgs,
    ReceiptArgs, RepresentationArg, ShowArgs, Shown,
};
use crate::commands::evidence::write_personal;
use crate::commands::serve;
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, lang, print, say};
use crate::say_line;

pub fn consent(dir: &Path, command: &ConsentCommand) -> Outcome {
    match command {
        ConsentCommand::Serve(args) => serve::consent(dir, args),
        ConsentCommand::Give(args) => give(dir, args),
        ConsentCommand::Revoke(args) => change(dir, args, ChangeKind::Revoke, None),
        ConsentCommand::Pause(args) => change(dir, args, ChangeKind::Pause, None),
        ConsentCommand::Resume(args) => change(dir, args, ChangeKind::Resume, None),
        ConsentCommand::Extend(args) => change(
            dir,
            &args.change,
            ChangeKind::Extend,
            Some(&args.valid_until),
        ),
        ConsentCommand::Enforcement(args) => enforcement(dir, args),
        ConsentCommand::List(args) => list(dir, args, false, |_| true),
        ConsentCommand::Show(args) => show(dir, args),
        ConsentCommand::History(args) => list(dir, args, true, |_| true),
        ConsentCommand::VerifyReceipt(args) => verify_receipt(dir, args),
    }
}

pub fn case(dir: &Path, command: &CaseCommand) -> Outcome {
    match command {
        CaseCommand::Open(args) => open_case(dir, args),
        CaseCommand::Close(args) => change(dir, args, ChangeKind::Close, None),
        CaseCommand::List(args) => list(dir, args, true, |kind| kind == "case"),
    }
}

fn give(dir: &Path, args: &GiveArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Portal)?;
    let id = person(&args.id)?;
    let representation = representation(args)?;
    let notice_version = match args.notice_version {
        Some(version) => version,
        None => notice_version(&session.instance, &args.agreement)?,
    };
    let request_id = request_id(&args.asked);
    let evidence = shown(&session, &args.shown, &request_id, &id, |by| {
        evidence::give_act(&GiveAct {
            agreement: &args.agreement,
            datasets: &args.datasets,
            separate: &args.separate,
            notice_version,
            valid_until: &args.valid_until,
            by,
        })
    })?;
    let ask = Give {
        request_id: request_id.clone(),
        id: id.as_str().to_owned(),
        agreement: args.agreement.clone(),
        datasets: args.datasets.clone(),
        separate: args.separate.clone(),
        valid_until: args.valid_until.clone(),
        notice_version,
        evidence,
        representation,
        wait_ms: args.asked.wait_ms,
    };
    let given = session.client.give(&ask);
    let given = given.map_err(|error| failure(error, Some(&request_id)))?;
    let receipt = serde_json::to_string_pretty(&given.receipt).context("JSON")?;
    if let Some(path) = &args.out {
        write_personal(path, receipt.as_bytes())?;
    }
    if session.json || args.out.is_some() {
        session.answer(&given, || pretty::given(&given, lang()))?;
    } else {
        say_line!("{receipt}");
        eprint!("{}", pretty::given(&given, lang()));
    }
    enforced([&given.enforcement])
}

/// Of the agreement as the installation's contract has it.
fn notice_version(instance: &Instance, agreement: &str) -> Result<u32, Failure> {
    let contract = instance.contract(Mode::Draft)?;
    let terms = contract
        .agreement(agreement)
        .and_then(|agreement| agreement.consent.as_ref());
    terms.map(|terms| terms.notice_version).ok_or_else(|| {
        let code = "CONSENT_NOT_BY_CONSENT";
        let text = Reasons::built_in().text(code, lang()).to_owned();
        Failure::new(exit::FAILED, format!("{code}: {text}"))
    })
}

fn representation(args: &GiveArgs) -> Result<Option<Representation>, Failure> {
    let Some(kind) = args.representation else {
        return Ok(None);
    };
    let (Some(document), Some(valid_until)) =
        (&args.representation_document, &args.representation_until)
    else {
        return Err(Failure::silent(exit::USAGE));
    };
    let prompt = say(
        "代理人公民身份号码:",
        "the representative's identity number: ",
    );
    let id = mz_console::read_id(&prompt).map_err(|error| failure(error, None))?;
    Ok(Some(Representation {
        kind: match kind {
            RepresentationArg::Guardian => "guardian".to_owned(),
            RepresentationArg::Heir => "heir".to_owned(),
            RepresentationArg::Agent => "agent".to_owned(),
        },
        id: id.as_str().to_owned(),
        document: document.clone(),
        valid_until: valid_until.clone(),
    }))
}

/// Evidence of the person's act: as the portal, signed; at a counter, the form that was filed.
fn shown(
    session: &Session,
    shown: &Shown,
    request_id: &str,
    id: &IdNumber,
    act: impl FnOnce(Act<'_>) -> Result<Vec<u8>, mz_journal::canonical::CanonicalError>,
) -> Result<Evidence, Failure> {
    let at = now()?;
    if !session.is_portal() {
        let document = shown.document.clone().ok_or_else(|| {
            usage(
                "请用 --document 注明本人签字文书的存放处",
                "name with --document where the form that the person signed is filed",
            )
        })?;
        return Ok(Evidence::Counter {
            operator: session.operator()?,
            at,
            document,
        });
    }
    let new = || format!("cli-{}", Uuid::now_v7());
    let name = shown.session.clone().unwrap_or_else(new);
    let bytes = act(Act {
        request_id,
        at: &at,
        session: &name,
        person: id,
    });
    let bytes = bytes.context("evidence")?;
    let failed = |error: mz_keys::KeyError| Failure::chain(exit::FAILED, &error);
    let keys = KeysDir::new(session.instance.keys_dir());
    let root = session.instance.contract_root();
    let signer =
        department_signer(&keys, &root, mz_contract::BUS, KeyUse::Evidence).map_err(failed)?;
    let (key_id, signature) = evidence::sign(signer.as_ref(), &bytes).map_err(failed)?;
    Ok(Evidence::App {
        session: name,
        at,
        key_id,
        signature,
    })
}

fn change(dir: &Path, args: &ChangeArgs, kind: ChangeKind, until: Option<&String>) -> Outcome {
    let otherwise = match kind {
        ChangeKind::Close => Otherwise::Window,
        _ => Otherwise::Portal,
    };
    let session = Session::open(dir, &args.by, otherwise)?;
    let id = args.id.as_deref().map(person).transpose()?;
    let request_id = request_id(&args.asked);
    let action = match kind {
        ChangeKind::Resume => Some(ChangeAction::Resume),
        ChangeKind::Extend => Some(ChangeAction::Extend),
        // Stopping needs no evidence: nobody is harmed by a consent that ends too early.
        ChangeKind::Revoke | ChangeKind::Pause | ChangeKind::Close => None,
    };
    // A case at a counter is resumed without a form; a consent is refused by the service then.
    let action = action.filter(|_| session.is_portal() || args.shown.document.is_some());
    let evidence = match (action, &id) {
        (None, _) => None,
        (Some(action), Some(id)) => Some(shown(&session, &args.shown, &request_id, id, |by| {
            evidence::change_act(&ChangeAct {
                action,
                grant: &args.grant,
                valid_until: until.map(String::as_str),
                by,
            })
        })?),
        (Some(_), None) => {
            return Err(usage(
                "请加 --id -：证据须写明是谁",
                "add --id -: evidence says who acted",
            ));
        }
    };
    let said = || match &args.reason {
        Some(reason) => Ok(reason.clone()),
        None if session.is_portal() => Ok(say("本人办理", "by the person")),
        None => Err(usage("请用 --reason 注明原因", "say why with --reason")),
    };
    let ask = Change {
        request_id: request_id.clone(),
        grant: args.grant.clone(),
        id: id.map(|id| id.as_str().to_owned()),
        reason: said()?,
        operator: session.operator.clone(),
        valid_until: until.cloned(),
        evidence,
        wait_ms: args.asked.wait_ms,
    };
    let changed = session.client.change(kind, &ask);
    let changed = changed.map_err(|error| failure(error, Some(&request_id)))?;
    session.answer(&changed, || pretty::changed(&changed, lang()))?;
    enforced([&changed.enforcement])
}

fn open_case(dir: &Path, args: &OpenCaseArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Window)?;
    super::super::evidence::only_stdin(&args.id)?;
    let prompt = say(
        "公民身份号码（每行一个，空行结束）:",
        "identity numbers, one a line, an empty line ends: ",
    );
    let subjects = mz_console::read_ids(&prompt).map_err(|error| failure(error, None))?;
    let request_id = request_id(&args.asked);
    let ask = OpenCase {
        request_id: request_id.clone(),
        agreement: args.agreement.clone(),
        subjects: subjects.iter().map(|id| id.as_str().to_owned()).collect(),
        days: args.days,
        application: args.application.clone(),
        operator: session.operator()?,
        reason: args.reason.clone(),
        wait_ms: args.asked.wait_ms,
    };
    let opened = session.client.open_case(&ask);
    let opened = opened.map_err(|error| failure(error, Some(&request_id)))?;
    session.answer(&opened, || pretty::opened(&opened, lang()))?;
    enforced(&opened.enforcement)
}

fn enforcement(dir: &Path, args: &EnforcementArgs) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Portal)?;
    let ask = AskEnforcement {
        grant: args.grant.clone(),
        wait_ms: args.wait_ms,
    };
    let found = session.client.enforcement(&ask);
    let found = found.map_err(|error| failure(error, None))?;
    session.answer(&found, || pretty::enforced(&found, lang()))?;
    enforced([&found])
}

fn ask_about(session: &Session, args: &AboutArgs) -> Result<Listed, Failure> {
    let ask = About {
        id: person(&args.id)?.as_str().to_owned(),
        operator: session.asker()?,
        reason: reason(&args.reason),
    };
    let listed = session.client.grants(&ask);
    listed.map_err(|error| failure(error, None))
}

fn list(dir: &Path, args: &AboutArgs, history: bool, kept: impl Fn(&str) -> bool) -> Outcome {
    let session = Session::open(dir, &args.by, Otherwise::Auditor)?;
    let mut listed = ask_about(&session, args)?;
    listed.grants.retain(|grant| kept(&grant.kind));
    let Listed {
        grants,
        history: all,
    } = &mut listed;
    all.retain(|entry| grants.iter().any(|grant| grant.id == entry.grant));
    session.answer(&listed, || pretty::listed(&listed, history, lang()))
}

fn show(dir: &Path, args: &ShowArgs) -> Outcome {
    let session = Session::open(dir, &args.about.by, Otherwise::Auditor)?;
    let mut listed = ask_about(&session, &args.about)?;
    listed.grants.retain(|grant| grant.id == args.grant);
    listed.history.retain(|entry| entry.grant == args.grant);
    let Some(grant) = listed.grants.first() else {
        let code = "CONSENT_GRANT_UNKNOWN";
        let text = Reasons::built_in().text(code, lang()).to_owned();
        return Err(Failure::new(exit::FAILED, format!("{code}: {text}")));
    };
    session.answer(&listed, || {
        let mut text = pretty::listed(&listed, true, lang());
        if let Some(record) = &grant.record {
            text.push_str(&pretty::record(record, lang()));
        }
        text
    })
}

fn verify_receipt(dir: &Path, args: &ReceiptArgs) -> Outcome {
    let root = match &args.contract {
        Some(root) => root.clone(),
        None => Instance::open(dir)?.contract_root(),
    };
    // Public keys are all that is needed.
    let contract = Contract::load(&root, Mode::Draft)?;
    let id = args.id.as_deref().map(person).transpose()?;
    let unreadable = || format!("{}: cannot read", args.file.display());
    let size = std::fs::metadata(&args.file)
        .with_context(unreadable)?
        .len();
    let bytes = if size > mz_console::limits::MAX_RECEIPT_BYTES as u64 {
        Vec::new()
    } else {
        std::fs::read(&args.file).with_context(unreadable)?
    };
    let report = receipt::verify(&bytes, &contract, id.as_ref());
    print(format_args!(
        "{}",
        report.render(&Reasons::built_in(), lang())
    ));
    if !report.is_valid() {
        return Err(Failure::silent(exit::NOT_VERIFIED));
    }
    if let Some(receipt) = &report.receipt {
        print(format_args!("{}", pretty::receipt(receipt, lang())));
    }
    Ok(())
}
