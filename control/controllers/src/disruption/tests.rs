//! What budgets allow, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use serde_json::{Value, json};

use super::*;
use crate::plan::Verb;
use crate::testing::{self, PodBuilder, ago, now};

fn budget(spec: Value) -> PodDisruptionBudget {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let metadata =
        json!({"name": "b", "namespace": "ns", "uid": "u", "resourceVersion": "1", "generation": 2});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn pod(name: &str) -> PodBuilder {
    PodBuilder::new(name).labelled(&[("app", "web")]).running()
}

fn snapshot(spec: Value, ready: usize, others: usize, wanted: i32) -> Snapshot {
    let pods = (0..ready).map(|n| pod(&format!("r{n}")).ready_for(9).arc());
    let pods = pods.chain((0..others).map(|n| pod(&format!("o{n}")).arc())).collect();
    let scales = Ok(Scales { wanted, unmanaged: vec![] });
    Snapshot { budget: Arc::new(budget(spec)), pods, scales }
}

/// The status that the plan comes to.
fn settled(snapshot: &Snapshot) -> PodDisruptionBudgetStatus {
    let plan = plan(snapshot, now());
    let Some(action) = plan.actions().next() else {
        return snapshot.budget.status.clone().unwrap();
    };
    let Verb::Patch { body, subresource: "status", .. } = &action.verb else { panic!("{plan:?}") };
    assert_eq!(body["metadata"], json!({"uid": "u", "resourceVersion": "1"}));
    let mut whole = json!(snapshot.budget.status.clone().unwrap_or_default());
    testing::apply_merge(&mut whole, &body["status"]);
    serde_json::from_value(whole).unwrap()
}

fn counts(spec: Value, ready: usize, others: usize, wanted: i32) -> (i32, i32, i32, i32) {
    let s = settled(&snapshot(spec, ready, others, wanted));
    (s.expected_pods, s.desired_healthy, s.current_healthy, s.disruptions_allowed)
}

#[test]
fn what_may_go_is_what_is_healthy_beyond_what_has_to_be() {
    // expected, desired, healthy, allowed
    assert_eq!(counts(json!({"minAvailable": 2}), 3, 1, 0), (4, 2, 3, 1));
    assert_eq!(counts(json!({"minAvailable": 2}), 1, 0, 0), (1, 2, 1, 0));
    assert_eq!(counts(json!({"minAvailable": "50%"}), 5, 0, 5), (5, 3, 5, 2));
    assert_eq!(counts(json!({"maxUnavailable": 1}), 4, 1, 5), (5, 4, 4, 0));
    assert_eq!(counts(json!({"maxUnavailable": "30%"}), 5, 0, 5), (5, 3, 5, 2));
    assert_eq!(counts(json!({"maxUnavailable": 9}), 2, 0, 5), (5, 0, 2, 2));
    assert_eq!(counts(json!({"minAvailable": 0}), 0, 0, 0), (0, 0, 0, 0));
}

#[test]
fn the_status_says_whether_evictions_are_allowed_and_is_written_once() {
    let mut first = snapshot(json!({"minAvailable": 1}), 2, 0, 0);
    let status = settled(&first);
    assert_eq!(status.observed_generation, Some(2));
    let condition = &status.conditions.as_ref().unwrap()[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "SufficientPods"));
    let mut settled_budget = (*first.budget).clone();
    settled_budget.status = Some(status.clone());
    first.budget = Arc::new(settled_budget);
    assert_eq!(plan(&first, now()).steps, vec![]);
    first.pods.truncate(1);
    let later = settled(&first);
    assert_eq!(later.conditions.unwrap()[0].reason, "InsufficientPods");
}

#[test]
fn a_granted_eviction_counts_until_it_is_seen_or_two_minutes_are_over() {
    let with = |seconds: i64, deleted: bool| {
        let mut snapshot = snapshot(json!({"minAvailable": 1}), 3, 0, 0);
        if deleted {
            snapshot.pods[0] = pod("r0").ready_for(9).deleted().arc();
        }
        let disrupted: BTreeMap<_, _> = [("r0".to_owned(), ago(seconds)), ("gone".to_owned(), ago(1))].into();
        let mut budget = (*snapshot.budget).clone();
        budget.status = Some(PodDisruptionBudgetStatus {
            disrupted_pods: Some(disrupted),
            ..PodDisruptionBudgetStatus::default()
        });
        snapshot.budget = Arc::new(budget);
        let again = plan(&snapshot, now()).report.again;
        let status = settled(&snapshot);
        (status.disrupted_pods.map_or(0, |pods| pods.len()), status.current_healthy, again)
    };
    assert_eq!(with(20, false), (1, 2, Some(Duration::from_secs(100))));
    assert_eq!(with(121, false), (0, 3, None), "given up");
    assert_eq!(with(20, true), (0, 2, None), "it goes");
}

#[test]
fn what_cannot_be_counted_allows_nothing() {
    let mut failing = snapshot(json!({"maxUnavailable": 1}), 3, 0, 3);
    failing.scales = Err("daemonsets.apps does not implement the scale subresource".into());
    let status = settled(&failing);
    assert_eq!(status.disruptions_allowed, 0);
    let condition = &status.conditions.unwrap()[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "SyncFailed"));
    assert!(condition.message.contains("daemonsets.apps"));
    assert_eq!(plan(&failing, now()).report.again, Some(Duration::from_secs(10)));
}

#[test]
fn a_mark_of_a_pod_that_still_runs_goes_after_two_minutes() {
    let marked = |seconds: i64, reason: &str| {
        let mut pod = pod("p");
        pod.0.status.conditions.push(crate::cache::PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some(reason.into()),
            last_transition_time: Some(ago(seconds)),
        });
        pod
    };
    let early = stale::plan(&marked(20, "EvictionByEvictionAPI").0, now());
    assert_eq!((early.actions().count(), early.report.again), (0, Some(Duration::from_secs(100))));
    let late = stale::plan(&marked(121, "EvictionByEvictionAPI").0, now());
    let Verb::Patch { body, .. } = &late.actions().next().unwrap().verb else { panic!() };
    assert_eq!(body["status"]["conditions"][0]["status"], "False");
    for none in
        [marked(121, "TerminationByKubelet"), marked(121, "x").deleted(), marked(121, "x").phase("Failed")]
    {
        assert_eq!(stale::plan(&none.0, now()), Plan::none());
    }
}
