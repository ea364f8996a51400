//! Seal, redact and verify one event. No I/O, no clock.
