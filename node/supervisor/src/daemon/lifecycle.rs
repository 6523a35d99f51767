//! A container's way through the loop: asked for, born, running or failed, ended and recorded.

use super::clock;
use super::containers::{self, Alive, Born, Container, Exit, Phase, from_launch};
use super::output::{Flow, Output};
use super::server::{Asker, ROUNDS, Server, Source};
use super::set_nonblocking;
use crate::protocol::{Reply, ServerMessage};
use crate::records;
use crate::types::{ContainerSpec, Event, ExitRecord, StartFailure, Started};
use carrack_runtime::Progress;
use rustix::event::epoll;
use std::os::fd::OwnedFd;

/// Most records of ended containers kept; the agent removes them as it goes.
const MAX_CONTAINERS: usize = 4096;

/// Turns of reading at the end of a container: together more than the largest pipe an unprivileged process can have.
const LAST_TURNS: usize = 8;

/// A container that is no more than its record.
pub(crate) fn ended(record: ExitRecord, durable: bool) -> Container {
    Container {
        id: record.id.clone(),
        name: record.name.clone(),
        restart: record.restart,
        phase: Phase::Exited { record, durable },
    }
}

impl Server {
    pub(crate) fn start(&mut self, spec: ContainerSpec, asked_by: Asker) {
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
    fn born(&mut self, spec: ContainerSpec, born: Born, asked_by: Asker) {
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
    pub(crate) fn container_launch(&mut self, token: u64, id: &str) {
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

    pub(crate) fn container_ended(&mut self, id: &str, exit: Exit) {
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
            // Whatever it wrote is in the pipe by now. Somebody it left behind may go on writing: not for ever.
            for _ in 0..LAST_TURNS {
                if output.copy(log, &mut self.buffer, ROUNDS) == Flow::Ended || !output.has_more() {
                    break;
                }
            }
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
    pub(crate) fn retry_records(&mut self) {
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
}
