//! The loop: one thread, one epoll, every event handled to its end before the next.

use super::connection::Connection;
use super::containers::{self, Alive, Born, Container, Exit, Phase, Stdin, from_launch};
use super::execs::{self, Exec};
use super::output::{Flow, Output};
use super::setup::Ready;
use super::{Doing, SupervisorError, clock, set_nonblocking};
use crate::protocol::{FdRole, Op, Reply, Request, ServerMessage, VERSION};
use crate::records;
use crate::types::{ContainerSpec, Event, ExecSpec, ExitRecord, StartFailure, Started};
use carrack_runtime::Progress;
use rustix::event::epoll;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

/// Most connections at once: one agent, and the next one while the old one ends, and a debugger.
const MAX_CONNECTIONS: usize = 16;
/// Most records of ended containers kept; the agent removes them as it goes.
const MAX_CONTAINERS: usize = 4096;
/// Bytes read at once from a stream or socket.
const BUFFER: usize = 32 << 10;
/// Buffers read from a stream before others get their turn.
const ROUNDS: usize = 8;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;

/// Whose event it is.
#[derive(Clone, Debug)]
enum Source {
    Connection,
    /// A container on its way to its command.
    ContainerLaunch(String),
    /// An exec on its way to its command, by process number.
    ExecLaunch(u32),
    /// A stream of a container.
    Output(String),
}

struct Server {
    ready: Ready,
    epoll: OwnedFd,
    next_token: u64,
    sources: HashMap<u64, Source>,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    /// By process number.
    execs: BTreeMap<u32, Exec>,
    /// Set once everything is to end; who waits for it.
    shutdown: Option<Vec<(u64, u64)>>,
    buffer: Vec<u8>,
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

/// A container that is no more than its record.
fn ended(record: ExitRecord, durable: bool) -> Container {
    Container {
        id: record.id.clone(),
        name: record.name.clone(),
        restart: record.restart,
        phase: Phase::Exited { record, durable },
    }
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
    fn watch(&mut self, fd: impl AsFd, source: Source) -> Result<u64, Errno> {
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

    fn reply(&mut self, (token, id): (u64, u64), body: Reply, fds: Vec<(FdRole, OwnedFd)>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.reply(id, body, fds) {
            self.wait_for_room(token);
        } else {
            self.drop_connection(token);
        }
    }

    fn broadcast(&mut self, message: &ServerMessage) {
        let tokens: Vec<u64> = self.connections.keys().copied().collect();
        for token in tokens {
            self.tell(token, message);
        }
    }

    fn tell(&mut self, token: u64, message: &ServerMessage) {
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

    fn start(&mut self, spec: ContainerSpec, asked_by: (u64, u64)) {
        let refused = |text: String| Reply::Refused(text);
        if self.shutdown.is_some() {
            return self.reply(asked_by, refused("the pod's supervisor is shutting down".into()), Vec::new());
        }
        if self.containers.contains_key(&spec.id) {
            return self.reply(
                asked_by,
                refused(format!("container {} exists already", spec.id)),
                Vec::new(),
            );
        }
        if self.containers.len() >= MAX_CONTAINERS {
            return self.reply(asked_by, refused("too many containers in this pod".into()), Vec::new());
        }
        if let Err(failure) = containers::check_id(&spec.id) {
            return self.reply(asked_by, Reply::StartFailed(failure), Vec::new());
        }
        match containers::launch(&spec, &self.ready.config, &self.ready.sandbox) {
            Ok(born) => self.born(spec, born, asked_by),
            Err(failure) => {
                let now = clock::now();
                let record = ExitRecord {
                    id: spec.id,
                    name: spec.name,
                    restart: spec.restart,
                    pid: 0,
                    exit_code: failure.exit_code,
                    signal: None,
                    started_at: now,
                    finished_at: now,
                    start_error: Some(failure.clone()),
                };
                self.record_end(record);
                self.reply(asked_by, Reply::StartFailed(failure), Vec::new());
            }
        }
    }

    /// Keeps a process that was just forked.
    fn born(&mut self, spec: ContainerSpec, born: Born, asked_by: (u64, u64)) {
        let (id, name, restart) = (spec.id.clone(), spec.name.clone(), spec.restart);
        let started = Started { pid: born.launching.pid, started_at: clock::now() };
        let outputs: Vec<_> =
            born.outputs.into_iter().filter_map(|output| self.watch_output(&id, output)).collect();
        // Should the epoll be out of memory, the end of the process is still seen, by its signal.
        let _ = self.watch(&born.launching, Source::ContainerLaunch(id.clone()));
        let alive = Alive {
            spec,
            launching: born.launching,
            started,
            log: born.log,
            stdin: born.stdin,
            tty: None,
            outputs,
            asked_by: Some(asked_by),
        };
        self.containers
            .insert(id.clone(), Container { id, name, restart, phase: Phase::Starting(Box::new(alive)) });
    }

    fn watch_output(&mut self, id: &str, output: Output) -> Option<(u64, Output)> {
        let token = self.watch(&output, Source::Output(id.to_owned())).ok()?;
        Some((token, output))
    }

    /// News from a container on its way.
    fn container_launch(&mut self, token: u64, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Starting(alive) = &mut container.phase else { return };
        match alive.launching.progress() {
            Progress::Pending => {}
            Progress::Running(console) => {
                self.unwatch_launch(token, id);
                self.running(id, console);
            }
            // Its end is near and will be handled as such, with this error.
            Progress::Failed(error) => {
                self.unwatch_launch(token, id);
                self.failed(id, from_launch(&error));
            }
        }
    }

    /// A socket whose other end is closed would be readable for ever.
    fn unwatch_launch(&mut self, token: u64, id: &str) {
        self.sources.remove(&token);
        if let Some(alive) = self.containers.get_mut(id).and_then(Container::alive) {
            let _ = epoll::delete(&self.epoll, &alive.launching);
        }
    }

    /// The command runs: answer, tell, and copy from its terminal.
    fn running(&mut self, id: &str, console: Option<OwnedFd>) {
        let Some(mut container) = self.containers.remove(id) else { return };
        if let Phase::Starting(mut alive) = container.phase {
            alive.started.started_at = clock::now();
            if let Some(master) = console
                && set_nonblocking(&master).is_ok()
                && let Ok(copy) = master.try_clone()
            {
                alive.tty = Some(copy);
                alive.outputs.extend(self.watch_output(id, Output::new(master, "stdout")));
            }
            let (asked_by, started) = (alive.asked_by.take(), alive.started.clone());
            container.phase = Phase::Running(alive);
            self.containers.insert(id.to_owned(), container);
            if let Some(asked_by) = asked_by {
                self.reply(asked_by, Reply::Started(started.clone()), Vec::new());
            }
            self.broadcast(&ServerMessage::Event(Event::Started { id: id.to_owned(), started }));
            carrack_runtime::trim_heap();
        } else {
            self.containers.insert(id.to_owned(), container);
        }
    }

    /// The command does not run. The process is about to end and is reaped as an unknown one.
    fn failed(&mut self, id: &str, failure: StartFailure) {
        let Some(container) = self.containers.remove(id) else { return };
        if let Phase::Starting(mut alive) = container.phase {
            let asked_by = alive.asked_by.take();
            alive.kill_leftovers();
            let record =
                alive.record(Exit { status: failure.exit_code, signal: None }, Some(failure.clone()));
            self.forget_outputs(&alive);
            self.record_end(record);
            if let Some(asked_by) = asked_by {
                self.reply(asked_by, Reply::StartFailed(failure), Vec::new());
            }
        }
    }

    fn forget_outputs(&mut self, alive: &Alive) {
        for (token, _) in &alive.outputs {
            self.sources.remove(token);
        }
    }

    fn output(&mut self, token: u64, id: &str) {
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

    fn container_ended(&mut self, id: &str, exit: Exit) {
        // What it reported before it ended comes first.
        if let Some(Container { phase: Phase::Starting(alive), .. }) = self.containers.get_mut(id) {
            match alive.launching.progress() {
                Progress::Failed(error) => return self.failed(id, from_launch(&error)),
                Progress::Running(console) => self.running(id, console),
                Progress::Pending => self.running(id, None),
            }
        }
        let Some(container) = self.containers.remove(id) else { return };
        let Phase::Running(mut alive) = container.phase else { return };
        alive.kill_leftovers();
        let Alive { outputs, log, .. } = &mut *alive;
        for (_, output) in outputs {
            // Whatever it wrote is in the pipe by now, and a pipe is bounded.
            while output.copy(log, &mut self.buffer, ROUNDS) == Flow::Idle && output.has_more() {}
        }
        self.forget_outputs(&alive);
        let record = alive.record(exit, None);
        drop(alive);
        self.record_end(record);
        carrack_runtime::trim_heap();
    }

    /// Writes the record, and only then tells.
    fn record_end(&mut self, record: ExitRecord) {
        let durable = self.write_record(&record);
        self.containers.insert(record.id.clone(), ended(record.clone(), durable));
        self.broadcast(&ServerMessage::Event(Event::Exited(record)));
    }

    fn write_record(&self, record: &ExitRecord) -> bool {
        match records::write(&self.ready.layout.exits(), record) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("record of {}: {error}: kept in memory, tried again later", record.id);
                false
            }
        }
    }

    /// Tries again to write what a full disk kept from being written.
    fn retry_records(&mut self) {
        let mut waiting = Vec::new();
        for container in self.containers.values() {
            if let Phase::Exited { record, durable: false } = &container.phase {
                waiting.push(record.clone());
            }
        }
        for record in waiting {
            let durable = self.write_record(&record);
            self.containers.insert(record.id.clone(), ended(record, durable));
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

    fn exec(&mut self, id: &str, exec: &ExecSpec, asked_by: (u64, u64)) {
        let alive = match self.containers.get_mut(id).map(|container| &mut container.phase) {
            None => return self.reply(asked_by, Reply::NotFound(id.into()), Vec::new()),
            Some(Phase::Running(alive)) => alive,
            Some(_) => {
                let refused = Reply::Refused(format!("container {id} is not running"));
                return self.reply(asked_by, refused, Vec::new());
            }
        };
        match execs::launch(&alive.spec, exec, alive.launching.pidfd.as_fd(), asked_by) {
            Ok(exec) => {
                let pid = exec.launching.pid;
                // As for containers: its end is seen in any case.
                let _ = self.watch(&exec.launching, Source::ExecLaunch(pid));
                self.execs.insert(pid, exec);
            }
            Err(failure) => self.reply(asked_by, Reply::StartFailed(failure), Vec::new()),
        }
    }

    /// News from an exec on its way.
    fn exec_launch(&mut self, token: u64, pid: u32) {
        let Some(exec) = self.execs.get_mut(&pid) else {
            self.sources.remove(&token);
            return;
        };
        match exec.launching.progress() {
            Progress::Pending => return,
            Progress::Running(console) => {
                let _ = epoll::delete(&self.epoll, &exec.launching);
                exec.take_console(console);
                exec.running = true;
                let (asked_by, fds) = (exec.asked_by, std::mem::take(&mut exec.fds));
                self.reply(asked_by, Reply::Exec { pid }, fds);
            }
            Progress::Failed(error) => {
                let asked_by = exec.asked_by;
                self.execs.remove(&pid);
                self.reply(asked_by, Reply::StartFailed(from_launch(&error)), Vec::new());
            }
        }
        self.sources.remove(&token);
        carrack_runtime::trim_heap();
    }

    fn exec_ended(&mut self, mut exec: Exec, exit: Exit) {
        if !exec.running {
            match exec.launching.progress() {
                Progress::Failed(error) => {
                    return self.reply(exec.asked_by, Reply::StartFailed(from_launch(&error)), Vec::new());
                }
                Progress::Running(console) => exec.take_console(console),
                Progress::Pending => {}
            }
            let fds = std::mem::take(&mut exec.fds);
            self.reply(exec.asked_by, Reply::Exec { pid: exec.launching.pid }, fds);
        }
        let (token, id) = exec.asked_by;
        self.tell(token, &ServerMessage::ExecExited { id, exit_code: exit.code() });
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
