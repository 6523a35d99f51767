//! The checkers. All of them are pure: they get a history and say what is wrong with it.

#[cfg(test)]
mod exhaustive;
pub mod leases;
pub mod linear;
pub mod log;
pub mod watches;
