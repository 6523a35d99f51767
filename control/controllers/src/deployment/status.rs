//! The status of a deployment: what its sets report, and what that says about the rollout.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSetCondition};

use super::conditions::{self, AVAILABLE, COMPLETE, PROGRESSING, TIMED_OUT};
use super::numbers;
use super::round::Round;
use crate::when::since;

impl Round<'_> {
    /// Brings the counts and the condition Available up to date.
    pub(super) fn count(&mut self) {
        let sets = &self.sets;
        let statuses = || sets.iter().filter_map(|s| s.object.status.as_ref());
        let available: i32 = statuses().map(|s| s.available_replicas.unwrap_or(0)).sum();
        let total = self.total();
        let new = self.new.and_then(|i| sets[i].object.status.as_ref()).map_or(0, |s| s.replicas);
        let terminating = statuses().map(|s| s.terminating_replicas).sum::<Option<i32>>();
        let nonzero = |count: i32| (count != 0).then_some(count);
        self.status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: nonzero(statuses().map(|s| s.replicas).sum()),
            updated_replicas: nonzero(new),
            ready_replicas: nonzero(statuses().map(|s| s.ready_replicas.unwrap_or(0)).sum()),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((total - available).max(0)),
            terminating_replicas: terminating,
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.take(),
        };
        let needed = numbers::replicas(self.deployment) - numbers::max_unavailable(self.deployment);
        let (value, reason, message) = if available >= needed {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        conditions::set(&mut self.status, AVAILABLE, value, reason, message.into(), self.now);
    }

    /// Brings the condition Progressing up to date, and asks to look again when the deadline ends.
    pub(super) fn judge_progress(&mut self) {
        let deadline = numbers::deadline(self.deployment);
        if deadline.is_none() {
            conditions::remove(&mut self.status, PROGRESSING);
        }
        let reason = conditions::get(&self.status, PROGRESSING).and_then(|c| c.reason.as_deref());
        let replicas = self.status.replicas.unwrap_or(0);
        let was_complete = replicas == self.status.updated_replicas.unwrap_or(0) && reason == Some(COMPLETE);
        if deadline.is_some() && !was_complete {
            self.progress_condition();
        }
        let failure = self.set_failure().cloned();
        conditions::failure(&mut self.status, failure.as_ref());
        self.watch_deadline(deadline);
    }

    fn progress_condition(&mut self) {
        let subject = match self.new {
            Some(new) => format!("ReplicaSet \"{}\"", self.sets[new].name()),
            None => {
                let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
                format!("Deployment \"{name}\"")
            }
        };
        let (status, now) = (&mut self.status, self.now);
        if complete(self.deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            conditions::set(status, PROGRESSING, "True", COMPLETE, message, now);
        } else if progressed(self.deployment, status) {
            let message = format!("{subject} is progressing.");
            // Each step of progress moves the update time, even where status and reason stay: the deadline counts
            // from there.
            let had = conditions::get(status, PROGRESSING).cloned();
            conditions::remove(status, PROGRESSING);
            conditions::set(status, PROGRESSING, "True", "ReplicaSetUpdated", message, now);
            let since = had.filter(|c| c.status == "True").and_then(|c| c.last_transition_time);
            let condition = status.conditions.iter_mut().flatten().find(|c| c.type_ == PROGRESSING);
            if let (Some(condition), Some(since)) = (condition, since) {
                condition.last_transition_time = Some(since);
            }
        } else if conditions::timed_out(self.deployment, status, now) {
            let message = format!("{subject} has timed out progressing.");
            conditions::set(status, PROGRESSING, "False", TIMED_OUT, message, now);
        }
    }

    fn set_failure(&self) -> Option<&ReplicaSetCondition> {
        let sets = self.new.into_iter().chain(self.old()).map(|i| &self.sets[i].object);
        sets.filter_map(|set| set.status.as_ref())
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|c| c.type_ == conditions::REPLICA_FAILURE && c.status == "True")
    }

    fn watch_deadline(&mut self, deadline: Option<Duration>) {
        let Some(deadline) = deadline else { return };
        let Some(condition) = conditions::get(&self.status, PROGRESSING) else { return };
        let over = matches!(condition.reason.as_deref(), Some(TIMED_OUT | conditions::PAUSED));
        if over || complete(self.deployment, &self.status) {
            return;
        }
        if let Some(updated) = &condition.last_update_time {
            // One second more, so that the deadline has passed when the timer fires.
            let left = deadline.saturating_sub(since(self.now, updated.0));
            self.plan.again_after(left + Duration::from_secs(1));
        }
    }
}

/// Whether everything wanted is there, of the current template, and available.
pub(super) fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = numbers::replicas(deployment);
    let equal = |count: Option<i32>| count.unwrap_or(0) == wanted;
    equal(status.updated_replicas)
        && equal(status.replicas)
        && equal(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

/// Whether the counts show a step forward since the status that the deployment has.
fn progressed(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let old = deployment.status.as_ref().unwrap_or(&none);
    let updated = |s: &DeploymentStatus| s.updated_replicas.unwrap_or(0);
    let outdated = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - updated(s);
    updated(new) > updated(old)
        || outdated(new) < outdated(old)
        || new.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
        || new.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0)
}
