//! The index against a real PostgreSQL, and against simple models of what it should say.

mod append;
mod check;
mod department;
mod hidden;
mod hides;
mod person;
mod retention;
mod rights;
mod speed;
mod world;
