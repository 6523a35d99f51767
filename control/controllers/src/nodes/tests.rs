//! Nodes that fall silent, how fast their pods go, and whose range is whose.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use serde_json::json;

use super::cidr::{self, Range};
use super::eviction;
use super::health::{self, Evict, Limits};
use super::zones::{self, Pace};
use super::{NOT_READY, UNREACHABLE, taints};
use crate::cache::Node;
use crate::plan::{Plan, Verb};
use crate::testing::{PodBuilder, ago, now};

fn node(name: &str, ready: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": name, "resourceVersion": "1" },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] },
    }))
    .unwrap()
}

fn in_zone(mut node: Node, zone: &str) -> Node {
    node.metadata.labels = Some(crate::testing::labels(&[("topology.kubernetes.io/zone", zone)]));
    node
}

fn keys(taints: &[Taint]) -> Vec<(String, String)> {
    taints.iter().map(|t| (t.key.clone(), t.effect.clone())).collect()
}

fn pair(key: &str, effect: &str) -> (String, String) {
    (key.to_owned(), effect.to_owned())
}

#[test]
fn taints_follow_conditions_and_leave_those_of_others() {
    let mut sick = node("n", "Unknown");
    sick.spec.unschedulable = true;
    sick.spec.taints = vec![
        Taint { key: "mine".into(), effect: "NoSchedule".into(), ..Taint::default() },
        Taint { key: NOT_READY.into(), effect: "NoExecute".into(), ..Taint::default() },
        Taint {
            key: UNREACHABLE.into(),
            effect: "NoSchedule".into(),
            time_added: Some(ago(99)),
            ..Taint::default()
        },
    ];
    let wanted = taints::wanted(&sick, taints::evicting(&sick), now());
    let expected = [
        pair("mine", "NoSchedule"),
        pair(UNREACHABLE, "NoSchedule"),
        pair("node.kubernetes.io/unschedulable", "NoSchedule"),
        pair(UNREACHABLE, "NoExecute"),
    ];
    assert_eq!(keys(&wanted), expected);
    assert_eq!(wanted[1].time_added, Some(ago(99)), "a taint that stays keeps its time");
    sick.spec.unschedulable = false;
    sick.status.conditions[0].status = "True".into();
    assert_eq!(keys(&taints::wanted(&sick, None, now())), [pair("mine", "NoSchedule")]);
}

#[test]
fn a_node_that_never_spoke_keeps_the_taint_it_came_with() {
    let mut fresh = node("n", "True");
    fresh.status.conditions.clear();
    let taint = Taint { key: NOT_READY.into(), effect: "NoSchedule".into(), ..Taint::default() };
    fresh.spec.taints = vec![taint.clone()];
    assert_eq!(taints::wanted(&fresh, None, now()), [taint]);
}

fn snapshot(node: Node, silent_for: i64, evict: Evict) -> health::Snapshot {
    health::Snapshot {
        node: Arc::new(node),
        heard: now() - SignedDuration::from_secs(silent_for),
        pods: vec![PodBuilder::new("p").on("n").running().ready_for(9).arc()],
        evict,
        limits: Limits { grace: Duration::from_secs(40), startup_grace: Duration::from_secs(60) },
    }
}

fn written(plan: &Plan) -> Vec<String> {
    plan.actions()
        .map(|a| match &a.verb {
            Verb::Patch { body, .. } => {
                format!("{} {}", a.resource.kind, if body["status"].is_null() { "taints" } else { "status" })
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_silent_node_becomes_unknown_when_its_grace_is_over() {
    let quiet = health::plan(&snapshot(node("n", "True"), 39, Evict::Now), now());
    assert_eq!((quiet.steps.len(), quiet.report.again), (0, Some(Duration::from_secs(1))));
    let silent = health::plan(&snapshot(node("n", "True"), 40, Evict::Now), now());
    assert_eq!(written(&silent), ["Node status"]);
    let unknown = health::plan(&snapshot(node("n", "Unknown"), 60, Evict::Now), now());
    let Verb::Patch { body, .. } = &unknown.actions().next().unwrap().verb else { panic!() };
    assert_eq!(body["status"]["conditions"][0]["type"], "MemoryPressure", "what was never reported follows");
    assert_eq!(written(&unknown), ["Node status", "Pod status", "Node taints"]);
}

#[test]
fn evictions_wait_for_their_turn_and_are_called_off_when_all_is_dark() {
    let judge = |evict| {
        let mut gone = node("n", "Unknown");
        for type_ in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
            let condition = json!({ "type": type_, "status": "Unknown" });
            gone.status.conditions.push(serde_json::from_value(condition).unwrap());
        }
        gone.spec.taints =
            vec![Taint { key: UNREACHABLE.into(), effect: "NoSchedule".into(), ..Taint::default() }];
        let mut snapshot = snapshot(gone, 60, evict);
        snapshot.pods.clear();
        health::plan(&snapshot, now())
    };
    assert_eq!(written(&judge(Evict::Now)), ["Node taints"]);
    let later = judge(Evict::After(Duration::from_secs(7)));
    assert_eq!((written(&later).len(), later.report.again), (0, Some(Duration::from_secs(7))));
    assert_eq!(written(&judge(Evict::Stopped)).len(), 0);
    assert_eq!(written(&judge(Evict::CalledOff)).len(), 0);
}

#[test]
fn the_pace_depends_on_how_much_of_a_zone_is_gone() {
    let fleet = |ready: usize, gone: usize, zone: &str| {
        let up = (0..ready).map(|_| in_zone(node("n", "True"), zone));
        up.chain((0..gone).map(|_| in_zone(node("n", "Unknown"), zone))).collect::<Vec<_>>()
    };
    let pace = |nodes: &[Node], zone: &str| zones::pace(nodes.iter(), &format!("/{zone}"));
    let every = |seconds: u64| Pace::Every(Duration::from_secs(seconds));
    assert_eq!(pace(&fleet(1, 1, "a"), "a"), every(10));
    assert_eq!(pace(&fleet(4, 6, "a"), "a"), Pace::Stopped);
    assert_eq!(pace(&fleet(40, 60, "a"), "a"), every(100));
    assert_eq!(pace(&fleet(0, 1, "a"), "a"), Pace::CutOff, "the only node: this side may be cut off");
    let two_zones = [fleet(0, 5, "a"), fleet(3, 0, "b")].concat();
    assert_eq!(pace(&two_zones, "a"), every(10));
    let both_dark = [fleet(0, 5, "a"), fleet(0, 3, "b")].concat();
    assert_eq!(pace(&both_dark, "a"), Pace::CutOff);
}

fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
    Toleration {
        key: Some(key.into()).filter(|k: &String| !k.is_empty()),
        operator: Some("Exists".into()),
        toleration_seconds: seconds,
        ..Toleration::default()
    }
}

fn evict(tolerations: Vec<Toleration>, tainted_for: i64, scheduled_for: i64) -> Plan {
    let mut pod = PodBuilder::new("p").on("n").running().aged(scheduled_for);
    pod.0.spec.tolerations = tolerations;
    let taint = Taint {
        key: UNREACHABLE.into(),
        effect: "NoExecute".into(),
        time_added: Some(ago(tainted_for)),
        ..Taint::default()
    };
    eviction::plan(&eviction::Snapshot { pod: pod.arc(), taints: vec![taint] }, now())
}

#[test]
fn pods_go_when_their_patience_ends() {
    let deleted = |plan: &Plan| plan.actions().any(|a| matches!(a.verb, Verb::Delete { .. }));
    assert!(deleted(&evict(vec![], 0, 1000)));
    assert_eq!(evict(vec![toleration("", None)], 1000, 1000), Plan::none());
    let waiting = evict(vec![toleration(UNREACHABLE, Some(300))], 100, 1000);
    assert_eq!((deleted(&waiting), waiting.report.again), (false, Some(Duration::from_secs(200))));
    assert!(deleted(&evict(vec![toleration(UNREACHABLE, Some(300))], 300, 1000)));
    let late = evict(vec![toleration(UNREACHABLE, Some(300))], 1000, 10);
    assert_eq!(late.report.again, Some(Duration::from_secs(290)), "it came after the taint");
    let shortest = vec![toleration(UNREACHABLE, None), toleration(UNREACHABLE, Some(20))];
    assert_eq!(evict(shortest, 5, 1000).report.again, Some(Duration::from_secs(15)));
    assert!(deleted(&evict(vec![toleration(NOT_READY, None)], 0, 1000)), "another taint's toleration");
}

fn range() -> Range {
    Range::new("10.244.0.0/16".parse().unwrap(), 24).unwrap()
}

fn with_range(name: &str, cidr: &str) -> Arc<Node> {
    let mut node = node(name, "True");
    node.spec.pod_cidr = Some(cidr.into());
    Arc::new(node)
}

fn assigned(plan: &Plan) -> Vec<(String, String)> {
    plan.actions()
        .map(|a| {
            let Verb::Patch { body, .. } = &a.verb else { panic!() };
            assert_eq!(body["spec"]["podCIDRs"][0], body["spec"]["podCIDR"]);
            (a.key.name.clone(), body["spec"]["podCIDR"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn each_node_gets_the_first_free_range() {
    let fresh = |name: &str| Arc::new(node(name, "True"));
    let nodes = vec![
        fresh("b"),
        with_range("x", "10.244.0.0/24"),
        fresh("a"),
        // Set up by hand, of another size.
        with_range("wide", "10.244.2.0/23"),
    ];
    let plan = cidr::plan(&cidr::Snapshot { ranges: vec![range()], nodes });
    assert_eq!(assigned(&plan), [pair("a", "10.244.1.0/24"), pair("b", "10.244.4.0/24")]);
}

#[test]
fn a_full_range_is_said() {
    let small = Range::new("10.0.0.0/24".parse().unwrap(), 24).unwrap();
    let nodes = vec![with_range("x", "10.0.0.0/24"), Arc::new(node("y", "True"))];
    let plan = cidr::plan(&cidr::Snapshot { ranges: vec![small], nodes });
    assert_eq!(plan.actions().count(), 0);
    assert!(format!("{plan:?}").contains("CIDRNotAvailable"));
    assert!(Range::new("10.0.0.0/24".parse().unwrap(), 16).is_err());
}
