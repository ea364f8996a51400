//! The integration tests of this crate, in one program: it links once.

mod approvals;
mod evidence;
mod keys;
mod wrap;
