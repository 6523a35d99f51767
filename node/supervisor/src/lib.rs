//! The process that outlives the agent: one per pod, it starts, reaps and logs containers.
//!
//! [`main`] is that process. The agent commands it through [`Sandbox`] (feature `client`), which it gets by [`start`],
//! or by [`adopt`] when it was itself restarted. Ends of containers are on disk, synced, before anybody is told.

#[cfg(feature = "client")]
mod client;
mod daemon;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod heap;
mod protocol;
mod records;
mod types;

#[cfg(feature = "client")]
pub use client::{Attach, Exec, Sandbox, SandboxError, StartError, adopt, async_fd, exit_records, start};
pub use daemon::main;
pub use heap::Heap;
pub use types::{
    ContainerSpec, ContainerState, ContainerStatus, Event, ExecSpec, ExitRecord, LogLimits, SandboxConfig,
    StartFailure, Started,
};
