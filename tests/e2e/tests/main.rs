//! End-to-end tests. One binary: they share one Kafka and one PostgreSQL, each under its own prefix.

#![cfg(test)]

mod golden;
mod install;
mod settlement;
mod slots;
mod subscriber;
