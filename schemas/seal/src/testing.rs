//! Altered events and golden vectors, for the tests of other crates.
