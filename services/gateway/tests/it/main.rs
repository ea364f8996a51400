//! The gateway against a real broker: what reaches whom, what is refused, and what survives.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on must fail where it stands"
)]

mod actors;
mod attacks;
mod backfill;
mod cases;
mod facts;
mod in_force;
mod orders;
mod ownership;
mod property;
mod replay;
mod settlement;
mod world;
