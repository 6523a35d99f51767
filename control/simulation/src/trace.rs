//! The trace of a run: every event in order, as a hash that says whether two runs were the same, and as text for who
//! looks for a cause. It also counts the moments by which histories are ordered.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::history::Moment;

/// How many events a report of a failure shows.
const TAIL: usize = 30;

/// Collects events. It lives within one runtime with paused time.
pub struct Trace {
    start: Instant,
    print: bool,
    state: Mutex<State>,
}

struct State {
    hash: DefaultHasher,
    events: u64,
    moment: Moment,
    tail: VecDeque<String>,
}

impl Trace {
    /// A trace that starts now; `print` shows each event on standard output.
    pub fn start(print: bool) -> Trace {
        let state = State { hash: DefaultHasher::new(), events: 0, moment: 0, tail: VecDeque::new() };
        Trace { start: Instant::now(), print, state: Mutex::new(state) }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A moment after all earlier ones.
    pub fn moment(&self) -> Moment {
        let mut state = self.state.lock();
        state.moment += 1;
        state.moment
    }

    /// Something happened.
    pub fn event(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>10.6} {what}", self.now().as_secs_f64());
        if self.print {
            use std::io::Write;
            // Nobody reads any more: then nothing has to be shown.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        let mut state = self.state.lock();
        state.hash.write(line.as_bytes());
        state.events += 1;
        if state.tail.len() == TAIL {
            state.tail.pop_front();
        }
        state.tail.push_back(line);
    }

    /// The number of events and their hash.
    pub fn sum(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.events, state.hash.finish())
    }

    /// The last events.
    pub fn tail(&self) -> Vec<String> {
        self.state.lock().tail.iter().cloned().collect()
    }
}
