//! The scheduler: gives each pod the node that suits it best.
//!
//! The decision ([`decide::decide`]) is pure and works on a table of columns ([`table::Table`]) that is kept up to date as
//! nodes and pods change. [`core::Core`] holds the table and the queues and turns news into tasks, also without I/O; a thin
//! driver reads the watches, binds and reports.

pub mod bind;
pub mod bits;
pub mod core;
pub mod decide;
pub mod diagnosis;
mod driver;
pub mod framework;
pub mod plugins;
pub mod pod;
pub mod queue;
mod run;
pub mod table;
pub mod view;

pub use carrack_client::Timings;
pub use run::{Election, Error, Options, run};
