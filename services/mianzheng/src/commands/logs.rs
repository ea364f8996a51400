//! Where commands read the logs of a ledger: a folder, or the bureau's console over the network.

use std::io;
use std::path::Path;

use mz_console::{ClientError, HttpSource};
use mz_ledger::witness::{LogFolder, Source};

use crate::exit;
use crate::instance::Instance;
use crate::outcome::{Failure, coded};

/// A URL, else a folder, else the installation's own.
pub fn open(
    instance: &Instance,
    folder: Option<&Path>,
    (url, principal): (Option<&str>, &str),
) -> Result<Box<dyn Source>, Failure> {
    let Some(url) = url else {
        let folder = folder.map_or_else(|| instance.ledger_folder(), Path::to_path_buf);
        return Ok(Box::new(LogFolder::new(folder)));
    };
    let tls = instance.tls(principal)?;
    let source = HttpSource::new(url, &tls).map_err(|error| {
        let code = match error {
            ClientError::Url => exit::USAGE,
            _ => exit::FAILED,
        };
        coded(code, error.code(), &error)
    })?;
    Ok(Box::new(source))
}

/// Why a source can't be read: the network's reason, if it has one.
pub fn reason(error: &io::Error) -> &str {
    let client = error.get_ref().and_then(|inner| inner.downcast_ref());
    client.map_or("LEDGER_DISK", ClientError::code)
}

/// The logs can't be listed.
pub fn unlisted(error: &io::Error) -> Failure {
    coded(exit::FAILED, reason(error), error)
}
