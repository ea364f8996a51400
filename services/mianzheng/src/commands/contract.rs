//! `lint`, `contract`: what was agreed, checked and signed.

use std::path::{Path, PathBuf};

use mz_contract::Mode;
use mz_keys::KeysDir;

use super::grants;
use crate::cli::{ContractCommand, LintArgs};
use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, Outcome, lang, say};
use crate::say_line;

/// The contract that is meant: the one named, else the installation's, else the one here.
fn root(dir: &Path, named: Option<&PathBuf>) -> PathBuf {
    if let Some(root) = named {
        return root.clone();
    }
    match Instance::open(dir) {
        Ok(instance) => instance.contract_root(),
        Err(_) => PathBuf::from("schemas"),
    }
}

pub fn lint(dir: &Path, args: &LintArgs) -> Outcome {
    let root = root(dir, args.root.as_ref());
    let mode = if args.draft {
        Mode::Draft
    } else {
        Mode::Signed
    };
    let lint = mz_contract::lint(&root, mode, lang());
    let Some(contract) = lint.contract else {
        for line in &lint.lines {
            say_line!("{line}");
        }
        let count = lint.faults.len();
        return Err(Failure::new(
            exit::FAULTS,
            say(
                &format!("合同有 {count} 处问题"),
                &format!("the contract has {count} fault(s)"),
            ),
        ));
    };
    let (datasets, agreements) = (contract.datasets.len(), contract.agreements.len());
    say_line!(
        "{}",
        say(
            &format!(
                "合同无误:{datasets} 个数据目录条目,{agreements} 份共享协议,摘要 {}",
                hex(&contract.digest)
            ),
            &format!(
                "no faults: {datasets} datasets, {agreements} agreements, digest {}",
                hex(&contract.digest)
            ),
        )
    );
    Ok(())
}

pub fn run(dir: &Path, command: &ContractCommand) -> Outcome {
    match command {
        ContractCommand::Sign { department } => sign(dir, department),
        ContractCommand::Ids { root: named } => {
            let report = mz_contract::allocate_schema_ids(&root(dir, named.as_ref()), lang())
                .map_err(|lines| Failure::lines(exit::FAULTS, lines))?;
            for id in &report.added {
                say_line!("+ {id}");
            }
            say_line!(
                "{}",
                say(
                    &format!("新分配 {} 个编号", report.added.len()),
                    &format!("{} id(s) allocated", report.added.len())
                )
            );
            Ok(())
        }
        ContractCommand::Activate(args) => grants::activate(dir, args),
        ContractCommand::Digest { root: named } => {
            let contract = mz_contract::Contract::load(&root(dir, named.as_ref()), Mode::Draft)?;
            say_line!("{}", hex(&contract.digest));
            Ok(())
        }
    }
}

fn sign(dir: &Path, department: &str) -> Outcome {
    let instance = Instance::open(dir)?;
    let keys = KeysDir::new(instance.keys_dir());
    let signed = mz_keys::sign_approvals(&instance.contract_root(), department, &keys)
        .map_err(|error| Failure::chain(exit::FAILED, &error))?;
    for section in &signed {
        say_line!("{} {section}", say("已签名", "signed"));
    }
    Ok(())
}

/// As digests are written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
