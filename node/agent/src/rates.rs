//! How fast CPU time is used: `usageNanoCores` of `/stats/summary`. The CPU times of the node and its pods are noted
//! every ten seconds, as the kubelet does, and what is measured is compared with what was noted ten to twenty seconds
//! before. So whoever asks gets rates at once, and all who ask at one time get the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_cgroups::Cgroups;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::manager::Pods;
use crate::sandbox::pod_cgroup;
use crate::shared::Shared;
use crate::state::Run;
use crate::stats::{self, MeasureError};
use crate::worker::Snapshot;

/// How often CPU times are noted; the kubelet's figure.
const EVERY: Duration = Duration::from_secs(10);
/// The shortest time that a rate is over: what is shorter is mostly what a start costs. metrics-server's figure.
const LEAST: Duration = Duration::from_secs(10);
/// A container that started longer ago than this has been noted, or what it did since then is no news.
const YOUNG: Duration = Duration::from_secs(30);
/// Notes that are kept: one is at least [`LEAST`] old as long as they come in time.
const KEPT: usize = 3;

/// CPU times of one moment, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Note {
    at: Instant,
    node: u64,
    /// By the paths of control groups.
    groups: HashMap<String, u64>,
}

/// The last notes, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<VecDeque<Arc<Note>>>);

impl Rates {
    fn add(&self, note: Note) {
        let mut notes = self.0.lock();
        if notes.len() == KEPT {
            notes.pop_front();
        }
        notes.push_back(Arc::new(note));
    }

    /// What rates of now are made with.
    pub(crate) fn now(&self) -> Since {
        self.at(Instant::now(), Timestamp::now())
    }

    fn at(&self, at: Instant, wall: Timestamp) -> Since {
        let notes = self.0.lock();
        let old_enough = |note: &&Arc<Note>| at.duration_since(note.at) >= LEAST;
        Since { at, wall, note: notes.iter().rfind(old_enough).cloned() }
    }
}

/// How fast CPU time is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// In billionths of a core.
    pub nano_cores: u64,
    /// Over how long that is.
    pub over: Duration,
}

/// A moment, and the newest note that is old enough to compare it with.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    at: Instant,
    wall: Timestamp,
    note: Option<Arc<Note>>,
}

impl Since {
    /// The rate of the node, which has used `cpu` nanoseconds so far. `None` while there is nothing to compare with.
    pub(crate) fn of_node(&self, cpu: u64) -> Option<Rate> {
        let note = self.note.as_deref()?;
        rate(note.node, cpu, self.at.duration_since(note.at))
    }

    /// The rate of a control group. One that was not noted yet has used nothing at its start, if that is known.
    pub(crate) fn of_group(&self, path: &str, cpu: u64, started: Option<Timestamp>) -> Option<Rate> {
        if let Some((note, before)) = self.note.as_deref().and_then(|n| Some((n, n.groups.get(path)?))) {
            return rate(*before, cpu, self.at.duration_since(note.at));
        }
        let age = Duration::try_from(self.wall.duration_since(started?)).ok()?;
        (LEAST..YOUNG).contains(&age).then(|| rate(0, cpu, age)).flatten()
    }
}

/// From `before` to `after` within a time, both in nanoseconds. A counter that went back began anew.
fn rate(before: u64, after: u64, over: Duration) -> Option<Rate> {
    let used = u128::from(after.checked_sub(before)?);
    let nano_cores = u64::try_from((used * 1_000_000_000).checked_div(over.as_nanos())?).ok()?;
    Some(Rate { nano_cores, over })
}

/// Notes CPU times for ever.
pub(crate) async fn run(shared: Arc<Shared>, pods: Pods) {
    loop {
        let (cgroups, snapshots) = (shared.cgroups.clone(), pods.list());
        match tokio::task::spawn_blocking(move || look(&cgroups, &snapshots)).await {
            Ok(Ok(note)) => shared.rates.add(note),
            Ok(Err(error)) => tracing::warn!(%error, "use of CPU was not measured"),
            Err(error) => tracing::warn!(%error, "measuring the use of CPU broke off"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn look(cgroups: &Cgroups, pods: &[Snapshot]) -> Result<Note, MeasureError> {
    let (at, node) = (Instant::now(), stats::node_cpu()?);
    let mut groups = HashMap::new();
    for path in pods.iter().flat_map(paths) {
        let used = cgroups.get(&path)?.cpu_time()?;
        groups.insert(path, used);
    }
    Ok(Note { at, node, groups })
}

/// The control groups of a pod that has a sandbox: its own, and those of containers that run.
fn paths(snapshot: &Snapshot) -> Vec<String> {
    let (Some(pod), true) = (snapshot.pod.as_deref(), snapshot.sandbox.is_some()) else { return Vec::new() };
    let own = pod_cgroup(pod);
    let of_container = |state: &Run| match state {
        Run::Running { id, .. } => Some(container_path(&own, id)),
        _ => None,
    };
    let mut paths: Vec<String> =
        snapshot.containers.values().filter_map(|state| of_container(&state.run)).collect();
    paths.push(own);
    paths
}

/// The control group of a container, below its pod's.
pub(crate) fn container_path(pod: &str, id: &str) -> String {
    format!("{pod}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ago(now: Instant, seconds: u64, used: u64) -> Note {
        let at = now.checked_sub(Duration::from_secs(seconds)).unwrap();
        Note { at, node: used, groups: HashMap::from([("pod/a".to_owned(), used)]) }
    }

    #[test]
    fn the_newest_note_that_is_old_enough_counts() {
        let rates = Rates::default();
        let (now, wall) = (Instant::now(), Timestamp::now());
        assert_eq!(rates.at(now, wall).of_node(SECOND), None, "nothing to compare with");
        for (seconds, used) in [(44, 0), (34, 0), (24, 1), (14, 2), (4, 3)] {
            rates.add(ago(now, seconds, used * SECOND));
        }
        let since = rates.at(now, wall);
        let over = Duration::from_secs(14);
        let half = Rate { nano_cores: SECOND / 2, over };
        assert_eq!(since.of_node(9 * SECOND), Some(half), "seven seconds in fourteen");
        assert_eq!(since.of_node(SECOND), None, "the counter went back");
        assert_eq!(since.of_group("pod/a", 2 * SECOND, None), Some(Rate { nano_cores: 0, over }));
    }

    #[test]
    fn who_is_new_is_measured_from_the_start() {
        let now = Instant::now();
        let since = Since { at: now, wall: Timestamp::now(), note: Some(Arc::new(ago(now, 15, 0))) };
        let of = |age: i64| {
            let started = since.wall.checked_sub(jiff::SignedDuration::from_secs(age)).unwrap();
            since.of_group("pod/new", 6 * SECOND, Some(started))
        };
        let half = Rate { nano_cores: SECOND / 2, over: Duration::from_secs(12) };
        assert_eq!(of(12), Some(half));
        assert_eq!(of(3), None, "too young for a rate");
        assert_eq!(of(3600), None, "it was not noted, although it has run for long");
        assert_eq!(of(-5), None, "the clock was set back");
        assert_eq!(since.of_group("pod/new", SECOND, None), None);
    }
}
