//! Replica sets: creating, deleting, adopting, releasing and reporting.

use std::sync::Arc;
use std::time::Duration;

use carrack_client::Key;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::json;

use super::{Snapshot, plan, settle};
use crate::plan::{ActionError, Failure, Plan, Step, Verb};
use crate::testing::{self, PodBuilder, now};

fn set(replicas: i32) -> ReplicaSet {
    let labels = testing::labels(&[("app", "web")]);
    let meta = ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() };
    let spec = ReplicaSetSpec {
        replicas: Some(replicas),
        selector: LabelSelector { match_labels: Some(labels), ..LabelSelector::default() },
        template: Some(PodTemplateSpec { metadata: Some(meta), spec: None }),
        ..ReplicaSetSpec::default()
    };
    ReplicaSet { metadata: testing::meta("web"), spec: Some(spec), ..ReplicaSet::default() }
}

fn own(name: &str) -> PodBuilder {
    PodBuilder::new(name).labelled(&[("app", "web")]).owned_by("uid-web").running()
}

fn snapshot(set: ReplicaSet, pods: &[PodBuilder]) -> Snapshot {
    Snapshot { set: Arc::new(set), pods: pods.iter().map(PodBuilder::arc).collect(), siblings: Vec::new() }
}

fn summary(plan: &Plan) -> Vec<String> {
    plan.actions()
        .map(|a| {
            let verb = match &a.verb {
                Verb::Create { .. } => "create",
                Verb::Delete { .. } => "delete",
                Verb::Confirm { .. } => "confirm",
                Verb::Patch { body, .. } if body.to_string().contains("$patch") => "release",
                Verb::Patch { .. } => "adopt",
                other => panic!("{other:?}"),
            };
            format!("{verb} {}", a.key.name)
        })
        .collect()
}

#[test]
fn missing_pods_are_created_in_a_slow_start() {
    let plan = plan(&snapshot(set(3), &[own("a")]), now());
    assert!(matches!(&plan.steps[..], [Step::SlowStart(actions)] if actions.len() == 2), "{plan:?}");
    let action = plan.actions().next().unwrap();
    let Verb::Create { body } = &action.verb else { panic!() };
    assert_eq!(body["metadata"]["generateName"], "web-");
    assert_eq!(body["metadata"]["labels"], json!({ "app": "web" }));
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "uid-web");
    assert_eq!(body["metadata"]["ownerReferences"][0]["controller"], true);
}

#[test]
fn ended_and_terminating_pods_do_not_count() {
    let pods = [own("a"), own("b").phase("Failed"), own("c").deleted()];
    assert_eq!(summary(&plan(&snapshot(set(2), &pods), now())), ["create "]);
}

#[test]
fn surplus_pods_are_deleted_by_uid() {
    let pods = [own("a").on("n").ready_for(10), own("b").on("n"), own("c").on("n").ready_for(5)];
    let plan = plan(&snapshot(set(1), &pods), now());
    assert_eq!(summary(&plan), ["delete b", "delete c"]);
    assert!(plan.actions().all(|a| matches!(&a.verb, Verb::Delete { uid: Some(_), .. })));
}

#[test]
fn orphans_are_adopted_after_the_set_was_confirmed_and_strays_released() {
    let orphan = PodBuilder::new("orphan").labelled(&[("app", "web")]).running();
    let stray = PodBuilder::new("stray").labelled(&[("app", "other")]).owned_by("uid-web").running();
    let foreign = PodBuilder::new("foreign").labelled(&[("app", "web")]).owned_by("uid-else").running();
    let plan = plan(&snapshot(set(1), &[orphan, stray, foreign]), now());
    assert_eq!(summary(&plan), ["confirm web", "adopt orphan", "release stray"]);
}

#[test]
fn a_set_on_its_way_out_makes_nothing() {
    let mut leaving = set(3);
    leaving.metadata.deletion_timestamp = Some(testing::ago(0));
    assert_eq!(summary(&plan(&snapshot(leaving, &[own("a")]), now())).len(), 0);
}

fn status_of(plan: &Plan) -> serde_json::Value {
    let Verb::Patch { body, .. } = &plan.actions().next().unwrap().verb else { panic!() };
    body["status"].clone()
}

#[test]
fn the_status_counts_and_waits_for_min_ready() {
    let mut waiting = set(3);
    waiting.spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let pods = [own("a").ready_for(40), own("b").ready_for(10), own("c")];
    let plan = settle(&snapshot(waiting, &pods), None, now());
    let status = status_of(&plan);
    assert_eq!(status["replicas"], 3);
    assert_eq!(status["readyReplicas"], 2);
    assert_eq!(status["availableReplicas"], 1);
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(plan.report.again, Some(Duration::from_secs(20)));
}

#[test]
fn a_failure_is_a_condition_until_it_is_over() {
    let refused = json!({ "code": 403, "reason": "Forbidden", "message": "exceeded quota" });
    let failure = Failure {
        action: "create",
        what: "pods".into(),
        key: Key::new("ns", ""),
        error: ActionError::Refused(serde_json::from_value(refused).unwrap()),
    };
    let plan = settle(&snapshot(set(1), &[]), Some(&failure), now());
    let condition = &status_of(&plan)["conditions"][0];
    assert_eq!(condition["type"], "ReplicaFailure");
    assert_eq!(condition["reason"], "FailedCreate");
    assert_eq!(condition["message"], "exceeded quota");

    let mut failed = set(1);
    let mut value = json!(failed);
    testing::apply_merge(&mut value, &json!({ "status": status_of(&plan) }));
    failed = serde_json::from_value(value).unwrap();
    let plan = settle(&snapshot(failed, &[own("a")]), None, now());
    assert!(status_of(&plan)["conditions"].is_null());
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let first = settle(&snapshot(set(1), &[own("a").ready_for(5)]), None, now());
    let mut value = json!(set(1));
    testing::apply_merge(&mut value, &json!({ "status": status_of(&first) }));
    let known: ReplicaSet = serde_json::from_value(value).unwrap();
    let snapshot = snapshot(known, &[own("a").ready_for(5)]);
    assert_eq!(plan(&snapshot, now()).steps, []);
    assert_eq!(settle(&snapshot, None, now()).steps, []);
}
