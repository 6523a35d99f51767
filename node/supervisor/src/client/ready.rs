//! Descriptors in tokio's reactor.
#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor to be waited for: a pidfd, an eventfd, a terminal's master side, the watch of out-of-memory events.
/// It must be in non-blocking mode if it is to be read or written. Call it inside a tokio runtime.
pub fn async_fd(fd: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives, always has the same number, and is moved in here.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(|error| error.into_parts().1)
}
