//! The line between a process being made and its maker: failures of a step, and a terminal's master side.
//!
//! A sequenced-packet socket pair, closed on exec: end of file means that the program runs.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest message in bytes; longer texts are cut.
const MAX_MESSAGE: usize = 4096;

/// Why a process could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct LaunchError {
    /// What class of failure it is.
    pub kind: LaunchErrorKind,
    /// One sentence for the user: what was tried, on what, and why it failed.
    pub message: String,
    /// The system's error number, if there is one.
    pub errno: Option<i32>,
}

/// Classes of failure that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchErrorKind {
    /// There is no such command.
    CommandNotFound,
    /// The command is there and cannot be executed.
    NotExecutable,
    /// The spec asks for something that is not built or makes no sense.
    InvalidSpec,
    /// The container to enter has ended.
    ContainerGone,
    /// Any other step failed.
    Step,
}

impl LaunchError {
    pub(crate) fn new(kind: LaunchErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errno: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(LaunchErrorKind::InvalidSpec, message)
    }

    /// A failed system call: "cannot {step}: {reason}".
    pub(crate) fn step(step: impl std::fmt::Display, errno: Errno) -> Self {
        let reason = describe(errno);
        Self {
            kind: LaunchErrorKind::Step,
            message: format!("cannot {step}: {reason}"),
            errno: Some(errno.raw_os_error()),
        }
    }

    /// The shell's exit code for it: 127 not found, 126 not executable, 128 everything else.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            LaunchErrorKind::CommandNotFound => 127,
            LaunchErrorKind::NotExecutable => 126,
            _ => 128,
        }
    }
}

/// The system's words for an error number, in lower case and without the number, as Unix tools print them.
pub(crate) fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Puts the name of a step to a system call's error.
pub(crate) trait Step<T> {
    /// The step's name is only made when it failed.
    fn step<D: std::fmt::Display>(self, name: impl FnOnce() -> D) -> Result<T, LaunchError>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step<D: std::fmt::Display>(self, name: impl FnOnce() -> D) -> Result<T, LaunchError> {
        self.map_err(|errno| LaunchError::step(name(), errno))
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step<D: std::fmt::Display>(self, name: impl FnOnce() -> D) -> Result<T, LaunchError> {
        self.map_err(|error| LaunchError::step(name(), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }
}

/// What the new process tells its maker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// The terminal's master side comes along.
    Console,
    /// A step failed; nothing follows.
    Failed(LaunchError),
}

/// What the maker learns next.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The terminal's master side.
    Console(OwnedFd),
    /// A step failed.
    Failed(LaunchError),
    /// The program runs (or the process was killed: its end will tell).
    Running,
    /// Nothing yet.
    Nothing,
}

/// The end that the new process holds.
pub(crate) struct Reporter(OwnedFd);

/// The maker's end, non-blocking.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// A connected pair.
pub(crate) fn channel() -> Result<(Reporter, Listener), Errno> {
    let (reporter, listener) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&listener, true)?;
    Ok((Reporter(reporter), Listener(listener)))
}

impl Reporter {
    pub(crate) fn console(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        self.send(&Message::Console, &[master])
    }

    pub(crate) fn failed(&self, mut error: LaunchError) -> Result<(), Errno> {
        // Room for quotes and escapes: JSON at most doubles the usual text, and six-folds control characters.
        if error.message.len() > MAX_MESSAGE / 8 {
            let cut = error.message.floor_char_boundary(MAX_MESSAGE / 8);
            error.message.truncate(cut);
        }
        self.send(&Message::Failed(error), &[])
    }

    fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Whether nobody listens any more.
    pub(crate) fn abandoned(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::OUT)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok()
            && fds[0].revents().intersects(rustix::event::PollFlags::HUP | rustix::event::PollFlags::ERR)
    }
}

impl Listener {
    /// Takes the next message, if there is one.
    pub(crate) fn hear(&self) -> Result<Heard, Errno> {
        let mut bytes = [0u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Heard::Nothing),
            Err(Errno::CONNRESET) => return Ok(Heard::Running),
            Err(errno) => return Err(errno),
        };
        if received.bytes == 0 {
            return Ok(Heard::Running);
        }
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (serde_json::from_slice(&bytes[..received.bytes]), fd) {
            (Ok(Message::Console), Some(fd)) => Ok(Heard::Console(fd)),
            (Ok(Message::Failed(error)), _) => Ok(Heard::Failed(error)),
            _ => Err(Errno::BADMSG),
        }
    }
}

impl AsFd for Reporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
