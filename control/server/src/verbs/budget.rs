//! What PodDisruptionBudgets say to the eviction of a pod: pure decisions, in upstream's order and words
//! (`pkg/registry/core/pod/storage/eviction.go`).

use carrack_api::select::LabelSelector;
use carrack_api::status::{self, Cause};
use carrack_api::{Status, meta};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::ApiError;

/// Evicted pods that a budget remembers at most, until its controller has seen them go.
const MOST_DISRUPTED: usize = 2000;
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Seconds after which to ask again for a budget that nobody has looked at yet.
const SOON: u32 = 10;

/// What a budget lets happen.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The pod may go and takes nothing: it was not available.
    Free,
    /// The pod may go, and the budget becomes this.
    Taken(Value),
}

/// How a pod stands to budgets in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has ended or is going: whatever there was to disrupt is disrupted.
    Gone,
    /// It has not started.
    Waiting,
    /// Budgets are asked.
    Guarded,
}

pub(super) fn standing(pod: &Value) -> Standing {
    match pod.pointer("/status/phase").and_then(Value::as_str) {
        _ if meta::is_deleting(pod) => Standing::Gone,
        Some("Succeeded" | "Failed") => Standing::Gone,
        Some("Pending") => Standing::Waiting,
        _ => Standing::Guarded,
    }
}

/// Whether the budget is about the pod. One whose selector cannot be read is about none.
pub(super) fn guards(budget: &Value, pod: &Value) -> bool {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
    let Some(labels) = labels.filter(|labels| !labels.is_empty()) else { return false };
    let selector = LabelSelector::from_value(budget.pointer("/spec/selector"));
    selector.is_ok_and(|selector| selector.matches(|key| labels.get(key).and_then(Value::as_str)))
}

/// What the budget says to the eviction of `pod` at `now`; 429 when none may go, 403 when the budget cannot be right.
pub(super) fn judge(budget: &Value, pod: &Value, now: Timestamp) -> Result<Verdict, ApiError> {
    let name = meta::name(budget);
    let status = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let (healthy, desired) = (status("currentHealthy"), status("desiredHealthy"));
    if !is_ready(pod) {
        let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        if always || (healthy >= desired && desired > 0) {
            return Ok(Verdict::Free);
        }
    }
    if status("observedGeneration") < meta::generation(budget) {
        return Err(unknown(name));
    }
    let allowed = status("disruptionsAllowed");
    let disrupted = budget["status"]["disruptedPods"].as_object().map_or(0, Map::len);
    let forbidden = |why: &str| Err(ApiError::forbidden("policy", "poddisruptionbudget", name, why));
    match allowed {
        ..0 => forbidden("pdb disruptions allowed is negative"),
        _ if disrupted > MOST_DISRUPTED => {
            forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
        }
        0 => Err(refusal(0, exhausted(budget, name, healthy, desired))),
        _ => Ok(Verdict::Taken(take(budget, meta::name(pod), allowed - 1, now))),
    }
}

/// 429: nobody has said yet what the budget allows.
pub(super) fn unknown(name: &str) -> ApiError {
    refusal(SOON, format!("The disruption budget {name} is still being processed by the server."))
}

/// The pod with the condition that says why it goes.
pub(super) fn marked(pod: &Value, now: Timestamp) -> Value {
    let mut marked = pod.clone();
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": meta::format_time(now),
    });
    if meta::generation(pod) > 0 {
        condition["observedGeneration"] = json!(meta::generation(pod));
    }
    set_condition(&mut marked["status"], condition);
    marked
}

/// Sets a condition of a status; the time of its last transition stays if its status does.
pub(super) fn set_condition(status: &mut Value, mut condition: Value) {
    let conditions = &mut status["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    match list.iter_mut().find(|found| found["type"] == condition["type"]) {
        Some(found) => {
            if found["status"] == condition["status"] {
                condition["lastTransitionTime"] = found["lastTransitionTime"].take();
            }
            *found = condition;
        }
        None => list.push(condition),
    }
}

/// The budget with one pod less to give.
fn take(budget: &Value, pod: &str, left: i64, now: Timestamp) -> Value {
    let mut taken = budget.clone();
    let status = &mut taken["status"];
    let time = meta::format_time(now);
    status["disruptionsAllowed"] = json!(left);
    if left == 0 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": status["observedGeneration"], "lastTransitionTime": time,
        });
        set_condition(status, condition);
    }
    // So that the controller does not count the pod before it has seen it go.
    status["disruptedPods"][pod] = json!(time);
    taken
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Why a budget has nothing to give.
fn exhausted(budget: &Value, name: &str, healthy: i64, desired: i64) -> String {
    let conditions = budget.pointer("/status/conditions").and_then(Value::as_array);
    let refusing = conditions.into_iter().flatten().find(|c| c["type"] == "DisruptionAllowed");
    let said = |field: &str| refusing.and_then(|c| c[field].as_str()).unwrap_or_default();
    let tells = said("status") == "False" && !said("message").is_empty();
    let none = format!("The disruption budget {name} does not allow evicting pods currently");
    match said("reason") {
        // What it counts is not to be trusted then.
        "SyncFailed" if tells => format!("{none} because it failed sync: {}", said("message")),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        reason if tells => format!("{none} ({reason}): {}", said("message")),
        _ => none,
    }
}

fn refusal(seconds: u32, why: String) -> ApiError {
    let mut refusal: Status = status::too_many_requests(VIOLATED, seconds);
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message: why, field: String::new() };
    refusal.details.get_or_insert_default().causes.push(cause);
    refusal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({
            "metadata": {"name": "p", "labels": {"app": "web"}, "generation": 3},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
        })
    }

    fn budget(allowed: i64, healthy: i64, desired: i64) -> Value {
        json!({
            "metadata": {"name": "b", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {
                "observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": healthy,
                "desiredHealthy": desired, "expectedPods": 3,
            },
        })
    }

    fn why(budget: &Value, pod: &Value) -> (u16, String) {
        let error = judge(budget, pod, now()).unwrap_err();
        let causes = error.details.as_ref().map(|d| d.causes.clone()).unwrap_or_default();
        (error.code, causes.first().map_or(error.message.clone(), |cause| cause.message.clone()))
    }

    #[test]
    fn a_ready_pod_takes_one_and_the_last_one_says_so() {
        let Verdict::Taken(taken) = judge(&budget(2, 4, 2), &pod(true), now()).unwrap() else { panic!() };
        assert_eq!(taken["status"]["disruptionsAllowed"], 1);
        assert_eq!(taken["status"]["disruptedPods"], json!({"p": "2026-01-01T00:00:00Z"}));
        assert_eq!(taken["status"].get("conditions"), None);
        let Verdict::Taken(last) = judge(&budget(1, 3, 2), &pod(true), now()).unwrap() else { panic!() };
        assert_eq!(last["status"]["conditions"][0]["reason"], "InsufficientPods");
        assert_eq!(last["status"]["conditions"][0]["observedGeneration"], 2);
    }

    #[test]
    fn who_is_not_ready_goes_when_the_rest_suffices_or_the_policy_says_so() {
        assert_eq!(judge(&budget(0, 2, 2), &pod(false), now()).unwrap(), Verdict::Free);
        assert!(judge(&budget(0, 1, 2), &pod(false), now()).is_err());
        assert!(judge(&budget(0, 0, 0), &pod(false), now()).is_err());
        let mut always = budget(0, 1, 2);
        always["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(judge(&always, &pod(false), now()).unwrap(), Verdict::Free);
        assert!(judge(&always, &pod(true), now()).is_err());
    }

    #[test]
    fn refusals_say_why() {
        let mut unseen = budget(1, 3, 2);
        unseen["status"]["observedGeneration"] = json!(1);
        let processed = "The disruption budget b is still being processed by the server.";
        assert_eq!(why(&unseen, &pod(true)), (429, processed.to_owned()));
        let needs = "The disruption budget b needs 2 healthy pods and has 2 currently";
        assert_eq!(why(&budget(0, 2, 2), &pod(true)), (429, needs.to_owned()));
        let none = "The disruption budget b does not allow evicting pods currently";
        assert_eq!(why(&budget(0, 3, 2), &pod(true)), (429, none.to_owned()));
        let mut failed = budget(0, 2, 2);
        failed["status"]["conditions"] = json!([{
            "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale",
        }]);
        let sync = format!("{none} because it failed sync: no scale");
        assert_eq!(why(&failed, &pod(true)), (429, sync));
        let negative = "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative";
        assert_eq!(why(&budget(-1, 2, 2), &pod(true)), (403, negative.to_owned()));
        let mut many = budget(1, 3, 2);
        many["status"]["disruptedPods"] =
            (0..=MOST_DISRUPTED).map(|n| (format!("p{n}"), json!("t"))).collect::<Map<_, _>>().into();
        assert_eq!(why(&many, &pod(true)).0, 403);
    }

    #[test]
    fn budgets_guard_what_they_select_and_nothing_without_labels() {
        let bare = json!({"metadata": {"name": "p"}});
        for (selector, guarded) in [
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (json!({}), true),
            (Value::Null, false),
        ] {
            let budget = json!({"spec": {"selector": selector}});
            assert_eq!(guards(&budget, &pod(true)), guarded, "{budget}");
            assert!(!guards(&budget, &bare), "{budget}");
        }
    }

    #[test]
    fn a_pod_is_marked_once() {
        let marked_once = marked(&pod(true), now());
        let condition = &marked_once["status"]["conditions"][1];
        assert_eq!(
            (&condition["type"], &condition["observedGeneration"]),
            (&json!("DisruptionTarget"), &json!(3))
        );
        let again = marked(&marked_once, "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(again, marked_once);
    }
}
