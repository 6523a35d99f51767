//! One output stream of a container: read, logged, and copied to whoever is attached.

use super::logs::{Lines, LogFile};
use super::{clock, set_nonblocking};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Size of the pipe to an attached reader: how far it may fall behind.
const ATTACHED_PIPE: usize = 1 << 20;
/// Most readers attached to one stream.
const MAX_ATTACHED: usize = 16;

/// The reading end of a container's stdout or stderr, or the master side of its terminal.
#[derive(Debug)]
pub(crate) struct Output {
    source: OwnedFd,
    lines: Lines,
    attached: Vec<OwnedFd>,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing more now.
    Idle,
    /// The stream is at its end.
    Ended,
}

impl Output {
    /// `source` must be in non-blocking mode.
    pub(crate) fn new(source: OwnedFd, stream: &'static str) -> Self {
        Self { source, lines: Lines::new(stream), attached: Vec::new() }
    }

    /// Copies what is there, at most `rounds` times the buffer, so that one loud container leaves time for the others.
    pub(crate) fn copy(&mut self, log: &mut LogFile, buffer: &mut [u8], rounds: usize) -> Flow {
        let mut out = Vec::new();
        for _ in 0..rounds {
            match rustix::io::read(&self.source, &mut *buffer) {
                // EIO is how a terminal says that its other side is closed.
                Ok(0) | Err(Errno::IO) => {
                    self.lines.finish(clock::now(), &mut out);
                    self.flush(log, &mut out);
                    self.attached.clear();
                    return Flow::Ended;
                }
                Ok(count) => {
                    let bytes = &buffer[..count];
                    self.lines.feed(bytes, clock::now(), &mut out);
                    self.flush(log, &mut out);
                    // A reader that is gone or full is dropped: its stream ends, the container goes on.
                    self.attached.retain(|reader| rustix::io::write(reader, bytes) == Ok(bytes.len()));
                    if count < buffer.len() {
                        return Flow::Idle;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return Flow::Idle,
            }
        }
        Flow::Idle
    }

    /// Whether something is there to read.
    pub(crate) fn has_more(&self) -> bool {
        rustix::io::ioctl_fionread(&self.source).is_ok_and(|count| count > 0)
    }

    /// Whether this is stdout (or a terminal) and not stderr.
    pub(crate) fn is_stdout(&self) -> bool {
        self.lines.stream() == "stdout"
    }

    fn flush(&self, log: &mut LogFile, out: &mut Vec<u8>) {
        if !out.is_empty() {
            log.write(out);
            out.clear();
        }
    }

    /// A pipe that gets a copy of everything from now on. The reading end is non-blocking.
    pub(crate) fn attach(&mut self) -> Result<OwnedFd, Errno> {
        if self.attached.len() >= MAX_ATTACHED {
            return Err(Errno::MFILE);
        }
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // A smaller pipe than wished for (the limit per user is reached) works as well, only less patiently.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, ATTACHED_PIPE);
        set_nonblocking(&reader)?;
        set_nonblocking(&writer)?;
        self.attached.push(writer);
        Ok(reader)
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}
