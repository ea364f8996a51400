//! Where the witnesses of these tests read the logs from: the folder itself. The console's tests run the same
//! scenarios over the network.

use std::path::Path;

use mz_ledger::witness::{LogFolder, Source};
use mz_vault::testing::TestBus;

pub fn of(_: &TestBus, logs: &Path) -> Box<dyn Source> {
    Box::new(LogFolder::new(logs))
}
