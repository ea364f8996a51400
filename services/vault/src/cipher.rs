//! How a fact's bytes rest in the database. Plain for now; encryption per subject (so that
//! destroying one key erases one person) takes this seam without touching the store.

use mz_journal::SubjectTag;

/// What a stored body belongs to: bound into the ciphertext, so that a row moved to another
/// person or record can't be opened there.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub subject: SubjectTag,
    pub dataset: u32,
    pub record: &'a [u8; 16],
}

#[derive(Debug, thiserror::Error)]
pub enum CipherError {
    #[error("cipher {0} is not known here")]
    Unknown(i16),
    #[error("the stored bytes are not what was sealed for this person and record")]
    Mismatch,
    /// The subject's key was destroyed: erased for good.
    #[error("the key of this person was destroyed")]
    Erased,
}

pub trait Cipher: Send + Sync {
    /// Written beside each row, so that a change of cipher needs no rewrite of what is stored.
    fn id(&self) -> i16;
    /// Turns `plain` into what is stored.
    fn close(&self, binding: Binding<'_>, plain: &[u8]) -> Result<Vec<u8>, CipherError>;
    /// The inverse of [`Cipher::close`], for a row that says it was closed under `id`.
    fn open(&self, id: i16, binding: Binding<'_>, stored: Vec<u8>) -> Result<Vec<u8>, CipherError>;
}

/// Stores bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Cipher for Plain {
    fn id(&self) -> i16 {
        0
    }

    fn close(&self, _: Binding<'_>, plain: &[u8]) -> Result<Vec<u8>, CipherError> {
        Ok(plain.to_vec())
    }

    fn open(&self, id: i16, _: Binding<'_>, stored: Vec<u8>) -> Result<Vec<u8>, CipherError> {
        if id == self.id() {
            Ok(stored)
        } else {
            Err(CipherError::Unknown(id))
        }
    }
}
