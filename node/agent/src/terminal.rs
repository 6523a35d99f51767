//! The master side of a pseudo terminal as asynchronous streams.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

/// The master side of a terminal, in non-blocking mode; clones are the same one.
#[derive(Clone)]
pub(crate) struct Terminal {
    master: Arc<OwnedFd>,
}

impl Terminal {
    /// Takes a master.
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self { master: Arc::new(master) }
    }

    /// Tells the terminal its size, in characters.
    pub(crate) fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// What the terminal shows.
    pub(crate) fn reader(&self) -> io::Result<Output> {
        // A terminal is polled, read and written like a pipe.
        Ok(Output(pipe::Receiver::from_file_unchecked(File::from(self.master.try_clone()?))?))
    }

    /// What is typed. Closing it leaves the terminal open: it has no end of input of its own.
    pub(crate) fn writer(&self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_file_unchecked(File::from(self.master.try_clone()?))
    }
}

/// What a terminal shows, until its last user is gone.
pub(crate) struct Output(pipe::Receiver);

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            // The other side is closed: for a terminal that is the end, not an error.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}
