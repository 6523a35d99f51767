//! The status of a budget.

use std::collections::BTreeMap;
use std::time::Duration;

use carrack_client::{Key, Note, NoteKind};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Scales, Snapshot};
use crate::deployment::share;
use crate::diff;
use crate::plan::{Action, Plan};
use crate::resource::DISRUPTION_BUDGET;
use crate::when::left;

/// How long an eviction that was granted may take to be seen; upstream's figure.
const DELETION_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// Wait before what could not be counted is counted again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
const ALLOWED: &str = "DisruptionAllowed";

/// Whether the number of pods that there should be is needed: where the budget speaks of pods that may be missing, or of
/// a part of them.
pub(super) fn needs_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// Writes what the budget allows, if that is not what its status says.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let budget = &*snapshot.budget;
    let Some(spec) = &budget.spec else { return plan };
    let current = budget.status.clone().unwrap_or_default();
    let new = match &snapshot.scales {
        Ok(scales) => {
            let (status, next) = status(snapshot, spec, scales, &current, now);
            if let Some(wait) = next {
                plan.again_after(wait);
            }
            status
        }
        Err(why) => {
            plan.again_after(AGAIN_AFTER);
            failed(&current, why, now)
        }
    };
    if new == current && budget.status.is_some() {
        return plan;
    }
    let patch = diff::status_patch(&budget.metadata, &current, &new);
    plan.push(Action::merge(DISRUPTION_BUDGET, Key::of(&budget.metadata), "status", patch).missing_ok());
    plan.note(format!("{} of {} pods are healthy", new.current_healthy, new.expected_pods));
    tell(&mut plan, snapshot, spec);
    plan
}

/// The Events that go with a new status.
fn tell(plan: &mut Plan, snapshot: &Snapshot, spec: &PodDisruptionBudgetSpec) {
    let budget = &*snapshot.budget;
    match &snapshot.scales {
        Err(why) => {
            let text = format!("Failed to calculate the number of expected pods: {why}");
            plan.tell(Note::new(budget, NoteKind::Warning, "CalculateExpectedPodCountFailed", text));
        }
        Ok(_) if snapshot.pods.is_empty() => {
            plan.tell(Note::new(budget, NoteKind::Normal, "NoPods", "No matching pods found"));
        }
        Ok(scales) if !scales.unmanaged.is_empty() => {
            let selector =
                spec.selector.as_ref().map(|s| serde_json::json!(s).to_string()).unwrap_or_default();
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a \
                 result, the status of the PDB cannot be calculated correctly, which may result in undefined \
                 behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer \
                 value."
            );
            plan.tell(Note::new(budget, NoteKind::Warning, "UnmanagedPods", text));
        }
        Ok(_) => {}
    }
}

/// The status, and when an eviction that was granted will be given up.
fn status(
    snapshot: &Snapshot,
    spec: &PodDisruptionBudgetSpec,
    scales: &Scales,
    current: &PodDisruptionBudgetStatus,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let (expected, desired) = numbers(spec, scales, snapshot.pods.len());
    let (disrupted, next) = disrupted(snapshot, current, now);
    let healthy = snapshot.pods.iter().filter(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        pod.ready() && !pod.terminating() && !disrupted.contains_key(name)
    });
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 { 0 } else { healthy.saturating_sub(desired).max(0) };
    let generation = snapshot.budget.metadata.generation;
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(with_condition(current, state, reason, "", generation, now)),
        current_healthy: healthy,
        desired_healthy: desired,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: generation,
    };
    (status, next)
}

/// How many pods there should be, and how many of them have to be healthy.
fn numbers(spec: &PodDisruptionBudgetSpec, scales: &Scales, pods: usize) -> (i32, i32) {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let most = share(unavailable, scales.wanted, true);
            (scales.wanted, scales.wanted.saturating_sub(most).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (i32::try_from(pods).unwrap_or(i32::MAX), *least),
        (None, Some(part)) => (scales.wanted, share(part, scales.wanted, true)),
        (None, None) => (0, 0),
    }
}

/// The evictions that were granted and are not seen yet, and when the first of them is given up.
fn disrupted(
    snapshot: &Snapshot,
    current: &PodDisruptionBudgetStatus,
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let (mut kept, mut next) = (BTreeMap::new(), None::<Duration>);
    for (name, at) in current.disrupted_pods.iter().flatten() {
        let is_it = |pod: &&std::sync::Arc<crate::cache::Pod>| pod.metadata.name.as_ref() == Some(name);
        let there = snapshot.pods.iter().find(is_it).is_some_and(|pod| !pod.terminating());
        if let Some(wait) = left(now, at.0, DELETION_TIMEOUT).filter(|_| there) {
            kept.insert(name.clone(), at.clone());
            next = Some(next.map_or(wait, |before| before.min(wait)));
        }
    }
    (kept, next)
}

/// The status when it is not known what should be there: nothing is allowed.
fn failed(current: &PodDisruptionBudgetStatus, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let conditions = with_condition(current, "False", "SyncFailed", why, current.observed_generation, now);
    PodDisruptionBudgetStatus { disruptions_allowed: 0, conditions: Some(conditions), ..current.clone() }
}

fn with_condition(
    current: &PodDisruptionBudgetStatus,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = current.conditions.clone().unwrap_or_default();
    let place = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let before = place.map(|place| &conditions[place]).filter(|before| before.status == status);
    // Times in the API are whole seconds.
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let since = before.map_or(Time(second), |before| before.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match place {
        Some(place) => conditions[place] = condition,
        None => conditions.push(condition),
    }
    conditions
}
