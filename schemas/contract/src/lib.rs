//! Loads, lints and compiles the contract (departments, catalogue, agreements, items) into one immutable value with a digest.
