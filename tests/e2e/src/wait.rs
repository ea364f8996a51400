//! Waiting for a condition. There is no sleep for a guessed time anywhere in the tests.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Polls until the condition gives a value; `None` when the limit has passed.
pub fn maybe<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Polls until the condition gives a value; panics with `what` when the limit has passed.
#[track_caller]
pub fn value<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match maybe(limit, condition) {
        Some(value) => value,
        None => panic!("waited {limit:?} for: {what}"),
    }
}

/// Polls until `look` gives what is wanted; panics with the last look otherwise.
#[track_caller]
pub fn until<T: Debug>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> T,
    mut good: impl FnMut(&T) -> bool,
) -> T {
    let mut last = None;
    let found = maybe(limit, || {
        let now = look();
        if good(&now) {
            return Some(now);
        }
        last = Some(now);
        None
    });
    match found {
        Some(value) => value,
        None => panic!("waited {limit:?} for: {what}; last seen: {last:?}"),
    }
}

/// The value; panics with `what` and the error otherwise.
#[track_caller]
pub fn good<T, E: Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}
