//! Requests to the kernel about links, addresses, routes and neighbours, several in one go.
//!
//! A netlink socket stays in the network namespace it was made in, whichever thread uses it. The kernel has answered by the
//! time `send` returns, so nothing here waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};

/// Large enough for any answer to a request: the kernel sends dumps in parts of at most 32 KiB.
const BUFFER: usize = 64 * 1024;

/// One request.
pub(crate) struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// Make something that must not be there yet.
    pub(crate) fn create(message: RouteNetlinkMessage) -> Self {
        Request { message, flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL }
    }

    /// Make something, or give what is there the new properties.
    pub(crate) fn replace(message: RouteNetlinkMessage) -> Self {
        Request { message, flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE }
    }

    /// Change, remove or look at what is there.
    pub(crate) fn plain(message: RouteNetlinkMessage) -> Self {
        Request { message, flags: NLM_F_REQUEST | NLM_F_ACK }
    }

    /// Look at something whose answer goes to those who listen in the first place, and to the asker only on demand.
    pub(crate) fn echo(message: RouteNetlinkMessage) -> Self {
        Request { message, flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO }
    }
}

/// What came of one request: the messages it was answered with, or the kernel's error.
pub(crate) type Answer = io::Result<Vec<RouteNetlinkMessage>>;

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens a socket in this thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        // No protocol is protocol 0, NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Opens a socket in another network namespace. A thread goes there and ends; no thread of ours changes places.
    pub(crate) fn open_in(netns: impl AsFd + Sync) -> io::Result<Self> {
        in_netns(netns, Self::open)?
    }

    /// Sends all requests in one go and gives their answers in order. The kernel carries on after a failed one.
    pub(crate) fn batch(&mut self, requests: Vec<Request>) -> io::Result<Vec<Answer>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut answers: Vec<Answer> = Vec::with_capacity(requests.len());
        for request in requests {
            self.encode(request, &mut bytes);
            answers.push(Ok(Vec::new()));
        }
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut open = answers.len();
        while open > 0 {
            self.receive(|header, payload| {
                let index = header.sequence_number.wrapping_sub(first) as usize;
                let Some(answer) = answers.get_mut(index) else { return };
                match payload {
                    NetlinkPayload::InnerMessage(message) => {
                        if let Ok(messages) = answer {
                            messages.push(message);
                        }
                    }
                    NetlinkPayload::Error(error) => {
                        if error.code.is_some() {
                            *answer = Err(error.to_io());
                        }
                        open -= 1;
                    }
                    _ => {}
                }
            })?;
        }
        Ok(answers)
    }

    /// Sends one request.
    pub(crate) fn one(&mut self, request: Request) -> Answer {
        let mut answers = self.batch(vec![request])?;
        answers.pop().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Everything of a kind.
    pub(crate) fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut bytes = Vec::new();
        self.encode(Request { message, flags: NLM_F_REQUEST | NLM_F_DUMP }, &mut bytes);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let (mut found, mut failed, mut done) = (Vec::new(), None, false);
        let sequence = self.sequence;
        while !done {
            self.receive(|header, payload| {
                if header.sequence_number != sequence {
                    return;
                }
                match payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Done(_) => done = true,
                    NetlinkPayload::Error(error) => {
                        failed = Some(error.to_io());
                        done = true;
                    }
                    _ => {}
                }
            })?;
        }
        failed.map_or(Ok(found), Err)
    }

    fn encode(&mut self, request: Request, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = request.flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.message));
        message.finalize();
        let start = bytes.len();
        bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
        if let Some(room) = bytes.get_mut(start..) {
            message.serialize(room);
        }
    }

    fn receive(
        &self,
        mut each: impl FnMut(&NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>),
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let (length, _) = rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).max(16).next_multiple_of(4);
            let (header, payload) = message.into_parts();
            each(&header, payload);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Runs `work` on a thread of its own inside a network namespace.
pub(crate) fn in_netns<T: Send>(netns: impl AsFd + Sync, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = || -> io::Result<T> {
        nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// Opens a network namespace by path.
pub(crate) fn open_netns(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
