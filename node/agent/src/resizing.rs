//! In-place resize of pods, carried out: [`resize`](crate::resize) decides, this asks for room and writes limits.
//!
//! A pod's control group is raised before those of its containers and lowered after them, since no child may have more
//! than its parent (version 1 refuses that).

use carrack_cgroups::{CgroupError, Limits};
use jiff::{SignedDuration, Timestamp};
use tokio::task::block_in_place;

use crate::errors::chain;
use crate::plan::{Outcome, Plan, outcome};
use crate::resize::{
    Amounts, Change, Progress, Verdict, allocate, allocated_pod, applied_pod, changes, is_settled,
    memory_decreases, refusal, request_of, summary,
};
use crate::spec::{container_limits, pod_limits};
use crate::state::{Condemned, Run};
use crate::worker::Worker;

/// How long after it was refused or failed a resize is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

impl Worker {
    /// Counts the pod among those that have a part of the node, unless it is over.
    pub(crate) fn hold_room(&self) {
        if outcome(&self.pod, &self.containers) != Outcome::Open {
            return;
        }
        let held = request_of(&allocated_pod(&self.pod, &self.containers));
        self.shared.ledger.hold(&self.key.uid, held);
    }

    /// Takes a change of the pod's resources as far as it can be taken now.
    pub(crate) fn keep_size(&mut self, now: Timestamp, plan: &mut Plan) {
        if let Some(at) = self.resize_at.filter(|at| *at > now) {
            plan.wake_at(at);
            return;
        }
        self.resize_at = None;
        let before = self.resize.clone();
        self.resize.pending = self.ask_for_room();
        let due = changes(&self.pod, &self.containers);
        // A container that ends to be started again tells when it has ended.
        let busy = due.iter().any(|(name, change)| *change == Change::Update || !self.is_condemned(name));
        self.resize.under_way |= !due.is_empty();
        let started = self.resize.under_way;
        if !due.is_empty() {
            self.resize.error = self.apply(&due);
        } else if started {
            self.resize.error = self.settle_pod();
            self.resize.under_way = self.resize.error.is_some();
        }
        self.tell_of_resize(&before, started);
        let deferred = self.resize.pending.as_ref().is_some_and(|(reason, _)| *reason == "Deferred");
        if deferred || self.resize.error.is_some() {
            self.resize_at = Some(now + RETRY);
            plan.wake_at(now + RETRY);
        } else if busy {
            // The next plan ends what was condemned; what was updated is settled then.
            plan.wake_at(now);
        }
    }

    /// Allocates what the spec wants if there is room for it; otherwise says why not.
    fn ask_for_room(&mut self) -> Option<(&'static str, String)> {
        if is_settled(&self.pod, &self.containers) {
            return None;
        }
        let held = request_of(&allocated_pod(&self.pod, &self.containers));
        let capacity = Amounts::of(Some(self.shared.machine.allocatable()));
        match self.shared.ledger.ask(&self.key.uid, request_of(&self.pod), held, capacity) {
            Verdict::Granted => {
                allocate(&self.pod, &mut self.containers, true);
                // On disk before it is acted upon: the next agent goes on from here.
                self.save();
                (self.resize.under_way, self.resize.error) = (true, None);
                let note = format!("Pod resize started: {}", summary(&self.pod, None));
                self.shared.events.normal(&self.about, "ResizeStarted", note);
                None
            }
            Verdict::Deferred(why) => Some(("Deferred", why)),
            Verdict::Infeasible(why) => Some(("Infeasible", why)),
        }
    }

    /// Gives running containers what they were allocated, or has them started again. Answers what went wrong.
    fn apply(&mut self, due: &[(String, Change)]) -> Option<String> {
        let decreases = memory_decreases(&self.pod, &self.containers);
        if let Some(why) = block_in_place(|| refusal(&decreases, |name| self.memory_in_use(name))) {
            return Some(why);
        }
        match self.try_apply(due) {
            Ok(()) => None,
            Err(error) => Some(chain(&error)),
        }
    }

    fn try_apply(&mut self, due: &[(String, Change)]) -> Result<(), CgroupError> {
        let allocated = pod_limits(&allocated_pod(&self.pod, &self.containers), None);
        let applied = pod_limits(&applied_pod(&self.pod, &self.containers), None);
        self.limit_pod(&higher(&applied, &allocated))?;
        for (name, change) in due {
            let Some(state) = self.containers.get_mut(name) else { continue };
            if *change == Change::Restart {
                let message = format!("Container {name} resize requires restart");
                state.condemned.get_or_insert(Condemned { message, grace_seconds: None });
                continue;
            }
            let Run::Running { id, .. } = &state.run else { continue };
            let (id, allocated) = (id.clone(), state.allocated.clone());
            let path = format!("{}/{id}", self.cgroup_path());
            let limits = container_limits(allocated.as_ref());
            block_in_place(|| self.shared.cgroups.get(&path)?.limit(&limits))?;
            if let Some(state) = self.containers.get_mut(name) {
                state.applied = allocated;
            }
        }
        Ok(())
    }

    /// The last step: all containers have what they were allocated, and so has the pod.
    fn settle_pod(&mut self) -> Option<String> {
        let limits = pod_limits(&allocated_pod(&self.pod, &self.containers), None);
        self.limit_pod(&limits).err().map(|error| chain(&error))
    }

    fn limit_pod(&self, limits: &Limits) -> Result<(), CgroupError> {
        block_in_place(|| self.shared.cgroups.get(&self.cgroup_path())?.limit(limits))
    }

    /// Memory charged to the pod, or to a running container of it, in bytes.
    fn memory_in_use(&self, name: Option<&str>) -> u64 {
        let path = match name.map(|name| self.containers.get(name).map(|state| &state.run)) {
            None => self.cgroup_path(),
            Some(Some(Run::Running { id, .. })) => format!("{}/{id}", self.cgroup_path()),
            Some(_) => return 0,
        };
        let stats = self.shared.cgroups.get(&path).and_then(|group| group.stats());
        stats.map_or_else(
            |error| {
                tracing::warn!(pod = %self.key.name, %error, "the memory in use was not measured");
                0
            },
            |stats| stats.memory_current,
        )
    }

    /// Whether the run of a container is being ended so that the next one has other resources.
    pub(crate) fn restarts_for_resize(&self, name: &str) -> bool {
        let change = (name.to_owned(), Change::Restart);
        self.is_condemned(name) && changes(&self.pod, &self.containers).contains(&change)
    }

    fn is_condemned(&self, name: &str) -> bool {
        self.containers.get(name).is_some_and(|state| state.condemned.is_some())
    }

    fn tell_of_resize(&self, before: &Progress, started: bool) {
        let now = &self.resize;
        if let Some((reason, why)) = now.pending.as_ref().filter(|_| now.pending != before.pending) {
            let note = format!("Pod resize {reason}: {}", summary(&self.pod, Some(why)));
            self.shared.events.warning(&self.about, &format!("Resize{reason}"), note);
        }
        if let Some(error) = now.error.as_ref().filter(|_| before.error.is_none()) {
            let note = format!("Pod resize error: {}", summary(&self.pod, Some(error)));
            self.shared.events.warning(&self.about, "ResizeError", note);
        }
        if started && !now.under_way {
            let note = format!("Pod resize completed: {}", summary(&self.pod, None));
            self.shared.events.normal(&self.about, "ResizeCompleted", note);
        }
    }
}

/// The higher of two limits each; where one of them is none, what is there stays.
fn higher(a: &Limits, b: &Limits) -> Limits {
    let max = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.max(b));
    Limits {
        cpu_millis_request: max(a.cpu_millis_request, b.cpu_millis_request),
        cpu_millis_limit: max(a.cpu_millis_limit, b.cpu_millis_limit),
        memory_request: max(a.memory_request, b.memory_request),
        memory_limit: max(a.memory_limit, b.memory_limit),
        ..Limits::default()
    }
}
