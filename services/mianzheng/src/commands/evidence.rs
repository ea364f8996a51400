//! `bundle`, `verify`, `who-read`: evidence asked for, checked, and accounted for.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use mz_bus::TlsFiles;
use mz_console::{Client, ClientError, pretty, sheet};
use mz_contract::{Contract, Mode, Reasons};
use mz_vault::bundle::{self, BundleRequest, SubjectQuery};
use mz_vault::limits::MAX_BUNDLE_BYTES;

use crate::cli::{BundleArgs, VerifyArgs, WhoReadArgs};
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, coded, lang, print, say};
use crate::say_line;

fn client(instance: &Instance, tls: &TlsFiles) -> Result<Client, Failure> {
    Client::new(&format!("https://{}", instance.settings.http.vault), tls).map_err(client_failure)
}

fn client_failure(error: ClientError) -> Failure {
    coded(exit::FAILED, error.code(), &error)
}

/// Only `-` is taken: an identity number in an argument would show in `ps` and shell history.
pub fn only_stdin(id: &str) -> Outcome {
    if id != "-" {
        return Err(Failure::new(
            exit::USAGE,
            say(
                "--id 只接受 -:身份号码从标准输入读取,不得写在命令行上",
                "--id takes only -: the identity number is read from standard input, never from an argument",
            ),
        ));
    }
    Ok(())
}

/// The person on standard input.
pub fn stdin_only(id: &str) -> Result<mz_contract::IdNumber, Failure> {
    only_stdin(id)?;
    mz_console::read_id(&say("公民身份号码:", "identity number: ")).map_err(client_failure)
}

pub fn bundle(dir: &Path, args: &BundleArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let subject = match (&args.id, &args.case) {
        (Some(id), _) => SubjectQuery::Id(stdin_only(id)?.as_str().to_owned()),
        (None, Some(case)) => SubjectQuery::Case(case.clone()),
        (None, None) => return Err(Failure::silent(exit::USAGE)),
    };
    let tls = instance.tls(&format!("{}.window", args.department))?;
    let request = BundleRequest {
        item: args.item.clone(),
        subject,
        operator: args.operator.clone(),
        reason: args.reason.clone(),
    };
    let (bundle, bytes) = client(&instance, &tls)?
        .bundle(&request)
        .map_err(client_failure)?;
    if let Some(path) = &args.html {
        let page = sheet::sheet(&bundle).map_err(|error| Failure::chain(exit::FAILED, &error))?;
        write_personal(path, page.as_bytes())?;
    }
    if let Some(path) = &args.out {
        write_personal(path, &bytes)?;
    }
    if args.pretty {
        print(format_args!("{}", pretty::bundle(&bundle, lang())));
    } else if args.out.is_none() {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes)
            .and_then(|()| out.write_all(b"\n"))
            .context("standard output")?;
    }
    Ok(())
}

/// A file about a person: only its owner reads it.
pub fn write_personal(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{}: cannot write", path.display()))?;
    file.write_all(bytes)
        .with_context(|| format!("{}: cannot write", path.display()))
}

pub fn verify(dir: &Path, args: &VerifyArgs) -> Outcome {
    let root = match &args.contract {
        Some(root) => root.clone(),
        None => Instance::open(dir)?.contract_root(),
    };
    // Public keys and schemas are all that is needed: approvals say who may read, not what is true.
    let contract = Contract::load(&root, Mode::Draft)?;
    let size = std::fs::metadata(&args.file)
        .with_context(|| format!("{}: cannot read", args.file.display()))?
        .len();
    let most = match args.id {
        Some(_) => mz_ledger::limits::MAX_ABSENCE_BYTES,
        None => MAX_BUNDLE_BYTES,
    };
    if size > most as u64 {
        return Err(Failure::new(
            exit::NOT_VERIFIED,
            format!("{}: {size} > {most} bytes", args.file.display()),
        ));
    }
    let bytes = std::fs::read(&args.file)
        .with_context(|| format!("{}: cannot read", args.file.display()))?;
    if let Ok(text) = std::str::from_utf8(&bytes)
        && text.starts_with(mz_tlog::proof::HEADER)
    {
        return super::ledger::verify_proof(text, &contract, args);
    }
    if let Ok(text) = std::str::from_utf8(&bytes)
        && text.starts_with(mz_ledger::absence::HEADER)
    {
        return super::absence::verify(text, &contract, args);
    }
    let report = bundle::verify::verify(&bytes, &contract);
    print(format_args!(
        "{}",
        report.render(&Reasons::built_in(), lang())
    ));
    if report.is_valid() {
        Ok(())
    } else {
        Err(Failure::silent(exit::NOT_VERIFIED))
    }
}

pub fn who_read(dir: &Path, args: &WhoReadArgs) -> Outcome {
    let instance = Instance::open(dir)?;
    let id = stdin_only(&args.id)?;
    let tls = instance.tls("bus.auditor")?;
    let page = client(&instance, &tls)?
        .who_read(&id, &args.operator, &args.reason)
        .map_err(client_failure)?;
    if args.json {
        say_line!("{}", serde_json::to_string_pretty(&page).context("JSON")?);
    } else {
        print(format_args!("{}", pretty::who_read(&page, lang())));
    }
    Ok(())
}
