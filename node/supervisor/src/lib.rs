//! The process that outlives the agent: one per pod, it starts, reaps and logs containers.

#[cfg(feature = "client")]
mod client;
mod types;

#[cfg(feature = "client")]
pub use client::{Attach, Exec, Sandbox, SandboxError, StartError, adopt, exit_records, start};
pub use types::{
    ContainerSpec, ContainerState, ContainerStatus, Event, ExecSpec, ExitRecord, SandboxConfig, StartFailure,
    Started,
};

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry point of `carrack supervisor <dir>`. `args` is what follows the word `supervisor`. Call it before any
/// thread is started: a supervisor must be single-threaded, and small.
#[must_use]
pub fn main(_args: &[OsString]) -> ExitCode {
    ExitCode::FAILURE
}
