//! One connection to a supervisor: a task that writes requests, a task that reads what comes and hands it to who waits.

use crate::client::SandboxError;
use crate::protocol::{self, FdRole, MAX_FDS, Op, Reply, Request, ServerMessage, VERSION};
use crate::types::Event;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::{HashMap, VecDeque};
use std::io::{Error, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait to be written.
const MAX_WAITING: usize = 64;
/// Events a receiver may fall behind; then it is closed, and must list again.
const MAX_EVENTS: usize = 1024;

/// A reply and the descriptors that came with it.
pub(super) type Answer = (Reply, Vec<(FdRole, OwnedFd)>);

/// The sending side; reading goes on in a task until the supervisor closes or all of these are dropped.
#[derive(Debug)]
pub(super) struct Connection {
    frames: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
    /// Ends the reading task.
    reader: tokio::task::JoinHandle<()>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    closed: bool,
    replies: HashMap<u64, oneshot::Sender<Answer>>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    events: Vec<mpsc::Sender<Event>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is read first: who is at the other end.
pub(super) struct Greeting {
    pub(super) pid: u32,
}

impl Connection {
    /// Greets and starts the tasks.
    pub(super) async fn new(stream: UnixStream) -> Result<(Self, Greeting), SandboxError> {
        let mut incoming = Incoming::default();
        let (read, write) = stream.into_split();
        let (message, _) = incoming.next(read.as_ref()).await.map_err(SandboxError::Connection)?;
        let ServerMessage::Hello { version, pid } = message else {
            return Err(SandboxError::Connection(Error::new(ErrorKind::InvalidData, "no greeting")));
        };
        if version != VERSION {
            return Err(SandboxError::Version { found: version, wanted: VERSION });
        }
        let shared = Arc::new(Shared::default());
        let (frames, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(write_frames(write, waiting));
        let listening = shared.clone();
        let reader = tokio::spawn(async move {
            while let Ok((message, fds)) = incoming.next(read.as_ref()).await {
                listening.deliver(message, fds);
            }
            listening.close();
        });
        Ok((Self { frames, shared, reader }, Greeting { pid }))
    }

    /// Whether the other end is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Sends a request and waits for the reply.
    pub(super) async fn call(&self, op: Op) -> Result<Answer, SandboxError> {
        self.call_with(op, None).await
    }

    /// As [`Self::call`]; `exit` gets the exit code of the process that this request starts.
    pub(super) async fn call_with(
        &self,
        op: Op,
        exit: Option<oneshot::Sender<i32>>,
    ) -> Result<Answer, SandboxError> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(lost());
            }
            state.next_id += 1;
            let id = state.next_id;
            state.replies.insert(id, sender);
            if let Some(exit) = exit {
                state.execs.insert(id, exit);
            }
            id
        };
        let request = Request { v: VERSION, id, op };
        let frame = protocol::encode(&request).map_err(|error| {
            let mut state = self.shared.lock();
            state.replies.remove(&id);
            state.execs.remove(&id);
            SandboxError::Refused(error.to_string())
        })?;
        self.frames.send(frame).await.map_err(|_| lost())?;
        receiver.await.map_err(|_| lost())
    }

    /// Events from now on; closed when the connection is, or when it is not read for long.
    pub(super) fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let mut state = self.shared.lock();
        if !state.closed {
            state.events.push(sender);
        }
        receiver
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn lost() -> SandboxError {
    SandboxError::Connection(ErrorKind::BrokenPipe.into())
}

/// Frames are written whole whoever gave up waiting meanwhile.
async fn write_frames(mut stream: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        // The reading task notices a broken connection and tells.
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn deliver(&self, message: ServerMessage, fds: Vec<OwnedFd>) {
        let mut state = self.lock();
        match message {
            ServerMessage::Hello { .. } => {}
            ServerMessage::Reply { id, fds: roles, body } => {
                if !matches!(body, Reply::Exec { .. }) {
                    state.execs.remove(&id);
                }
                if let Some(sender) = state.replies.remove(&id) {
                    // Nobody waits any more: the descriptors are closed, which the process notices.
                    let _ = sender.send((body, roles.into_iter().zip(fds).collect()));
                }
            }
            ServerMessage::Event(event) => {
                state.events.retain(|sender| sender.try_send(event.clone()).is_ok())
            }
            ServerMessage::ExecExited { id, exit_code } => {
                if let Some(sender) = state.execs.remove(&id) {
                    let _ = sender.send(exit_code);
                }
            }
        }
    }

    /// Everybody who waits hears that there is nothing to wait for, by the end of their channel.
    fn close(&self) {
        let mut state = self.lock();
        let next_id = state.next_id;
        *state = State { closed: true, next_id, ..State::default() };
    }
}

/// Bytes and descriptors that came and are not yet a message.
#[derive(Default)]
struct Incoming {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    /// The next message. Fails at the end of the stream.
    async fn next(&mut self, stream: &UnixStream) -> std::io::Result<(ServerMessage, Vec<OwnedFd>)> {
        loop {
            if let Some(frame) = protocol::take_frame(&mut self.bytes)? {
                let message: ServerMessage = serde_json::from_slice(&frame)?;
                let count = match &message {
                    ServerMessage::Reply { fds, .. } => fds.len().min(self.fds.len()),
                    _ => 0,
                };
                return Ok((message, self.fds.drain(..count).collect()));
            }
            stream.async_io(Interest::READABLE, || self.receive(stream)).await?;
        }
    }

    /// The kernel never merges bytes across descriptors, so these arrive in the order of their frames.
    fn receive(&mut self, stream: &UnixStream) -> std::io::Result<()> {
        let mut buffer = [0u8; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(stream, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if received.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend_from_slice(&buffer[..received.bytes]);
        Ok(())
    }
}
