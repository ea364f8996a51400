//! One installation on disk: where its contract, keys, Kafka and PostgreSQL are.
//!
//! `<dir>/instance.yaml` is written by `mianzheng init` and completed by
//! `mianzheng stack up`; every other command reads it. Paths in it are relative
//! to the directory, so that an instance can be moved.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mz_bus::{BusOptions, TlsFiles};
use mz_contract::{Contract, Mode};
use serde::{Deserialize, Serialize};

/// Largest `instance.yaml` that is read, bytes.
const MAX_INSTANCE_BYTES: u64 = 64 * 1024;

const FILE: &str = "instance.yaml";

/// The settings in `instance.yaml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Kafka bootstrap servers, `host:port[,host:port]`. Empty until a stack or a cluster is named.
    #[serde(default)]
    pub bootstrap: String,
    /// Put before every topic, group and transactional id. Empty in production.
    #[serde(default)]
    pub prefix: String,
    /// Contract root, relative to the instance directory.
    pub contract: PathBuf,
    /// Keys directory, relative to the instance directory.
    pub keys: PathBuf,
    /// File that holds the PostgreSQL URL (mode 0600), relative to the instance directory.
    pub database_url_file: PathBuf,
    /// Number of gateway and vault slots; lanes are dealt to them in turn.
    pub slots: u32,
    /// Copies of each topic partition; 1 on the local stack, 3 in production.
    pub replication: u16,
    /// Copies that must have a record before it counts as written; 2 in production.
    #[serde(default)]
    pub min_insync: Option<u16>,
    /// Where the HTTP services listen.
    pub http: Http,
    /// The audit ledger.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ledger: Ledger,
}

/// How the audit ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Folder of the logs, relative to the instance directory.
    #[serde(default = "ledger_folder")]
    pub folder: PathBuf,
    /// Logs that are written side by side. Chosen once: another number deals the lanes anew.
    #[serde(default = "one")]
    pub shards: u16,
    /// When a log is closed and the next one opened.
    #[serde(default)]
    pub period: LedgerPeriod,
    /// How often what was logged is closed for proofs of absence.
    #[serde(default)]
    pub close: LedgerClose,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerClose {
    #[default]
    Day,
    Hour,
    /// By the command only.
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerPeriod {
    #[default]
    Year,
    Month,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            folder: ledger_folder(),
            shards: 1,
            period: LedgerPeriod::Year,
            close: LedgerClose::Day,
        }
    }
}

fn ledger_folder() -> PathBuf {
    "ledger".into()
}

const fn one() -> u16 {
    1
}

fn is_default(ledger: &Ledger) -> bool {
    *ledger == Ledger::default()
}

/// Listen addresses of the HTTP services.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Evidence bundles and who-read.
    pub vault: SocketAddr,
    /// Schema endpoint.
    pub console: SocketAddr,
    /// Consents, cases, agreements, withdrawals. Installations made before there was such a service
    /// have none: it is chosen by the next `init`, `stack up` or start of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<SocketAddr>,
}

/// An instance directory and its settings.
#[derive(Debug, Clone)]
pub struct Instance {
    pub dir: PathBuf,
    pub settings: Settings,
}

impl Instance {
    /// Makes a new instance: copies the contract, chooses free HTTP ports, writes `instance.yaml`.
    ///
    /// Running it again keeps what is there.
    pub fn init(dir: &Path, contract: &Path, prefix: &str, slots: u32) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("{}: cannot create", dir.display()))?;
        if dir.join(FILE).exists() {
            let mut instance = Self::open(dir)?;
            instance.choose_consent_address()?;
            return Ok(instance);
        }
        if !contract.join("installation.yaml").is_file() {
            bail!(
                "{}: not a contract (no installation.yaml); name one with --contract",
                contract.display()
            );
        }
        copy_contract(contract, &dir.join("contract"))?;
        let [vault, console, consent] = free_ports()?;
        let instance = Self {
            dir: dir.to_path_buf(),
            settings: Settings {
                bootstrap: String::new(),
                prefix: prefix.to_owned(),
                contract: "contract".into(),
                keys: "keys".into(),
                database_url_file: "database.url".into(),
                slots,
                replication: 1,
                min_insync: None,
                http: Http {
                    vault,
                    console,
                    consent: Some(consent),
                },
                ledger: Ledger::default(),
            },
        };
        instance.save()?;
        Ok(instance)
    }

    /// Opens an existing instance.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let size = fs::metadata(&path)
            .with_context(|| {
                format!(
                    "{}: no instance here; run `mianzheng init --dir {}` first",
                    path.display(),
                    dir.display()
                )
            })?
            .len();
        if size > MAX_INSTANCE_BYTES {
            bail!(
                "{}: {size} bytes, at most {MAX_INSTANCE_BYTES}",
                path.display()
            );
        }
        let text = fs::read_to_string(&path)?;
        let settings = serde_saphyr::from_str(&text)
            .map_err(|fault| anyhow::anyhow!("{}: {fault}", path.display()))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            settings,
        })
    }

    /// Writes `instance.yaml` whole or not at all.
    pub fn save(&self) -> Result<()> {
        let text = serde_saphyr::to_string(&self.settings)?;
        let path = self.dir.join(FILE);
        let fresh = self.dir.join(".instance.yaml.new");
        fs::write(&fresh, text).with_context(|| format!("{}: cannot write", fresh.display()))?;
        fs::rename(&fresh, &path).with_context(|| format!("{}: cannot write", path.display()))
    }

    /// Where the consent service listens.
    pub fn consent_address(&self) -> Result<SocketAddr> {
        self.settings.http.consent.with_context(|| {
            format!(
                "{}: no address of the consent service; start it once, or set http.consent",
                self.dir.join(FILE).display()
            )
        })
    }

    /// The same; a free port of this machine when none was chosen yet, written to `instance.yaml`.
    pub fn choose_consent_address(&mut self) -> Result<SocketAddr> {
        if let Some(address) = self.settings.http.consent {
            return Ok(address);
        }
        let [address] = free_ports()?;
        self.settings.http.consent = Some(address);
        self.save()?;
        Ok(address)
    }

    /// Replaces the contract's copy by these files (path below its root → text); what is not among
    /// them goes.
    pub fn replace_contract(&self, files: &BTreeMap<String, String>) -> Result<()> {
        let root = self.contract_root();
        let Ok(before) = Contract::files(&root) else {
            bail!("{}: cannot read what is there", root.display());
        };
        for (name, text) in files {
            if before.get(name) == Some(text) {
                continue;
            }
            let path = root.join(name);
            let fresh = path.with_extension("new");
            let folder = path.parent().unwrap_or(&root);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&fresh, text))
                .and_then(|()| fs::rename(&fresh, &path))
                .with_context(|| format!("{}: cannot write", path.display()))?;
        }
        for name in before.keys().filter(|name| !files.contains_key(*name)) {
            let path = root.join(name);
            fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
        }
        Ok(())
    }

    pub fn contract_root(&self) -> PathBuf {
        self.dir.join(&self.settings.contract)
    }

    /// Where the audit ledger's logs lie.
    pub fn ledger_folder(&self) -> PathBuf {
        self.dir.join(&self.settings.ledger.folder)
    }

    pub fn keys_dir(&self) -> PathBuf {
        self.dir.join(&self.settings.keys)
    }

    /// Loads the contract; faults become one error that lists them all.
    pub fn contract(&self, mode: Mode) -> Result<Contract, Vec<mz_contract::Fault>> {
        Contract::load(&self.contract_root(), mode)
    }

    /// Names of the departments in the contract copy; needs no valid contract.
    pub fn departments(&self) -> Result<Vec<String>> {
        let folder = self.contract_root().join("departments");
        let mut names = Vec::new();
        for entry in
            fs::read_dir(&folder).with_context(|| format!("{}: cannot read", folder.display()))?
        {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(department) = name.strip_suffix(".yaml")
                && !department.ends_with(".keys")
            {
                names.push(department.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The PostgreSQL URL; it carries a password, so it lives in a file of its own.
    pub fn database_url(&self) -> Result<String> {
        let path = self.dir.join(&self.settings.database_url_file);
        let url = fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: cannot read the database URL; run `mianzheng stack up` or write one",
                path.display()
            )
        })?;
        Ok(url.trim().to_owned())
    }

    /// How one principal talks to Kafka.
    pub fn bus(&self, principal: &str) -> Result<BusOptions> {
        if self.settings.bootstrap.is_empty() {
            bail!(
                "{}: no Kafka named; run `mianzheng stack up` or set bootstrap",
                self.dir.join(FILE).display()
            );
        }
        Ok(BusOptions {
            bootstrap: self.settings.bootstrap.clone(),
            prefix: self.settings.prefix.clone(),
            tls: Some(self.tls(principal)?),
            client_id: principal.to_owned(),
        })
    }

    /// Certificate files of a principal.
    pub fn tls(&self, principal: &str) -> Result<TlsFiles> {
        let files = TlsFiles::of(&self.keys_dir(), principal);
        if !files.cert.is_file() {
            bail!(
                "{}: no certificate for {principal}; run `mianzheng keys`",
                files.cert.display()
            );
        }
        Ok(files)
    }
}

/// Copies a contract tree, files only, following no links.
fn copy_contract(from: &Path, to: &Path) -> Result<()> {
    const PARTS: [&str; 7] = [
        "departments",
        "catalogue",
        "agreements",
        "items",
        "calendars",
        "bus",
        ".",
    ];
    for part in PARTS {
        let source = from.join(part);
        if source.is_dir() {
            copy_tree(&source, &to.join(part), part != ".")?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path, deep: bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}: cannot read", from.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() && deep {
            copy_tree(&entry.path(), &target, true)?;
        } else if kind.is_file() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".yaml") || name.ends_with(".avsc") {
                fs::copy(entry.path(), &target)
                    .with_context(|| format!("{}: cannot copy", entry.path().display()))?;
            }
        }
    }
    Ok(())
}

/// Free loopback ports, held together so that they differ.
fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut ports = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (slot, listener) in ports.iter_mut().zip(&held) {
        *slot = listener.local_addr()?;
    }
    Ok(ports)
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(|| format!("{}: cannot write", fresh.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path).with_context(|| format!("{}: cannot write", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
    }

    #[test]
    fn an_older_installation_gets_an_address_for_consent_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = Instance::init(dir.path(), &schemas(), "", 2).unwrap();
        let chosen = made.consent_address().unwrap();
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let older: String = text
            .lines()
            .filter(|line| !line.contains(&chosen.to_string()))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(&path, older).unwrap();
        let mut before = Instance::open(dir.path()).unwrap();
        assert!(before.consent_address().is_err());
        let now = before.choose_consent_address().unwrap();
        let again = Instance::init(dir.path(), &schemas(), "", 2).unwrap();
        assert_eq!(again.consent_address().unwrap(), now);
    }

    #[test]
    fn the_contracts_copy_follows_what_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let made = Instance::init(dir.path(), &schemas(), "", 2).unwrap();
        let mut files = Contract::files(&made.contract_root()).unwrap();
        let gone = files.keys().next().unwrap().clone();
        files.remove(&gone);
        files.insert("agreements/new/one.yaml".to_owned(), "a: 1\n".to_owned());
        made.replace_contract(&files).unwrap();
        assert_eq!(Contract::files(&made.contract_root()).unwrap(), files);
        assert!(!made.contract_root().join(gone).exists());
    }
}
