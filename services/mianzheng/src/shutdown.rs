//! A clean stop: the first SIGINT or SIGTERM asks, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::exit;

/// How often a waiting thread looks.
const POLL: std::time::Duration = std::time::Duration::from_millis(100);

/// Set once a stop was asked for.
pub type Flag = Arc<AtomicBool>;

/// Watches the signals on a thread of its own.
pub fn flag() -> std::io::Result<Flag> {
    let flag = Flag::default();
    let watched = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async move {
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if watched.swap(true, Ordering::SeqCst) {
                        std::process::exit(i32::from(exit::FAILED));
                    }
                }
            });
        })?;
    Ok(flag)
}

/// Blocks until a stop was asked for.
pub fn wait(flag: &Flag) {
    while !flag.load(Ordering::SeqCst) {
        std::thread::sleep(POLL);
    }
}
