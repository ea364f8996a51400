//! Ready sinks: verifies deliveries and writes them into the consumer's own database exactly once.
