//! A running consent service: one thread that publishes, three that follow the bus, one that looks after
//! data life, one that shuts out owners. Whatever fails and may pass is tried again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mz_bus::{TxProducer, tuning};
use mz_contract::{Contract, Mode};
use mz_journal::topics::SlotKind;
use tokio::runtime::Runtime;

use crate::acts::contracts;
use crate::error::ConsentError;
use crate::handle::Handle;
use crate::limits::{RETRY_MAX, RETRY_MIN};
use crate::options::Options;
use crate::publish::Publisher;
use crate::shared::{InForceNow, Shared};
use crate::store::{Database, Store};
use crate::{fence, holders, life, watch};

/// Threads for database calls and answers: they wait, they don't compute.
const RUNTIME_THREADS: usize = 2;
/// Longest time between two looks at whether to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// A consent service that has been started. Dropping it stops it.
pub struct Service {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    failure: Arc<Mutex<Option<ConsentError>>>,
    runtime: Option<Runtime>,
}

/// Runs until `stop`, or until the service must end.
pub fn run(options: Options, stop: &AtomicBool) -> Result<(), ConsentError> {
    let service = Service::start(options)?;
    while !stop.load(Ordering::Acquire) && !service.has_failed() {
        std::thread::sleep(STOP_POLL);
    }
    service.stop()
}

impl Service {
    /// Brings the schema up to date, takes over from whoever ran before, and starts all threads. The
    /// contract of the options becomes the first version when none was ever put in force.
    pub fn start(options: Options) -> Result<Self, ConsentError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("mz-consent-db")
            .enable_all()
            .build()
            .map_err(ConsentError::Threads)?;
        runtime.block_on(options.database.migrate())?;
        let producer = take_over(&options)?;
        let (store, in_force) = runtime.block_on(load(&options.database, &options))?;
        let (fences, asked) = channel();
        let shared = Arc::new(Shared::new(
            options.bus,
            options.keys,
            store,
            options.slots,
            options.fence_after,
            in_force,
            runtime.handle().clone(),
            fences,
        ));
        if shared.in_force().version == 0 {
            runtime.block_on(contracts::first(&shared))?;
        }
        let mut service = Self {
            shared,
            stop: Arc::default(),
            threads: Vec::new(),
            failure: Arc::default(),
            runtime: Some(runtime),
        };
        service.spawn("mz-consent-send", publisher(producer))?;
        service.spawn("mz-consent-show", watch::show)?;
        service.spawn("mz-consent-keep", watch::keep)?;
        service.spawn("mz-consent-audit", |shared, stop| {
            holders::follow(shared, stop)
        })?;
        service.spawn("mz-consent-life", life::run)?;
        service.spawn("mz-consent-fence", fences_of(asked))?;
        Ok(service)
    }

    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Something happened that this process must end for.
    pub fn has_failed(&self) -> bool {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Ends all threads: what was committed stays and is sent by whoever starts next.
    pub fn stop(mut self) -> Result<(), ConsentError> {
        self.wind_up();
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(Ok(()), Err)
    }

    fn wind_up(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.shared.wake.ring();
        for thread in self.threads.drain(..) {
            // A panic has been reported by the hook; there is nothing to add.
            let _ = thread.join();
        }
        if let Some(runtime) = self.runtime.take() {
            // Not dropped: that would block inside somebody else's runtime.
            runtime.shutdown_background();
        }
    }

    /// Runs `work` again and again until it ends in good order or in a way that can't be mended.
    fn spawn(
        &mut self,
        name: &str,
        mut work: impl FnMut(&Arc<Shared>, &AtomicBool) -> Result<(), ConsentError> + Send + 'static,
    ) -> Result<(), ConsentError> {
        let (shared, stop) = (Arc::clone(&self.shared), Arc::clone(&self.stop));
        let failure = Arc::clone(&self.failure);
        let label = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut pause = RETRY_MIN;
                while !stop.load(Ordering::Acquire) {
                    let started = Instant::now();
                    let Err(error) = work(&shared, &stop) else {
                        continue;
                    };
                    if error.is_permanent() {
                        tracing::error!(
                            thread = label,
                            code = error.code(),
                            error = mz_bus::chain(&error),
                            "consent service stops"
                        );
                        failure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(error);
                        stop.store(true, Ordering::Release);
                        return;
                    }
                    tracing::warn!(
                        thread = label,
                        code = error.code(),
                        error = mz_bus::chain(&error),
                        "trying again"
                    );
                    if started.elapsed() > RETRY_MAX {
                        pause = RETRY_MIN;
                    }
                    let until = Instant::now() + pause;
                    while !stop.load(Ordering::Acquire) && Instant::now() < until {
                        std::thread::sleep(STOP_POLL.min(pause));
                    }
                    pause = (pause * 2).min(RETRY_MAX);
                }
            })
            .map_err(ConsentError::Threads)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.wind_up();
    }
}

/// Ends and shuts out a predecessor's half in Kafka. Before the database's half: once that is taken,
/// nothing of the predecessor can follow.
fn take_over(options: &Options) -> Result<TxProducer, ConsentError> {
    let id = SlotKind::Consent.transactional_id(0);
    let mut producer = TxProducer::open(&options.bus, &id, tuning::TRANSACTION_TIMEOUT)?;
    producer.init()?;
    Ok(producer)
}

/// Becomes the owner in PostgreSQL and loads the contract in force.
async fn load(database: &Database, options: &Options) -> Result<(Store, InForceNow), ConsentError> {
    let store = Store::take_over(database, &options.instance).await?;
    let given = InForceNow {
        version: 0,
        contract: Arc::clone(&options.contract),
        files: Arc::new(options.files.clone()),
    };
    let versions = store.versions().await?;
    let Some(newest) = versions.first() else {
        return Ok((store, given));
    };
    if newest.digest == options.contract.digest {
        let version = newest.version;
        return Ok((store, InForceNow { version, ..given }));
    }
    let files = store.contract_files(&newest.digest).await?;
    let contract = Contract::from_files(files.clone(), Mode::Signed).map_err(|faults| {
        for fault in faults.iter().take(10) {
            tracing::error!(fault = ?fault, "the contract in force has a fault");
        }
        ConsentError::Contract
    })?;
    if contract.digest != newest.digest || contract.lanes != options.contract.lanes {
        return Err(ConsentError::Contract);
    }
    let in_force = InForceNow {
        version: newest.version,
        contract: Arc::new(contract),
        files: Arc::new(files),
    };
    Ok((store, in_force))
}

/// The first run uses the producer of the take-over; after a failure a new one takes the id again.
fn publisher(
    producer: TxProducer,
) -> impl FnMut(&Arc<Shared>, &AtomicBool) -> Result<(), ConsentError> + Send {
    let mut first = Some(producer);
    move |shared, stop| {
        let producer = match first.take() {
            Some(producer) => producer,
            None => {
                let id = SlotKind::Consent.transactional_id(0);
                let mut producer = TxProducer::open(&shared.bus, &id, tuning::TRANSACTION_TIMEOUT)?;
                // Whoever owns the database's half is the owner: an instance that lost it must not
                // take the id back.
                shared
                    .runtime
                    .block_on(async { shared.store.step().await?.commit().await })?;
                producer.init()?;
                producer
            }
        };
        Publisher::new(Arc::clone(shared), producer)?.run(stop)
    }
}

fn fences_of(
    asked: Receiver<(SlotKind, u32)>,
) -> impl FnMut(&Arc<Shared>, &AtomicBool) -> Result<(), ConsentError> + Send {
    move |shared, stop| fence::serve(shared, &asked, stop)
}
