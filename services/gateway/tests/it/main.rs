//! The gateway against a real broker: what reaches whom, what is refused, and what survives.

mod settlement;
mod world;
