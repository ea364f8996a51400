//! A disk whose power can be cut: what was not synced is there, in part, or not.

use std::collections::BTreeMap;
use std::io;

use mz_ledger::log::Disk;
use rand::Rng;
use rand::rngs::StdRng;

#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub durable: BTreeMap<String, Vec<u8>>,
    /// `None`: removed.
    pending: BTreeMap<String, Option<Vec<u8>>>,
}

impl Memory {
    /// The power goes and comes back.
    pub fn cut(&mut self, random: &mut StdRng) {
        for (path, change) in std::mem::take(&mut self.pending) {
            match (random.random_range(0..4), change) {
                (0, _) => {}
                (1, Some(mut bytes)) => {
                    bytes.truncate(random.random_range(0..=bytes.len()));
                    self.durable.insert(path, bytes);
                }
                (2, Some(mut bytes)) => {
                    // Blocks that never reached the disk read as zeros.
                    let from = random.random_range(0..=bytes.len());
                    bytes[from..].fill(0);
                    self.durable.insert(path, bytes);
                }
                (_, Some(bytes)) => {
                    self.durable.insert(path, bytes);
                }
                (_, None) => {
                    self.durable.remove(&path);
                }
            }
        }
    }
}

impl Disk for Memory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(match self.pending.get(path) {
            Some(change) => change.clone(),
            None => self.durable.get(path).cloned(),
        })
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.pending.insert(path.to_owned(), Some(bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        for (path, change) in std::mem::take(&mut self.pending) {
            match change {
                Some(bytes) => self.durable.insert(path, bytes),
                None => self.durable.remove(&path),
            };
        }
        Ok(())
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.durable.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        let below = format!("{path}/");
        let all: Vec<String> = self
            .durable
            .keys()
            .chain(self.pending.keys())
            .cloned()
            .collect();
        for file in all.into_iter().filter(|file| file.starts_with(&below)) {
            self.pending.insert(file, None);
        }
        Ok(())
    }
}
