//! One test's installation: made with the real commands, on the shared stack, under its own prefix.

use crate::database;
use crate::service::{Exit, Service};
use mz_bus::{Admin, BusError, BusOptions, TlsFiles};
use mz_contract::{Contract, Mode};
use mz_keys::KeysDir;
use mz_stack::testing;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

/// Longest that a command which is no service may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// Gateway and vault slots of a test's installation.
pub const SLOTS: u32 = 2;

/// The checkout.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// The binary under test: `MIANZHENG_BIN`, else built from the present sources in the profile of
/// the tests.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("MIANZHENG_BIN").filter(|path| !path.is_empty()) {
            return path.into();
        }
        let release = std::env::current_exe()
            .is_ok_and(|path| path.components().any(|part| part.as_os_str() == "release"));
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build
            .args(["build", "--quiet", "--package", "mianzheng"])
            .current_dir(repository());
        if release {
            build.arg("--release");
        }
        match build.status() {
            Ok(status) if status.success() => {}
            other => panic!("cannot build mianzheng: {other:?}"),
        }
        let profile = if release { "release" } else { "debug" };
        target().join(profile).join("mianzheng")
    })
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// An installation in a directory of its own.
#[derive(Debug)]
pub struct Installation {
    dir: PathBuf,
    prefix: String,
    database_url: String,
    keep: bool,
}

impl Installation {
    /// Makes one: contract copy, keys (copied from the stack, whose CA the broker trusts),
    /// approvals of all departments, topics, ACLs and database schemas.
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    /// The same, with changes to contract copy and keys before the contract is signed.
    pub fn with(name: &str, change: impl FnOnce(&Self)) -> Self {
        let stack = testing::shared();
        let prefix = testing::prefix();
        let dir = target()
            .join("e2e")
            .join(format!("{name}-{}", prefix.trim_end_matches('.')));
        let it = Self {
            database_url: stack.database(),
            prefix,
            dir,
            keep: std::env::var_os("MIANZHENG_KEEP").is_some(),
        };
        if let Err(error) = std::fs::create_dir_all(it.dir.join("logs")) {
            panic!("{}: {error}", it.dir.display());
        }
        let contract = repository().join("schemas");
        it.run(&[
            "init",
            "--contract",
            &contract.display().to_string(),
            "--prefix",
            &it.prefix,
            "--slots",
            &SLOTS.to_string(),
            "--bootstrap",
            stack.bootstrap(),
        ]);
        copy_tree(&stack.info().keys, it.keys().root());
        write_private(&it.dir.join("database.url"), &it.database_url);
        change(&it);
        it.run(&["keys"]);
        it.sign();
        it.run(&["apply", "--yes"]);
        it
    }

    /// Signs the approvals of every department again (after a change of the contract copy).
    pub fn sign(&self) {
        for department in self.departments() {
            self.run(&["contract", "sign", "--department", &department]);
        }
    }

    /// Leaves its directory behind, for somebody to look at.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its connectors find the registers (`${EXPORTS}` of the shipped configurations).
    pub fn exports(&self) -> PathBuf {
        self.dir.join("city")
    }

    /// What stands before its topics.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// URL of its database.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Its copy of the contract.
    pub fn contract_root(&self) -> PathBuf {
        self.dir.join("contract")
    }

    /// Its keys.
    pub fn keys(&self) -> KeysDir {
        KeysDir::new(self.dir.join("keys"))
    }

    /// The contract as the services load it.
    pub fn contract(&self) -> Contract {
        match Contract::load(&self.contract_root(), Mode::Signed) {
            Ok(contract) => contract,
            Err(faults) => panic!("{faults:?}"),
        }
    }

    /// How a principal of this installation talks to Kafka. `bus.admin` sees everything.
    pub fn bus(&self, principal: &str) -> BusOptions {
        BusOptions {
            bootstrap: testing::shared().bootstrap().to_owned(),
            prefix: self.prefix.clone(),
            tls: Some(TlsFiles::of(self.keys().root(), principal)),
            client_id: principal.to_owned(),
        }
    }

    /// Ids of the departments, from the contract copy.
    pub fn departments(&self) -> Vec<String> {
        let folder = self.contract_root().join("departments");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let stem = name.strip_suffix(".yaml")?;
                (!stem.ends_with(".keys")).then(|| stem.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    /// Whether the installation's HTTP services are known to listen at an address in
    /// `instance.yaml` under this name (`vault`, `console`).
    pub fn address(&self, service: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join("instance.yaml")).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("{service}:")));
        match line {
            Some(address) => address.trim().trim_matches(['"', '\'']).to_owned(),
            None => panic!("no address of {service} in instance.yaml"),
        }
    }

    /// A command of this installation, not started; in English unless `args` name a language.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        if !args.contains(&"--dir") {
            command.arg("--dir").arg(&self.dir);
        }
        if !args.contains(&"--lang") {
            command.args(["--lang", "en"]);
        }
        command
            .args(args)
            .current_dir(repository())
            .env_remove("MIANZHENG_DIR")
            .env("EXPORTS", self.exports())
            .env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs a command to its end; panics with its words unless it succeeds.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.run_with(args, None, &[0])
    }

    /// The same, with a text on standard input and other acceptable exit codes.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], input: Option<&str>, codes: &[i32]) -> String {
        let output = self.output(args, input);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let code = output.status.code().unwrap_or(-1);
        assert!(
            codes.contains(&code),
            "mianzheng {} ended with {:?}:\n{text}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// Runs a command to its end, however it ends.
    #[track_caller]
    pub fn output(&self, args: &[&str], input: Option<&str>) -> Output {
        use std::io::Write as _;
        use std::process::Stdio;
        let mut command = self.command(args);
        command
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot run {}: {error}", binary().display()),
        };
        if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
            // A command that refuses before it reads has closed the pipe: its words tell more.
            let _ = pipe.write_all(text.as_bytes());
        }
        let (send, receive) = std::sync::mpsc::channel();
        let id = child.id();
        std::thread::spawn(move || send.send(child.wait_with_output()));
        match receive.recv_timeout(COMMAND_LIMIT) {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => panic!("mianzheng {}: {error}", args.join(" ")),
            Err(_) => panic!(
                "mianzheng {} (process {id}) did not end within {COMMAND_LIMIT:?}",
                args.join(" ")
            ),
        }
    }

    /// Starts a service; its words go to `<dir>/logs/<name>.log`.
    #[track_caller]
    pub fn start(&self, name: &str, args: &[&str]) -> Service {
        let log = self.dir.join("logs").join(format!("{name}.log"));
        match Service::start(name, self.command(args), &log) {
            Ok(service) => service,
            Err(error) => panic!("cannot start {name}: {error}"),
        }
    }

    /// Starts a command and waits for its end, with one of these exit codes.
    #[track_caller]
    pub fn finish(&self, name: &str, args: &[&str], limit: Duration, codes: &[i32]) {
        let mut service = self.start(name, args);
        let exit = service.wait(limit);
        let good = codes.iter().any(|code| exit == Exit::Code(*code));
        assert!(good, "{name} ended with {exit:?}:\n{}", service.tail());
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // A failed test's files and topics are what somebody will want to look at.
        if std::thread::panicking() || self.keep {
            return;
        }
        // The stack is shared and long-lived: what is left behind slows down every later start.
        // Failing to tidy up is no failed test.
        if let Err(error) = self.forget_topics() {
            eprintln!("topics of {} stay: {error}", self.prefix);
        }
        database::drop_all(
            &testing::shared().info().pg_url,
            self.prefix.trim_end_matches('.'),
            &self.database_url,
        );
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Installation {
    fn forget_topics(&self) -> Result<(), BusError> {
        let mut admin = Admin::connect(&self.bus("bus.admin"))?;
        let topics = admin.topics(|name| name.starts_with(&self.prefix))?;
        admin.delete_topics(&topics.into_keys().collect::<Vec<_>>())?;
        let mut acls = admin.acls()?;
        acls.retain(|acl| acl.name.starts_with(&self.prefix));
        admin.delete_acls(&acls)
    }
}

fn copy_tree(from: &Path, to: &Path) {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let copied = || -> std::io::Result<()> {
        let mut pending = vec![(from.to_owned(), to.to_owned())];
        while let Some((from, to)) = pending.pop() {
            if !to.is_dir() {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&to)?;
            }
            for entry in std::fs::read_dir(&from)? {
                let entry = entry?;
                let target = to.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    pending.push((entry.path(), target));
                } else {
                    std::fs::copy(entry.path(), &target)?;
                    let mode = entry.metadata()?.permissions().mode();
                    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))?;
                }
            }
        }
        Ok(())
    };
    if let Err(error) = copied() {
        panic!("{}: {error}", from.display());
    }
}

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = std::fs::remove_file(path);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        panic!("{}: {error}", path.display());
    }
}
