//! A Merkle log on disk in the layout of C2SP tlog-tiles: `checkpoint`, `tile/<level>/<n>`,
//! `tile/entries/<n>`. What was committed is never written again.

mod disk;
mod entry;
mod folder;
mod name;
mod read;
mod write;

pub use disk::{Disk, Folder};
pub(crate) use entry::hex;
pub use entry::{Break, Entry, EntryFault, Opened};
pub use folder::LogFolder;
pub use name::{LogFile, LogName, RangePart};
pub use read::{LogFault, Stored};
pub use write::Log;

/// The log's newest signed checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
