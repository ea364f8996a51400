//! The gateway against a real broker: what reaches whom, what is refused, and what survives.

mod attacks;
mod backfill;
mod cases;
mod ownership;
mod settlement;
mod world;
