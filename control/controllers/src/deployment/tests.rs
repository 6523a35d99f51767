//! Scenes of a deployment's life, one by one.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::simulation::{World, template};
use super::*;
use super::{conditions, hash, revision};
use crate::plan::{ActionError, Failure};
use crate::testing;

fn world(replicas: i32) -> World {
    World::new(replicas, IntOrString::String("25%".into()), IntOrString::String("25%".into()))
}

#[test]
fn a_new_deployment_gets_its_set_in_one_round() {
    let mut world = world(3);
    world.round();
    assert_eq!(world.sizes(), [(3, 0)]);
    assert_eq!(world.reason().as_deref(), Some(conditions::CREATED));
    let set = &world.sets[0];
    let hash = &set.metadata.labels.as_ref().unwrap()[hash::LABEL];
    assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    let spec = set.spec.as_ref().unwrap();
    assert_eq!(spec.selector.match_labels.as_ref().unwrap()[hash::LABEL], *hash);
    assert_eq!(world.revisions(), [1]);
    assert_eq!(revision::of(world.deployment.metadata.annotations.as_ref()), 1);
    let name = set.metadata.name.clone().unwrap();
    assert_eq!(world.events, [format!("Scaled up replica set {name} from 0 to 3")]);
    world.settle_down();
    assert_eq!(world.reason().as_deref(), Some(conditions::COMPLETE));
}

#[test]
fn a_rolling_update_goes_step_by_step() {
    let mut world = world(4);
    world.settle_down();
    world.set_image("v2");
    let mut steps = Vec::new();
    for _ in 0..30 {
        world.round();
        let sizes: Vec<i32> = world.sizes().iter().map(|(size, _)| *size).collect();
        if steps.last() != Some(&sizes) {
            steps.push(sizes);
        }
        world.all_pods_ready();
    }
    let expected: [&[i32]; 5] = [&[4, 1], &[2, 1], &[2, 3], &[0, 3], &[0, 4]];
    assert_eq!(steps, expected, "surge 1, unavailable 1 of 4");
}

#[test]
fn a_rollback_reuses_the_old_set_under_a_new_revision() {
    let mut world = world(2);
    world.settle_down();
    world.set_image("v2");
    world.settle_down();
    assert_eq!(world.revisions(), [1, 2]);
    world.set_image("v1");
    world.settle_down();
    assert_eq!(world.revisions(), [3, 2]);
    assert_eq!(world.sizes(), [(2, 2), (0, 0)]);
    let annotations = world.sets[0].metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations[revision::HISTORY], "1");
    assert_eq!(revision::of(world.deployment.metadata.annotations.as_ref()), 3);
}

#[test]
fn pause_stops_a_rollout_and_resume_goes_on() {
    let mut world = world(4);
    world.settle_down();
    world.set_image("v2");
    world.round();
    world.change(|spec| spec.paused = Some(true));
    world.settle_down();
    assert_eq!(world.sizes(), [(4, 4), (1, 1)]);
    assert_eq!(world.reason().as_deref(), Some(conditions::PAUSED));
    world.change(|spec| spec.paused = Some(false));
    world.settle_down();
    assert_eq!(world.sizes(), [(0, 0), (4, 4)]);
    assert_eq!(world.reason().as_deref(), Some(conditions::COMPLETE));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_keeps_proportions() {
    let mut world = World::new(10, IntOrString::Int(3), IntOrString::Int(2));
    world.settle_down();
    world.set_image("v2");
    world.round();
    world.run_pods(0, 10);
    world.round();
    let before: Vec<i32> = world.sizes().iter().map(|(size, _)| *size).collect();
    assert_eq!(before, [8, 3]);
    world.round();
    world.change(|spec| spec.replicas = Some(20));
    world.round();
    // 13 pods were allowed, now 23: each set grows in proportion, the larger one takes what rounding leaves.
    let after: Vec<i32> = world.sizes().iter().map(|(size, _)| *size).collect();
    assert_eq!(after.iter().sum::<i32>(), 23);
    assert!(after[0] > after[1] && after[1] > 5, "{after:?}");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = world(2);
    world.change(|spec| spec.strategy.as_mut().unwrap().type_ = Some("Recreate".into()));
    world.settle_down();
    world.set_image("v2");
    world.round();
    assert_eq!(world.sizes(), [(0, 2)]);
    let plan = world.round();
    assert!(plan.steps.is_empty(), "old pods still run: {plan:?}");
    world.run_pods(0, 0);
    world.round();
    assert_eq!(world.sizes(), [(0, 0), (2, 0)]);
}

#[test]
fn a_stuck_rollout_is_reported_when_its_deadline_has_passed() {
    let mut world = world(2);
    world.settle_down();
    world.set_image("broken");
    world.round();
    world.run_pods(1, 0);
    let plan = world.round();
    assert!(plan.report.again.is_some(), "the deadline must be watched");
    world.round();
    assert_eq!(world.reason().as_deref(), Some("ReplicaSetUpdated"));
    world.now += SignedDuration::from_secs(601);
    world.round();
    assert_eq!(world.reason().as_deref(), Some(conditions::TIMED_OUT));
    world.set_image("v1");
    world.settle_down();
    assert_eq!(world.reason().as_deref(), Some(conditions::COMPLETE));
}

#[test]
fn a_name_that_another_template_has_gives_a_collision() {
    let mut world = world(1);
    let taken = format!("web-{}", hash::of(&template("v1"), None));
    let mut other = ReplicaSet { metadata: testing::meta(&taken), ..ReplicaSet::default() };
    other.metadata.labels = Some(testing::labels(&[("app", "else")]));
    world.sets.push(other);
    world.round();
    assert_eq!(world.sets.len(), 1);
    assert_eq!(world.deployment.status.as_ref().unwrap().collision_count, Some(1));
    world.round();
    assert_eq!(world.sets.len(), 2);
    let name = world.sets[1].metadata.name.clone().unwrap();
    assert_eq!(name, format!("web-{}", hash::of(&template("v1"), Some(1))));
}

#[test]
fn a_set_that_cannot_be_created_is_reported() {
    let world = world(1);
    let snapshot = Snapshot { deployment: Arc::new(world.deployment.clone()), ..Snapshot::default() };
    let status = serde_json::json!({ "code": 403, "reason": "Forbidden", "message": "exceeded quota" });
    let failure = Failure {
        action: "create",
        what: "replicasets.apps".into(),
        key: Key::new("ns", "web-1"),
        error: ActionError::Refused(serde_json::from_value(status).unwrap()),
    };
    let plan = settle(&snapshot, Some(&failure), world.now);
    let text = format!("{plan:?}");
    assert!(text.contains("FailedCreate") && text.contains("exceeded quota"), "{text}");
}

#[test]
fn a_selector_that_matches_everything_is_refused_with_an_event() {
    let mut world = world(1);
    world.change(|spec| {
        spec.selector = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector::default()
    });
    let plan = world.round();
    assert_eq!(plan.actions().count(), 0);
    assert!(format!("{plan:?}").contains("SelectingAll"), "{plan:?}");
}
