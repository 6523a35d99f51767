//! The loop: one thread, one epoll, every event handled to its end before the next.

use super::connection::Connection;
use super::containers::{Container, Exit, Phase, Stdin};
use super::execs::Exec;
use super::lifecycle::ended;
use super::output::Flow;
use super::setup::Ready;
use super::{Doing, SupervisorError};
use crate::protocol::{FdRole, Op, Reply, Request, ServerMessage, VERSION};
use crate::records;
use rustix::event::epoll;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

/// Most connections at once: one agent, and the next one while the old one ends, and a debugger.
const MAX_CONNECTIONS: usize = 16;
/// Bytes read at once from a stream or socket.
const BUFFER: usize = 32 << 10;
/// Buffers read from a stream before others get their turn.
pub(crate) const ROUNDS: usize = 8;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;

/// Connection and request that something is done for.
pub(crate) type Asker = (u64, u64);

/// Whose event it is.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Connection,
    /// A container on its way to its command.
    ContainerLaunch(String),
    /// An exec on its way to its command, by process number.
    ExecLaunch(u32),
    /// A stream of a container.
    Output(String),
}

pub(crate) struct Server {
    pub(crate) ready: Ready,
    pub(crate) epoll: OwnedFd,
    next_token: u64,
    pub(crate) sources: HashMap<u64, Source>,
    connections: BTreeMap<u64, Connection>,
    pub(crate) containers: BTreeMap<String, Container>,
    /// By process number.
    pub(crate) execs: BTreeMap<u32, Exec>,
    /// Set once everything is to end; who waits for it.
    pub(crate) shutdown: Option<Vec<(u64, u64)>>,
    pub(crate) buffer: Vec<u8>,
}

/// Runs until shut down.
pub(crate) fn run(ready: Ready) -> Result<(), SupervisorError> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).doing(|| "make an epoll")?;
    let watch = |fd: &OwnedFd, token| {
        epoll::add(&epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .doing(|| "watch for events")
    };
    watch(&ready.listener, LISTENER)?;
    watch(&ready.signals, SIGNALS)?;
    let containers =
        ready.records.iter().cloned().map(|record| (record.id.clone(), ended(record, true))).collect();
    let mut server = Server {
        ready,
        epoll,
        next_token: SIGNALS + 1,
        sources: HashMap::new(),
        connections: BTreeMap::new(),
        containers,
        execs: BTreeMap::new(),
        shutdown: None,
        buffer: vec![0; BUFFER],
    };
    while !server.finished() {
        server.turn()?;
    }
    server.farewell();
    Ok(())
}

impl Server {
    /// Waits for events and handles them.
    fn turn(&mut self) -> Result<(), SupervisorError> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(16);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait for events"),
        }
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept(),
                SIGNALS => self.signals(),
                token => self.source(token),
            }
        }
        Ok(())
    }

    fn source(&mut self, token: u64) {
        // One that was dropped by an earlier event of the same turn is not there any more.
        match self.sources.get(&token).cloned() {
            Some(Source::Connection) => self.connection(token),
            Some(Source::ContainerLaunch(id)) => self.container_launch(token, &id),
            Some(Source::ExecLaunch(pid)) => self.exec_launch(token, pid),
            Some(Source::Output(id)) => self.output(token, &id),
            None => {}
        }
    }

    /// Registers a descriptor. It leaves the epoll when it is closed.
    pub(crate) fn watch(&mut self, fd: impl AsFd, source: Source) -> Result<u64, Errno> {
        let token = self.next_token;
        self.next_token += 1;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        self.sources.insert(token, source);
        Ok(token)
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.ready.listener, flags) {
            if self.connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            let mut connection = Connection::new(socket);
            if let Ok(token) = self.watch(&connection, Source::Connection) {
                // Whoever hung up already may still have asked for something: reading will tell.
                let _ = connection.send(&ServerMessage::Hello { version: VERSION, pid: std::process::id() });
                self.connections.insert(token, connection);
            }
        }
    }

    fn connection(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let (requests, open) = connection.read(&mut self.buffer);
        let open = open && connection.flush();
        for request in requests {
            self.request(token, request);
        }
        if open {
            self.wait_for_room(token);
        } else {
            self.drop_connection(token);
        }
    }

    /// Asks to be told about room to send in only as long as something waits.
    fn wait_for_room(&mut self, token: u64) {
        let Some(connection) = self.connections.get(&token) else { return };
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, connection.is_waiting());
        // Cannot fail for a descriptor that is registered.
        let _ = epoll::modify(&self.epoll, connection, epoll::EventData::new_u64(token), flags);
    }

    fn drop_connection(&mut self, token: u64) {
        self.connections.remove(&token);
        self.sources.remove(&token);
    }

    pub(crate) fn reply(&mut self, (token, id): Asker, body: Reply, fds: Vec<(FdRole, OwnedFd)>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.reply(id, body, fds) {
            self.wait_for_room(token);
        } else {
            self.drop_connection(token);
        }
    }

    pub(crate) fn broadcast(&mut self, message: &ServerMessage) {
        let tokens: Vec<u64> = self.connections.keys().copied().collect();
        for token in tokens {
            self.tell(token, message);
        }
    }

    pub(crate) fn tell(&mut self, token: u64, message: &ServerMessage) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.send(message) {
            self.wait_for_room(token);
        } else {
            self.drop_connection(token);
        }
    }

    fn request(&mut self, token: u64, request: Request) {
        let asked_by = (token, request.id);
        if request.v != VERSION {
            let refused = format!("this supervisor speaks protocol version {VERSION}, not {}", request.v);
            return self.reply(asked_by, Reply::Refused(refused), Vec::new());
        }
        match request.op {
            Op::Start(spec) => self.start(*spec, asked_by),
            Op::Kill { container, signal } => {
                let body = self.kill(&container, signal);
                self.reply(asked_by, body, Vec::new());
            }
            Op::List => {
                self.retry_records();
                let states = self.containers.values().map(Container::state).collect();
                self.reply(asked_by, Reply::Containers(states), Vec::new());
            }
            Op::Exec { container, exec } => self.exec(&container, &exec, asked_by),
            Op::Attach { container } => match self.attach(&container) {
                Ok(fds) => self.reply(asked_by, Reply::Attached, fds),
                Err(body) => self.reply(asked_by, body, Vec::new()),
            },
            Op::ReopenLog { container } => {
                let body = self.reopen_log(&container);
                self.reply(asked_by, body, Vec::new());
            }
            Op::Remove { container } => {
                let body = self.remove(&container);
                self.reply(asked_by, body, Vec::new());
            }
            Op::Shutdown => self.shut_down(Some(asked_by)),
        }
    }

    pub(crate) fn output(&mut self, token: u64, id: &str) {
        let Some(alive) = self.containers.get_mut(id).and_then(Container::alive) else {
            self.sources.remove(&token);
            return;
        };
        let Some(position) = alive.outputs.iter().position(|(known, _)| *known == token) else { return };
        if alive.outputs[position].1.copy(&mut alive.log, &mut self.buffer, ROUNDS) == Flow::Ended {
            alive.outputs.remove(position);
            self.sources.remove(&token);
        }
    }

    fn signals(&mut self) {
        // What each says: a signalfd_siginfo of 128 bytes that begins with the number.
        let mut buffer = [0u8; 128 * 8];
        while let Ok(count) = rustix::io::read(&self.ready.signals, &mut buffer) {
            for info in buffer[..count].chunks_exact(128) {
                let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                if number == libc::SIGTERM {
                    self.shut_down(None);
                }
            }
        }
        self.reap();
    }

    /// Takes every ended child: containers, execs, and orphans that came to this process as subreaper.
    fn reap(&mut self) {
        let any = rustix::process::WaitOptions::NOHANG;
        while let Ok(Some((pid, status))) = rustix::process::wait(any) {
            let exit =
                Exit { status: status.exit_status().unwrap_or(0), signal: status.terminating_signal() };
            let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
            if let Some(exec) = self.execs.remove(&pid) {
                self.exec_ended(exec, exit);
                continue;
            }
            let container = self.containers.values().find(|container| container.pid() == Some(pid));
            if let Some(id) = container.map(|container| container.id.clone()) {
                self.container_ended(&id, exit);
            }
        }
    }

    fn kill(&mut self, id: &str, signal: i32) -> Reply {
        let Some(container) = self.containers.get_mut(id) else { return Reply::NotFound(id.into()) };
        let Some(alive) = container.alive() else { return Reply::Done };
        match carrack_runtime::send_signal(&alive.launching.pidfd, signal) {
            Ok(()) => Reply::Done,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Reply::Done,
            Err(error) => Reply::Refused(format!("cannot send signal {signal} to container {id}: {error}")),
        }
    }

    fn attach(&mut self, id: &str) -> Result<Vec<(FdRole, OwnedFd)>, Reply> {
        let container = self.containers.get_mut(id).ok_or_else(|| Reply::NotFound(id.into()))?;
        let Phase::Running(alive) = &mut container.phase else {
            return Err(Reply::Refused(format!("container {id} is not running")));
        };
        let failed = |error: &dyn std::fmt::Display| {
            Reply::Refused(format!("cannot attach to container {id}: {error}"))
        };
        let mut fds = Vec::new();
        for (_, output) in &mut alive.outputs {
            let role = if output.is_stdout() { FdRole::Stdout } else { FdRole::Stderr };
            fds.push((role, output.attach().map_err(|errno| failed(&errno))?));
        }
        if let Some(master) = &alive.tty {
            for role in [FdRole::Stdin, FdRole::Tty] {
                fds.push((role, master.try_clone().map_err(|error| failed(&error))?));
            }
        }
        let stdin = match &mut alive.stdin {
            Stdin::None => None,
            Stdin::Kept(fd) => Some(fd.try_clone().map_err(|error| failed(&error))?),
            Stdin::Once(fd) => fd.take(),
        };
        fds.extend(stdin.map(|fd| (FdRole::Stdin, fd)));
        Ok(fds)
    }

    fn reopen_log(&mut self, id: &str) -> Reply {
        let Some(container) = self.containers.get_mut(id) else { return Reply::NotFound(id.into()) };
        let Some(alive) = container.alive() else { return Reply::Done };
        match alive.log.reopen() {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Refused(format!("cannot reopen the log of container {id}: {error}")),
        }
    }

    fn remove(&mut self, id: &str) -> Reply {
        match self.containers.get(id).map(|container| &container.phase) {
            None => Reply::Done,
            Some(Phase::Starting(_) | Phase::Running(_)) => {
                Reply::Refused(format!("container {id} is running"))
            }
            Some(Phase::Exited { .. }) => match records::remove(&self.ready.layout.exits(), id) {
                Ok(()) => {
                    self.containers.remove(id);
                    Reply::Done
                }
                Err(error) => Reply::Refused(format!("cannot remove the record of container {id}: {error}")),
            },
        }
    }

    /// Kills everything; the loop ends when nothing is left.
    fn shut_down(&mut self, asked_by: Option<(u64, u64)>) {
        self.shutdown.get_or_insert_default().extend(asked_by);
        for container in self.containers.values_mut() {
            if let Some(alive) = container.alive() {
                // One that has just ended is reaped in a moment.
                let _ = carrack_runtime::send_signal(&alive.launching.pidfd, libc::SIGKILL);
                alive.kill_group();
            }
        }
        for exec in self.execs.values() {
            let _ = carrack_runtime::send_signal(&exec.launching.pidfd, libc::SIGKILL);
        }
    }

    fn finished(&self) -> bool {
        self.shutdown.is_some()
            && self.execs.is_empty()
            && self.containers.values().all(|container| container.pid().is_none())
    }

    /// The socket goes before the answer, so that who got it can start anew here.
    fn farewell(&mut self) {
        for path in [self.ready.layout.socket(), self.ready.layout.pid()] {
            let _ = std::fs::remove_file(path);
        }
        // Released here rather than at exit for the same reason.
        let _ = rustix::fs::flock(&self.ready.lock, rustix::fs::FlockOperation::Unlock);
        for asked_by in self.shutdown.take().unwrap_or_default() {
            self.reply(asked_by, Reply::Done, Vec::new());
        }
    }
}
