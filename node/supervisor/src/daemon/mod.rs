//! The supervisor process: set up, then one loop over everything that can happen.

mod clock;
mod connection;
mod containers;
mod execs;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod lifecycle;
mod logs;
mod output;
mod rotation;
mod server;
mod setup;

use rustix::io::Errno;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Entry point of `carrack supervisor <dir>`. `args` is what follows the word `supervisor`. Call it before any
/// thread is started: a supervisor must be single-threaded, and small.
///
/// It reads `<dir>/config.json`, writes `ready` to its stdout when it answers on `<dir>/socket`, and ends when told to,
/// by request or by SIGTERM. Errors before that go to stderr.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let [dir] = args else {
        eprintln!("usage: carrack supervisor <pod run directory>");
        return ExitCode::from(2);
    };
    match setup::set_up(dir.as_ref()).and_then(server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Why a supervisor ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    #[error("{dir}: another supervisor runs here")]
    AlreadyRuns { dir: String },
    #[error("cannot {action}: {source}")]
    Io { action: String, source: std::io::Error },
    #[error("{0}")]
    Sandbox(#[from] carrack_runtime::LaunchError),
}

/// Names what was tried.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T, SupervisorError>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T, SupervisorError> {
        self.map_err(|error| SupervisorError::Io { action: action().into(), source: error.into() })
    }
}

pub(crate) fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    rustix::io::ioctl_fionbio(fd, true)
}
