//! A whole cluster of the store in one process, under seeded time, network and disks; and the checkers that judge what
//! its clients saw.

pub mod check;
pub mod history;
