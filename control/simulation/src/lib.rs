//! A whole cluster of the store in one process, under seeded time, network and disks; and the checkers that judge what
//! its clients saw.
//!
//! [`run::run`] is the way in: a seed decides everything ([`plan`]), one thread runs it with tokio's time paused
//! ([`world`]), and the same seed gives the same trace. Nothing in it asks the system for time or randomness: the store
//! takes both from its options, and every `select!` in it is biased.

pub mod book;
pub mod check;
pub mod client;
pub mod disk;
pub mod history;
pub mod holder;
pub mod nemesis;
pub mod network;
pub mod observer;
pub mod plan;
pub mod prove;
pub mod run;
pub mod trace;
pub mod watchdog;
pub mod world;
