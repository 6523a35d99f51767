//! A priority level at work: its queues behind a lock, and the seat of a request that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::queues::{Arrival, Queues, Shape, Ticket};
use super::share::{Bounds, Demand, Wanted};

/// How long a request waits at most: a quarter of the time that requests have, as upstream.
const WAIT_LIMIT: Duration = Duration::from_secs(15);
/// Why a request was turned away; upstream's labels.
pub(super) const REASONS: [&str; 4] = ["queue-full", "concurrency-limit", "time-out", "cancelled"];
/// Upper bounds of the buckets of waits and executions, in seconds: upstream's, thinned.
pub(super) const BOUNDS: [f64; 10] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 15.0];

/// Durations by bucket.
#[derive(Default)]
pub(super) struct Histogram {
    pub(super) buckets: [AtomicU64; BOUNDS.len()],
    pub(super) count: AtomicU64,
    pub(super) micros: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            bucket.fetch_add(u64::from(seconds <= bound), Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What is counted of the requests of a schema in a level.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) dispatched: AtomicU64,
    pub(super) rejected: [AtomicU64; REASONS.len()],
    pub(super) executing: AtomicI64,
    pub(super) seats: AtomicI64,
    pub(super) waiting: AtomicI64,
    pub(super) waits: Histogram,
    pub(super) executions: Histogram,
}

/// A level: the same one for as long as a level of its name is configured.
pub(super) struct Level {
    pub(super) name: String,
    clock: Instant,
    state: Mutex<State>,
}

struct State {
    queues: Queues<oneshot::Sender<()>>,
    demand: Demand,
    bounds: Bounds,
}

impl State {
    /// Wakes all who may run, and notes the demand.
    fn settle(&mut self, now: Duration) {
        while let Some(wake) = self.queues.dispatch(now) {
            // Who has gone away meanwhile gives the seat back as it is dropped.
            let _ = wake.send(());
        }
        self.note(now);
    }

    fn note(&mut self, now: Duration) {
        let [_, running, _, waiting] = self.queues.load();
        self.demand.set(now, running + waiting);
    }
}

impl Level {
    pub(super) fn new(name: &str, clock: Instant, shape: Shape) -> Self {
        let state =
            State { queues: Queues::new(shape, 0), demand: Demand::default(), bounds: Bounds::default() };
        Level { name: name.to_owned(), clock, state: Mutex::new(state) }
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Goes on by another configuration. Nominal seats are those until the next adjustment.
    pub(super) fn configure(&self, shape: Shape, bounds: Bounds) {
        let (mut state, now) = (self.state.lock(), self.now());
        state.queues.reshape(shape);
        if state.bounds != bounds {
            state.bounds = bounds;
            state.queues.set_limit(now, bounds.nominal as u32);
        }
        state.settle(now);
    }

    /// Ends a round of the demand: what [`super::share::share`] judges by.
    pub(super) fn round(&self) -> (Bounds, Wanted) {
        let mut state = self.state.lock();
        let wanted = state.demand.round(self.now());
        (state.bounds, wanted)
    }

    /// Sets how many seats there are in the next round.
    pub(super) fn adjust(&self, limit: u32) {
        let (mut state, now) = (self.state.lock(), self.now());
        state.queues.set_limit(now, limit);
        state.settle(now);
    }

    /// The bounds and the present limit.
    pub(super) fn limits(&self) -> (Bounds, u32) {
        let state = self.state.lock();
        (state.bounds, state.queues.limit())
    }

    /// Waits for seats for a request of the flow; `Err` with the reason when it is turned away. Whoever drops the
    /// future gives up the place.
    pub(super) async fn enter(
        self: &Arc<Self>,
        counters: &Arc<Counters>,
        flow: u64,
        seats: u32,
    ) -> Result<Seat, &'static str> {
        let (wake, woken) = oneshot::channel();
        let arrival = {
            let (mut state, now) = (self.state.lock(), self.now());
            let arrival = state.queues.arrive(now, flow, seats, wake);
            match arrival {
                Arrival::Waits(_) => state.settle(now),
                _ => state.note(now),
            }
            arrival
        };
        let place = |ticket| Place { level: self.clone(), ticket: Some(ticket) };
        let (place, waited) = match arrival {
            Arrival::Refused(reason) => {
                reject(counters, reason);
                return Err(reason);
            }
            Arrival::Runs(ticket) => (place(ticket), Duration::ZERO),
            Arrival::Waits(ticket) => {
                let (place, began) = (place(ticket), Instant::now());
                let waiting = Waiting::new(counters);
                if tokio::time::timeout(WAIT_LIMIT, woken).await.is_err() {
                    waiting.end();
                    reject(counters, "time-out");
                    return Err("time-out");
                }
                waiting.end();
                (place, began.elapsed())
            }
        };
        counters.waits.add(waited);
        Ok(Seat::new(counters, seats, Some(place)))
    }
}

fn reject(counters: &Counters, reason: &str) {
    if let Some(at) = REASONS.iter().position(|r| *r == reason) {
        counters.rejected[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a request as waiting, and as cancelled when nobody waits to the end.
struct Waiting(Option<Arc<Counters>>);

impl Waiting {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Some(counters.clone()))
    }

    fn end(mut self) {
        if let Some(counters) = self.0.take() {
            counters.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(counters) = self.0.take() {
            counters.waiting.fetch_sub(1, Ordering::Relaxed);
            reject(&counters, "cancelled");
        }
    }
}

/// A place in a level's queues, or among those who run; given back when it is dropped.
struct Place {
    level: Arc<Level>,
    ticket: Option<Ticket>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let (mut state, now) = (self.level.state.lock(), self.level.now());
            state.queues.leave(now, ticket);
            state.settle(now);
        }
    }
}

/// Seats that a request has for as long as this lives.
pub(crate) struct Seat {
    counters: Arc<Counters>,
    seats: u32,
    began: Instant,
    _place: Option<Place>,
}

impl Seat {
    /// A seat that nobody waits for when there is no `place`.
    fn new(counters: &Arc<Counters>, seats: u32, place: Option<Place>) -> Self {
        counters.dispatched.fetch_add(1, Ordering::Relaxed);
        counters.executing.fetch_add(1, Ordering::Relaxed);
        counters.seats.fetch_add(i64::from(seats), Ordering::Relaxed);
        Seat { counters: counters.clone(), seats, began: Instant::now(), _place: place }
    }

    /// The seat of a request that is not limited.
    pub(super) fn exempt(counters: &Arc<Counters>) -> Self {
        Self::new(counters, 1, None)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.counters.executing.fetch_sub(1, Ordering::Relaxed);
        self.counters.seats.fetch_sub(i64::from(self.seats), Ordering::Relaxed);
        self.counters.executions.add(self.began.elapsed());
    }
}
