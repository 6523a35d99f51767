//! One connection of an agent: frames in, frames and descriptors out, without ever blocking.

use crate::protocol::{self, FdRole, MAX_FDS, Reply, Request, ServerMessage};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that wait for a slow agent before it is cut off. It connects again and asks for the state of things.
const MAX_WAITING: usize = 8 << 20;

/// A connection. Its socket is in non-blocking mode.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    received: Vec<u8>,
    waiting: VecDeque<Frame>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    /// Closed here once they are sent.
    fds: Vec<OwnedFd>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, received: Vec::new(), waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// Reads what is there: complete requests, and whether the connection goes on. One that is at its end, or speaks
    /// nonsense, is to be dropped once its requests are handled.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> (Vec<Request>, bool) {
        let mut open = self.fill(buffer);
        let mut requests = Vec::new();
        while let Some(frame) = protocol::take_frame(&mut self.received).transpose() {
            match frame.and_then(|frame| Ok(serde_json::from_slice(&frame)?)) {
                Ok(request) => requests.push(request),
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        if self.received.is_empty() {
            self.received = Vec::new();
        }
        (requests, open)
    }

    /// `false` at the end of the stream.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        // More than one whole frame is left in the socket until that one is handled.
        while self.received.len() <= protocol::MAX_FRAME + 4 {
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return false,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Queues a reply and sends what can be sent. `false`: the connection is to be dropped.
    pub(crate) fn reply(&mut self, id: u64, body: Reply, fds: Vec<(FdRole, OwnedFd)>) -> bool {
        let (roles, fds) = fds.into_iter().unzip();
        self.send_with(&ServerMessage::Reply { id, fds: roles, body }, fds)
    }

    /// As [`Self::reply`], for a message without descriptors.
    pub(crate) fn send(&mut self, message: &ServerMessage) -> bool {
        self.send_with(message, Vec::new())
    }

    fn send_with(&mut self, message: &ServerMessage, fds: Vec<OwnedFd>) -> bool {
        let Ok(bytes) = protocol::encode(message) else { return false };
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(Frame { bytes, sent: 0, fds });
        self.waiting_bytes <= MAX_WAITING && self.flush()
    }

    /// Sends what can be sent without waiting. `false`: the connection is to be dropped.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(frame) = self.waiting.front_mut() {
            match send_some(&self.socket, frame) {
                Ok(count) => {
                    frame.sent += count;
                    self.waiting_bytes -= count;
                    frame.fds.clear();
                    if frame.sent == frame.bytes.len() {
                        self.waiting.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

fn send_some(socket: &OwnedFd, frame: &Frame) -> Result<usize, Errno> {
    let fds: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::TOOBIG);
    }
    let bytes = [IoSlice::new(&frame.bytes[frame.sent..])];
    sendmsg(socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
