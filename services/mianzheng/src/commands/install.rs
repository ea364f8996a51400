//! `init`, `stack`, `keys`, `synth`: an installation and what it stands on.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, anyhow};
use mz_contract::Lang;
use mz_keys::public::BatchPosition;
use mz_keys::secret::SecretKey;
use mz_keys::{KeysDir, wrapper};
use mz_stack::{Bar, Progress, Stack, StackInfo, StackOptions};
use mz_vault::store::{Database, SCHEMA, StoreError, rewrap};

use crate::cli::{InitArgs, KeysCommand, StackCommand, SynthArgs};
use crate::exit;
use crate::instance::{Instance, write_private};
use crate::outcome::{Failure, Outcome, coded, lang, say};
use crate::say_line;

const DEFAULT_SLOTS: u32 = 2;

pub fn init(dir: &Path, args: &InitArgs) -> Outcome {
    let mut instance = Instance::init(dir, &args.contract, &args.prefix, args.slots)?;
    instance.settings.replication = args.replication;
    if let Some(bootstrap) = &args.bootstrap {
        instance.settings.bootstrap.clone_from(bootstrap);
    }
    instance.save()?;
    say_line!("{}", dir.join("instance.yaml").display());
    Ok(())
}

pub fn stack(dir: &Path, command: &StackCommand) -> Outcome {
    let mut options = StackOptions::new(dir);
    let failed = |error: mz_stack::StackError| Failure::chain(exit::FAILED, &error);
    match command {
        StackCommand::Up => {
            let mut instance = Instance::init(dir, Path::new("schemas"), "", DEFAULT_SLOTS)?;
            options.contract = Some(instance.contract_root());
            options.departments = instance.departments()?;
            let info = Stack::new(options)
                .up(progress().as_ref())
                .map_err(failed)?;
            instance.settings.bootstrap.clone_from(&info.bootstrap);
            instance.save()?;
            write_private(
                &dir.join(&instance.settings.database_url_file),
                &info.pg_url,
            )?;
            tell(&info);
            Ok(())
        }
        StackCommand::Status => {
            let status = Stack::new(options).status().map_err(failed)?;
            say_line!("Kafka       {:?}", status.kafka);
            say_line!("PostgreSQL  {:?}", status.postgres);
            if let Some(info) = &status.info {
                tell(info);
            }
            if status.ready() {
                Ok(())
            } else {
                Err(Failure::silent(exit::FAILED))
            }
        }
        StackCommand::Down => {
            let was_up = Stack::new(options)
                .down(progress().as_ref())
                .map_err(failed)?;
            say_line!(
                "{}",
                if was_up {
                    say("已停止", "stopped")
                } else {
                    say("本来就没有运行", "was not running")
                }
            );
            Ok(())
        }
        StackCommand::Reset => Stack::new(options)
            .reset(progress().as_ref())
            .map_err(failed),
    }
}

/// A spinner on a terminal, a line a step elsewhere.
fn progress() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        Box::new(Bar::new(lang() == Lang::Zh))
    } else {
        Box::new(Lines)
    }
}

struct Lines;

impl Progress for Lines {
    fn step(&self, step: mz_stack::Step) {
        eprintln!("{}", step.text(lang() == Lang::Zh));
    }
}

fn tell(info: &StackInfo) {
    say_line!("Kafka       {} (mutual TLS)", info.bootstrap);
    say_line!("PostgreSQL  127.0.0.1:{}", info.postgres.port);
}

pub fn keys(dir: &Path, command: Option<&KeysCommand>) -> Outcome {
    let instance = Instance::open(dir)?;
    let keys = KeysDir::new(instance.keys_dir());
    let root = instance.contract_root();
    let failed = |error: mz_keys::KeyError| Failure::chain(exit::FAILED, &error);
    match command {
        None => {
            let departments = instance.departments()?;
            let report = mz_keys::provision(keys.root(), &root, &departments).map_err(failed)?;
            for path in &report.made {
                say_line!("+ {}", path.display());
            }
            for id in &report.listed {
                say_line!("{} {id}", say("已公布公钥", "published"));
            }
            say_line!(
                "{}",
                say(
                    &format!("新建 {} 个,原有 {} 个", report.made.len(), report.kept),
                    &format!("{} made, {} kept", report.made.len(), report.kept)
                )
            );
            Ok(())
        }
        Some(KeysCommand::Rotate { department }) => {
            let id = mz_keys::rotate_seal_key(&keys, &root, department).map_err(failed)?;
            say_line!("{id}");
            Ok(())
        }
        Some(KeysCommand::RotateVault) => rotate_vault(&instance, &keys),
        Some(KeysCommand::Revoke {
            department,
            key,
            last,
            reason,
        }) => {
            let last = last
                .iter()
                .map(|text| position(text))
                .collect::<Result<_, _>>()?;
            mz_keys::revoke(&root, department, key, reason, &last).map_err(failed)
        }
    }
}

/// Each step can be repeated: whoever was interrupted types the command again.
fn rotate_vault(instance: &Instance, keys: &KeysDir) -> Outcome {
    let failed = |error: mz_keys::KeyError| Failure::chain(exit::FAILED, &error);
    let stored = |error: StoreError| coded(exit::FAILED, error.code(), &error);
    let (path, next) = (keys.vault_key(), keys.next_vault_key());
    let open = |path: &Path| wrapper(&format!("file:{}", path.display())).map_err(failed);
    // One that an interrupted run has left may wrap everything already: it goes on with that one.
    SecretKey::generate()
        .and_then(|key| key.save_new(&next))
        .map_err(failed)?;
    let (old, new) = (open(&path)?, open(&next)?);
    let database = Database::new(&instance.database_url()?, SCHEMA).map_err(stored)?;
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let count = runtime
        .block_on(async {
            match rewrap(&database, &*old, &*new).await {
                Err(StoreError::MasterKey { stored, .. }) if stored == new.key_id() => Ok(None),
                done => done.map(Some),
            }
        })
        .map_err(stored)?;
    let former = keys.former_vault_key(old.key_id());
    // A second name for the old key, then the new one in its place at once: never a moment without a key,
    // in which another command would make one of its own.
    match std::fs::hard_link(&path, &former) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(anyhow!(error).context(former.display().to_string()).into());
        }
        _ => {}
    }
    std::fs::rename(&next, &path).with_context(|| path.display().to_string())?;
    match count {
        Some(count) => say_line!(
            "{}",
            say(
                &format!("已用新主密钥重新包裹 {count} 个人员密钥"),
                &format!("{count} people's keys wrapped anew")
            )
        ),
        None => say_line!("{}", say("上次已重新包裹", "wrapped anew before")),
    }
    say_line!(
        "{}",
        say(
            &format!(
                "请重新启动证照库;确认其运行后销毁旧密钥 {}",
                former.display()
            ),
            &format!(
                "Start the vaults again; when they run, destroy the former key {}",
                former.display()
            )
        )
    );
    Ok(())
}

/// `STREAM=EPOCH:BATCH`.
fn position(text: &str) -> anyhow::Result<(String, BatchPosition)> {
    let parse = || {
        let (stream, rest) = text.split_once('=')?;
        let (epoch, batch) = rest.split_once(':')?;
        let position = BatchPosition {
            epoch: epoch.parse().ok()?,
            batch: batch.parse().ok()?,
        };
        Some((stream.to_owned(), position))
    };
    parse().ok_or_else(|| anyhow!("--last {text}: expected STREAM=EPOCH:BATCH"))
}

pub fn synth(dir: &Path, args: &SynthArgs) -> Outcome {
    let mut options = mz_city::Options::new(&args.out, args.persons, args.seed);
    options.dirty_per_mille = args.dirty;
    options.marks = args.marks;
    options.snapshot = args.snapshot;
    if let Some(day) = args.as_of {
        options.as_of = day;
    }
    let expected =
        mz_city::write(&options).map_err(|error| Failure::chain(exit::FAILED, &error))?;
    if args.load {
        let server = Instance::open(dir)?.database_url()?;
        let script = args.out.join("realestate/property.sql");
        let url = mz_city::load_property(&server, mz_city::PROPERTY_DATABASE, &script)
            .map_err(|error| Failure::chain(exit::FAILED, &error))?;
        write_private(&args.out.join("property.url"), &url)?;
    }
    let text = serde_json::to_string_pretty(&expected).context("expected.json")?;
    say_line!("{text}");
    Ok(())
}
