//! One binary for all tests of the city: linking costs more than running.

#![cfg(test)]

mod load;
mod registers;
