//! Pods that wait for a node: active ones by priority and age, those that back off after a failure, those that no node
//! suits until something changes, and gated ones. Pure: the caller passes the time in.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::framework::{Event, Framework, PluginSet};
use crate::pod::PodInfo;
use crate::table::Table;

/// Back-off after a first failure; it doubles with each further one …
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A pod that nothing seemed to help for so long is tried again, should a hint have been wrong.
const LONGEST_PARK: Duration = Duration::from_secs(300);

/// Pods that one event lets skip their back-off: a node that becomes free seldom takes more.
const AT_ONCE: usize = 16;

/// Order of the active queue: higher priority first, then older, then by arrival.
type Rank = (Reverse<i32>, i64, u64);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Active(Rank),
    BackingOff(Instant),
    Parked {
        rejected_by: PluginSet,
        until: Instant,
    },
    Gated,
    /// Taken out to be decided or bound.
    Out,
}

struct Entry {
    pod: Arc<PodInfo>,
    attempts: u32,
    /// Until when it would back off if something helped it.
    backoff_until: Option<Instant>,
    place: Place,
}

/// The queues. Each pod is in one place, so that they are bounded by the pods that there are.
#[derive(Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<(Rank, String)>,
    timers: BTreeSet<(Instant, String)>,
    /// Those that wait for a change, so that a change looks at no others.
    parked: BTreeSet<String>,
    arrivals: u64,
}

/// How many pods are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ready to be decided.
    pub active: usize,
    /// Waiting after a failure.
    pub backing_off: usize,
    /// Waiting for a change.
    pub parked: usize,
    /// Waiting for their gates to go.
    pub gated: usize,
}

impl Queue {
    /// Adds a pod, or takes over its new version. A changed pod is tried again.
    pub fn put(&mut self, framework: &Framework, pod: Arc<PodInfo>) {
        let uid = pod.uid.clone();
        let gated = framework.gate(&pod).is_some();
        match self.entries.get_mut(&uid) {
            Some(entry) => {
                let changed = changed(&entry.pod, &pod);
                let was_gated = entry.place == Place::Gated;
                entry.pod = pod;
                if entry.place == Place::Out {
                    return;
                }
                if gated {
                    self.move_to(&uid, Place::Gated);
                } else if changed || was_gated {
                    self.activate(&uid);
                }
            }
            None => {
                let entry = Entry { pod, attempts: 0, backoff_until: None, place: Place::Gated };
                self.entries.insert(uid.clone(), entry);
                if !gated {
                    self.activate(&uid);
                }
            }
        }
    }

    /// Forgets a pod.
    pub fn remove(&mut self, uid: &str) {
        self.move_to(uid, Place::Out);
        self.entries.remove(uid);
    }

    /// Takes the next pod out.
    pub fn pop(&mut self) -> Option<Arc<PodInfo>> {
        let (_, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::Out;
        entry.attempts += 1;
        Some(Arc::clone(&entry.pod))
    }

    /// Puts a pod back that no node suits. It waits for an event that helps one of the plugins that rejected nodes.
    pub fn park(&mut self, uid: &str, rejected_by: PluginSet, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.backoff_until = Some(now + backoff(entry.attempts));
        self.move_to(uid, Place::Parked { rejected_by, until: now + LONGEST_PARK });
    }

    /// Puts a pod back that a node suited but that was not bound: it is tried again after its back-off.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let until = now + backoff(entry.attempts);
        entry.backoff_until = Some(until);
        self.move_to(uid, Place::BackingOff(until));
    }

    /// Wakes the pods that an event may help.
    pub fn wake(&mut self, framework: &Framework, table: &Table, event: Event, now: Instant) {
        let entries = &self.entries;
        let helped = |uid: &&String| match entries.get(*uid).map(|entry| (entry.place, &entry.pod)) {
            Some((Place::Parked { rejected_by, .. }, pod)) => framework.helps(rejected_by, pod, table, event),
            _ => false,
        };
        let mut helped: Vec<String> = self.parked.iter().filter(helped).cloned().collect();
        // The most important and oldest first: they get what has become free.
        helped.sort_by_key(|uid| entries.get(uid).map(|e| (Reverse(e.pod.usage.priority), e.pod.created)));
        let (Event::Node(row, _) | Event::Freed(row)) = event;
        let mut at_once = AT_ONCE;
        for uid in helped {
            let Some(entry) = self.entries.get(&uid) else { continue };
            let until = entry.backoff_until.filter(|until| *until > now);
            match until {
                // It would do now: waiting would only cost time.
                Some(_) if at_once > 0 && framework.admits(&entry.pod, table, row) => {
                    at_once -= 1;
                    self.activate(&uid);
                }
                Some(until) => self.move_to(&uid, Place::BackingOff(until)),
                None => self.activate(&uid),
            }
        }
    }

    /// Makes those pods active whose time has come.
    pub fn tick(&mut self, now: Instant) {
        while let Some((at, uid)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.activate(&uid);
        }
    }

    /// When [`Queue::tick`] has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether a pod is known.
    #[must_use]
    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// The pod as it was last seen.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// Whether a pod is ready to be taken out.
    #[must_use]
    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// How many pods are where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.entries.values() {
            match entry.place {
                Place::Active(_) => counts.active += 1,
                Place::BackingOff(_) => counts.backing_off += 1,
                Place::Parked { .. } => counts.parked += 1,
                Place::Gated => counts.gated += 1,
                Place::Out => {}
            }
        }
        counts
    }

    fn activate(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        self.arrivals += 1;
        let rank = (Reverse(entry.pod.usage.priority), entry.pod.created, self.arrivals);
        self.move_to(uid, Place::Active(rank));
    }

    fn move_to(&mut self, uid: &str, place: Place) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match std::mem::replace(&mut entry.place, place) {
            Place::Active(rank) => {
                self.active.remove(&(rank, uid.to_owned()));
            }
            Place::BackingOff(at) | Place::Parked { until: at, .. } => {
                self.timers.remove(&(at, uid.to_owned()));
                self.parked.remove(uid);
            }
            Place::Gated | Place::Out => {}
        }
        if matches!(place, Place::Parked { .. }) {
            self.parked.insert(uid.to_owned());
        }
        match place {
            Place::Active(rank) => {
                self.active.insert((rank, uid.to_owned()));
            }
            Place::BackingOff(at) | Place::Parked { until: at, .. } => {
                self.timers.insert((at, uid.to_owned()));
            }
            Place::Gated | Place::Out => {}
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    FIRST_BACKOFF.saturating_mul(factor).min(LONGEST_BACKOFF)
}

/// Whether a new version of a pod asks for something else. Its status, labels and annotations do not matter here: the
/// scheduler writes the status itself.
fn changed(old: &PodInfo, new: &PodInfo) -> bool {
    old.usage != new.usage
        || old.selector != new.selector
        || old.required != new.required
        || old.preferred != new.preferred
        || old.tolerations != new.tolerations
        || old.gates != new.gates
        || old.unsupported != new.unsupported
}

#[cfg(test)]
mod tests;
