//! The adapter's loop: read committed deliveries, check, write; positions live in the database
//! and nowhere else, so after any loss the loop starts over from what the database says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mz_bus::BusOptions;
use mz_contract::Contract;
use mz_seal::Signer;

use crate::config::Config;
use crate::error::Error;
use crate::limits::{RETRY_FIRST, RETRY_LONGEST};
use crate::session::Session;
use crate::store::{Database, Store};
use crate::summary::Summary;
use crate::target::{Target, targets};

/// Everything that an adapter needs.
#[derive(Clone)]
pub struct Options {
    /// As the principal [`Config::principal`].
    pub bus: BusOptions,
    pub contract: Arc<Contract>,
    pub config: Config,
    pub database: Database,
    /// The department's receipt key. Without one, receipts stay unsent in `mz_receipts`.
    pub receipt_signer: Option<Arc<dyn Signer>>,
    /// End once everything that is in the topics has been read.
    pub once: bool,
}

impl Options {
    /// `fallback_url`: the installation's own database, for a configuration that names none.
    pub fn new(
        bus: BusOptions,
        contract: Arc<Contract>,
        config: Config,
        fallback_url: Option<&str>,
    ) -> Result<Self, Error> {
        let url = config.database_url()?;
        let url = url
            .as_deref()
            .or(fallback_url)
            .ok_or_else(|| Error::DatabaseUrl {
                place: "database".into(),
                detail: "neither url_file nor url_env is given".into(),
            })?;
        let default = format!("{}_{}", config.consumer, config.purpose).replace('-', "_");
        let schema = config.database.schema.clone().unwrap_or(default);
        let database = Database::new(url, &schema)?;
        Ok(Self {
            bus,
            contract,
            config,
            database,
            receipt_signer: None,
            once: false,
        })
    }
}

/// Looks at a running adapter.
#[derive(Clone, Default)]
pub struct Handle(Arc<Mutex<Summary>>);

impl Handle {
    /// What it did so far.
    pub fn summary(&self) -> Summary {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets latencies, not counters: for measuring from now on.
    pub fn forget_latencies(&self) {
        self.with(|summary| {
            summary.delivery_to_table = crate::summary::Histogram::default();
            summary.event_to_table = crate::summary::Histogram::default();
        });
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Summary) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A configured adapter.
pub struct Service {
    pub(crate) options: Options,
    pub(crate) targets: Vec<Target>,
    pub(crate) topics: Vec<String>,
    pub(crate) handle: Handle,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// Runs an adapter until `stop` is set, or until idle with [`Options::once`].
pub fn run(options: Options, stop: &AtomicBool) -> Result<Summary, Error> {
    Service::new(options)?.run(stop)
}

impl Service {
    /// Checks the configuration against the contract; touches neither Kafka nor database.
    pub fn new(options: Options) -> Result<Self, Error> {
        let targets = targets(&options.contract, &options.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let topics = targets.iter().map(|target| target.topic.clone()).collect();
        Ok(Self {
            options,
            targets,
            topics,
            handle: Handle::default(),
            runtime,
        })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The topics and tables.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub fn run(self, stop: &AtomicBool) -> Result<Summary, Error> {
        let on_withdrawal = self.options.config.on_withdrawal;
        let Some(()) = self.persist(stop, || {
            self.runtime
                .block_on(self.options.database.prepare(&self.targets))
        })?
        else {
            return Ok(self.handle.summary());
        };
        let taken = self.persist(stop, || {
            self.runtime.block_on(Store::take(
                &self.options.database,
                &self.targets,
                on_withdrawal,
            ))
        })?;
        let Some(store) = taken else {
            return Ok(self.handle.summary());
        };
        let mut session = Session::new(&self, store);
        match session.run(stop) {
            Ok(()) => Ok(self.handle.summary()),
            Err(error) => Err(error),
        }
    }

    /// Tries until it works, `stop` is set (`None`), or it can't work.
    pub(crate) fn persist<T>(
        &self,
        stop: &AtomicBool,
        mut call: impl FnMut() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut pause = RETRY_FIRST;
        loop {
            match call() {
                Ok(done) => return Ok(Some(done)),
                Err(error) if error.is_passing() => {
                    tracing::warn!(error = %mz_bus::chain(&error), retry_ms = pause.as_millis() as u64, "database not available");
                    if !wait(stop, pause) {
                        return Ok(None);
                    }
                    pause = (pause * 2).min(RETRY_LONGEST);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sleeps unless asked to stop; false when asked.
fn wait(stop: &AtomicBool, pause: Duration) -> bool {
    let end = Instant::now() + pause;
    while Instant::now() < end {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20).min(pause));
    }
    !stop.load(Ordering::Relaxed)
}
