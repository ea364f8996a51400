//! Benchmarks: our figure, the baseline and the ratio from the same run.
