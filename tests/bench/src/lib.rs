//! Benchmarks: our figure, the baseline and the ratio from the same run.

pub mod gateway;
