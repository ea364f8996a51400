//! End-to-end tests. One binary: they share one Kafka and one PostgreSQL, each under its own prefix.

#![cfg(test)]

mod golden;
mod install;
mod one_flow;
mod p13_household;
mod p14_arrears;
mod p3_denied;
mod p6_absence;
mod p6_auditor;
mod p6_network;
mod p7_revoked;
mod receipt;
mod settlement;
mod slots;
mod subscriber;
