//! The queues of one priority level: who may run, who waits, who is turned away. Pure: the time is told, and nothing
//! waits in here.
//!
//! Fair queuing as upstream has it: each queue is served as if all queues with work were served at once, bit by bit.
//! A virtual time says how far such a server would have come; the queue whose next request would be done first in that
//! time goes first. What a request costs is its seats times a guess of how long it takes, corrected when it is done.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::shard::deal;

/// The guess of how long a request takes, in seconds, before it is known; upstream's figure.
const GUESS: f64 = 0.003;

/// Names a request within its level.
pub(super) type Ticket = u64;

/// How a level's requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// How many queues; 0: nobody waits, who finds no seat is turned away.
    pub(super) queues: usize,
    /// Among how many of them a flow's requests are dealt.
    pub(super) hand: usize,
    /// How many requests wait in a queue at most.
    pub(super) length: usize,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It runs.
    Runs(Ticket),
    /// It waits; its handle comes back from [`Queues::dispatch`] when it is its turn.
    Waits(Ticket),
    /// It is turned away, for this reason (upstream's label).
    Refused(&'static str),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Ticket>,
    waiting_seats: u32,
    running: u32,
    running_seats: u32,
    /// The virtual time at which its next request begins.
    next: f64,
}

impl Queue {
    fn is_active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

enum State<H> {
    Waiting(H),
    Running(Duration),
}

struct Member<H> {
    /// `None` without queues.
    queue: Option<usize>,
    seats: u32,
    state: State<H>,
}

/// Requests of a level. `H` is what wakes one that waits.
pub(super) struct Queues<H> {
    shape: Shape,
    limit: u32,
    queues: Vec<Queue>,
    members: HashMap<Ticket, Member<H>>,
    next_ticket: Ticket,
    running: u32,
    running_seats: u32,
    waiting_seats: u32,
    waiting: u32,
    active_queues: u32,
    virtual_time: f64,
    told: Duration,
}

impl<H> Queues<H> {
    pub(super) fn new(shape: Shape, limit: u32) -> Self {
        let mut queues = Queues {
            shape: Shape { queues: 0, ..shape },
            limit,
            queues: Vec::new(),
            members: HashMap::new(),
            next_ticket: 0,
            running: 0,
            running_seats: 0,
            waiting_seats: 0,
            waiting: 0,
            active_queues: 0,
            virtual_time: 0.0,
            told: Duration::ZERO,
        };
        queues.reshape(shape);
        queues
    }

    /// Goes on in another shape. Queues that are too many take nothing new and run empty.
    pub(super) fn reshape(&mut self, shape: Shape) {
        let needed = self.queues.iter().rposition(Queue::is_active).map_or(0, |last| last + 1);
        self.queues.resize_with(shape.queues.max(needed), Queue::default);
        self.shape = shape;
    }

    /// How many seats may be taken; who may run by that comes from [`Queues::dispatch`].
    pub(super) fn set_limit(&mut self, now: Duration, limit: u32) {
        self.tick(now);
        self.limit = limit;
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Requests and seats: running, then waiting.
    pub(super) fn load(&self) -> [u32; 4] {
        [self.running, self.running_seats, self.waiting, self.waiting_seats]
    }

    /// Lets virtual time pass: with one queue at work as fast as its seats, with several shared among them.
    fn tick(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.told).as_secs_f64();
        self.told = self.told.max(now);
        if self.active_queues > 0 {
            let seats = (self.running_seats + self.waiting_seats).min(self.limit.max(1));
            self.virtual_time += passed * f64::from(seats) / f64::from(self.active_queues);
        }
    }

    /// Whether so many seats are free. Who wants more than there are runs alone.
    fn has_room(&self, seats: u32) -> bool {
        if seats > self.limit { self.running == 0 } else { self.running_seats + seats <= self.limit }
    }

    /// A request of the flow with this hash arrives. `handle` is kept if it waits.
    pub(super) fn arrive(&mut self, now: Duration, flow: u64, seats: u32, handle: H) -> Arrival {
        self.tick(now);
        if self.shape.queues == 0 {
            if !self.has_room(seats) {
                return Arrival::Refused("concurrency-limit");
            }
            return Arrival::Runs(self.run_at_once(now, seats));
        }
        let at = self.choose(flow);
        if self.queues[at].waiting.len() >= self.shape.length {
            return Arrival::Refused("queue-full");
        }
        let ticket = self.enqueue(at, seats, handle);
        // Where nobody else waits, nobody has to be compared.
        let is_next = if self.waiting == 1 { self.has_room(seats) } else { self.next_up() == Some(ticket) };
        if is_next {
            self.begin(now, ticket);
            return Arrival::Runs(ticket);
        }
        Arrival::Waits(ticket)
    }

    fn run_at_once(&mut self, now: Duration, seats: u32) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.members.insert(ticket, Member { queue: None, seats, state: State::Running(now) });
        self.running += 1;
        self.running_seats += seats;
        ticket
    }

    /// Of the flow's hand the queue with the fewest seats wanted.
    fn choose(&self, flow: u64) -> usize {
        let (mut best, mut least) = (0, u32::MAX);
        deal(flow, self.shape.queues, self.shape.hand, |card| {
            let wanted = self.queues[card].waiting_seats + self.queues[card].running_seats;
            if wanted < least {
                (best, least) = (card, wanted);
            }
        });
        best
    }

    fn enqueue(&mut self, at: usize, seats: u32, handle: H) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let queue = &mut self.queues[at];
        if !queue.is_active() {
            self.active_queues += 1;
        }
        if queue.waiting.is_empty() {
            // Who wanted nothing has no claim on the past.
            queue.next = queue.next.max(self.virtual_time);
        }
        queue.waiting.push_back(ticket);
        queue.waiting_seats += seats;
        self.waiting += 1;
        self.waiting_seats += seats;
        self.members.insert(ticket, Member { queue: Some(at), seats, state: State::Waiting(handle) });
        ticket
    }

    /// Starts the next request if there is room for it; gives what wakes it.
    pub(super) fn dispatch(&mut self, now: Duration) -> Option<H> {
        self.tick(now);
        let ticket = self.next_up()?;
        self.begin(now, ticket)
    }

    /// The request that is to run next, if there is room for it.
    fn next_up(&self) -> Option<Ticket> {
        if self.waiting == 0 {
            return None;
        }
        let seats = |ticket: &Ticket| self.members.get(ticket).map_or(1, |member| member.seats);
        let candidates = self.queues.iter().filter_map(|queue| {
            let first = *queue.waiting.front()?;
            Some((queue.next + f64::from(seats(&first)) * GUESS, first))
        });
        let (_, ticket) = candidates.min_by(|(a, x), (b, y)| a.total_cmp(b).then(x.cmp(y)))?;
        self.has_room(seats(&ticket)).then_some(ticket)
    }

    /// Lets the first request of a queue run.
    fn begin(&mut self, now: Duration, ticket: Ticket) -> Option<H> {
        let member = self.members.get_mut(&ticket)?;
        let seats = member.seats;
        let before = std::mem::replace(&mut member.state, State::Running(now));
        if let Some(queue) = member.queue.and_then(|at| self.queues.get_mut(at)) {
            queue.waiting.pop_front();
            queue.waiting_seats -= seats;
            queue.running += 1;
            queue.running_seats += seats;
            queue.next += f64::from(seats) * GUESS;
        }
        self.waiting -= 1;
        self.waiting_seats -= seats;
        self.running += 1;
        self.running_seats += seats;
        match before {
            State::Waiting(handle) => Some(handle),
            State::Running(_) => None,
        }
    }

    /// A request is done, or does not want to wait any longer. Others may run now: see [`Queues::dispatch`].
    pub(super) fn leave(&mut self, now: Duration, ticket: Ticket) {
        self.tick(now);
        let Some(Member { queue, seats, state }) = self.members.remove(&ticket) else { return };
        let queue = queue.and_then(|at| self.queues.get_mut(at));
        match state {
            State::Waiting(_) => {
                self.waiting -= 1;
                self.waiting_seats -= seats;
                if let Some(queue) = queue {
                    queue.waiting.retain(|t| *t != ticket);
                    queue.waiting_seats -= seats;
                    self.active_queues -= u32::from(!queue.is_active());
                }
            }
            State::Running(since) => {
                self.running -= 1;
                self.running_seats -= seats;
                if let Some(queue) = queue {
                    queue.running -= 1;
                    queue.running_seats -= seats;
                    let took = now.saturating_sub(since).as_secs_f64();
                    queue.next += f64::from(seats) * (took - GUESS);
                    self.active_queues -= u32::from(!queue.is_active());
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
