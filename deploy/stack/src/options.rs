//! What a stack may be told, and where its files live.

use std::path::{Path, PathBuf};

/// Departments whose keys a stack makes when the caller names none.
pub const DEPARTMENTS: [&str; 5] = ["civil", "hrss", "police", "realestate", "union"];

/// Which stack, and what may be turned.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The stack's directory; everything but the downloads lives below it.
    pub dir: PathBuf,
    /// Shared between stacks. `None`: `MIANZHENG_CACHE`, else the platform's cache directory.
    pub cache: Option<PathBuf>,
    /// Contract copy that receives the public keys. `None`: `<dir>/contract`.
    pub contract: Option<PathBuf>,
    /// Departments to make keys for.
    pub departments: Vec<String>,
    /// Whether PostgreSQL waits for the disk. Off is faster and loses data when the machine (not
    /// the process) dies.
    pub fsync: bool,
    /// Kafka's heap, as the JVM takes it.
    pub kafka_heap: String,
    /// May install Java and Maven with apt when running as root.
    pub install_missing: bool,
}

impl StackOptions {
    /// A stack in `dir`, with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache: None,
            contract: None,
            departments: DEPARTMENTS.map(str::to_owned).to_vec(),
            fsync: true,
            kafka_heap: "1g".to_owned(),
            install_missing: true,
        }
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    pub(crate) fn contract(&self) -> PathBuf {
        self.contract
            .clone()
            .unwrap_or_else(|| self.dir.join("contract"))
    }

    pub(crate) fn kafka(&self) -> PathBuf {
        self.dir.join("kafka")
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.dir.join("stack.json")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir.join("stack.lock")
    }

    /// The download cache. Under root it must be somewhere that the database's user can enter,
    /// which root's home is not.
    pub(crate) fn cache(&self, root: bool) -> PathBuf {
        let from_env = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        self.cache
            .clone()
            .or_else(|| from_env("MIANZHENG_CACHE"))
            .or_else(|| root.then(|| Path::new("/var/cache/mianzheng").to_owned()))
            .or_else(|| from_env("XDG_CACHE_HOME").map(|base| base.join("mianzheng")))
            .or_else(|| from_env("HOME").map(|home| home.join(".cache/mianzheng")))
            .unwrap_or_else(|| self.dir.join("cache"))
    }
}
