//! Decisions: messages in upstream's words, scores, and that filters over columns agree with the question about a single
//! node.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::framework::Candidates;
use crate::plugins::default_framework;
use crate::pod::Usage;
use crate::view::{Node, Pod};

fn node(name: &str, change: Value) -> Node {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "zone": "a" } },
        "spec": {},
        "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" } },
    });
    merge(&mut node, &change);
    serde_json::from_value(node).unwrap()
}

fn merge(target: &mut Value, change: &Value) {
    match change {
        Value::Object(change) if target.is_object() => {
            let target = target.as_object_mut().unwrap();
            for (name, value) in change {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *target = change.clone(),
    }
}

fn pod(spec: Value) -> Arc<PodInfo> {
    let pod = json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "u" }, "spec": spec });
    PodInfo::of(&serde_json::from_value::<Pod>(pod).unwrap())
}

fn asking(requests: Value) -> Value {
    json!({ "containers": [{ "resources": { "requests": requests } }] })
}

fn table(nodes: &[Node]) -> Table {
    let mut table = Table::new();
    nodes.iter().for_each(|node| {
        table.set_node(node);
    });
    table
}

fn judge(table: &Table, spec: Value) -> Result<String, String> {
    match decide(&default_framework(), table, &pod(spec)) {
        Decision::Bind(choice) => Ok(choice.node.to_string()),
        Decision::Unschedulable(diagnosis) => Err(diagnosis.message()),
        Decision::Denied(reason) => Err(reason.into_owned()),
    }
}

fn refusal(nodes: &[Node], spec: Value) -> String {
    judge(&table(nodes), spec).unwrap_err()
}

#[test]
fn too_little_is_said_as_upstream_says_it() {
    assert_eq!(
        refusal(&[node("n", json!({}))], asking(json!({ "cpu": "3" }))),
        "0/1 nodes are available: 1 Insufficient cpu. \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    let mut full = table(&[node("n", json!({}))]);
    let spec = asking(json!({ "cpu": "1500m" }));
    full.place("other", "n", pod(spec.clone()).usage.clone(), false);
    assert_eq!(
        judge(&full, spec).unwrap_err(),
        "0/1 nodes are available: 1 Insufficient cpu. \
         preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_node_may_lack_several_things() {
    let message = refusal(
        &[node("n", json!({}))],
        asking(json!({ "cpu": "3", "memory": "5Gi", "example.com/gpu": "1" })),
    );
    assert!(
        message.starts_with(
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory."
        ),
        "{message}"
    );
}

#[test]
fn each_obstacle_has_its_words() {
    let taint = json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] } });
    let nodes = [
        node("cordoned", json!({ "spec": { "unschedulable": true } })),
        node("tainted", taint),
        node("elsewhere", json!({ "metadata": { "labels": { "zone": "b" } } })),
        node("small", json!({ "status": { "allocatable": { "cpu": "1" } } })),
        node("crowded", json!({ "status": { "allocatable": { "pods": "0" } } })),
    ];
    let mut spec = asking(json!({ "cpu": "2" }));
    spec["nodeSelector"] = json!({ "zone": "a" });
    assert_eq!(
        refusal(&nodes, spec),
        "0/5 nodes are available: 1 Insufficient cpu, 1 Too many pods, \
         1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {k: v}, \
         1 node(s) were unschedulable. preemption: 0/5 nodes are available: \
         5 Preemption is not helpful for scheduling."
    );
    assert_eq!(refusal(&[], json!({})), "no nodes available to schedule pods");
}

#[test]
fn what_is_not_built_is_refused_clearly() {
    let volume = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } });
    let message = refusal(&[node("n", json!({}))], json!({ "containers": [{}], "volumes": [volume] }));
    assert!(message.contains("persistent volume claims are not supported yet"), "{message}");
}

#[test]
fn required_terms_are_alternatives_and_requirements_add_up() {
    let term = |operator: &str, values: Value| json!({ "matchExpressions": [{ "key": "zone", "operator": operator, "values": values }] });
    let with = |terms: Value| {
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
        json!({ "containers": [{}], "affinity": affinity })
    };
    let nodes = [node("a", json!({})), node("b", json!({ "metadata": { "labels": { "zone": "7" } } }))];
    let table = table(&nodes);
    assert_eq!(
        judge(&table, with(json!([term("In", json!(["x"])), term("Gt", json!(["6"]))]))).unwrap(),
        "b"
    );
    assert_eq!(judge(&table, with(json!([term("NotIn", json!(["7"]))]))).unwrap(), "a");
    let name = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["b"] }] });
    assert_eq!(judge(&table, with(json!([name]))).unwrap(), "b");
    assert!(judge(&table, with(json!([{}]))).is_err(), "an empty term matches nothing");
}

#[test]
fn scores_prefer_empty_wanted_and_untainted_nodes() {
    let taint = json!({ "spec": { "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] } });
    let mut two = table(&[node("busy", json!({})), node("idle", json!({}))]);
    two.place("x", "busy", pod(asking(json!({ "cpu": "1", "memory": "2Gi" }))).usage.clone(), false);
    assert_eq!(judge(&two, asking(json!({ "cpu": "100m" }))).unwrap(), "idle");
    let avoided = table(&[node("avoided", taint), node("plain", json!({}))]);
    assert_eq!(judge(&avoided, json!({ "containers": [{}] })).unwrap(), "plain");
    let labels = json!({ "metadata": { "labels": { "disk": "ssd" } } });
    let preferred = json!([{ "weight": 10, "preference": { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] } }]);
    let wish = json!({
        "containers": [{}],
        "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": preferred } },
    });
    assert_eq!(judge(&table(&[node("a", json!({})), node("b", labels)]), wish).unwrap(), "b");
    let image = json!({ "status": { "images": [{ "names": ["big:latest"], "sizeBytes": 900_000_000 }] } });
    let images = table(&[node("a", json!({})), node("b", image)]);
    assert_eq!(judge(&images, json!({ "containers": [{ "image": "big" }] })).unwrap(), "b");
}

#[test]
fn equal_nodes_share_the_pods() {
    let nodes: Vec<Node> = (0..10).map(|n| node(&format!("n{n}"), json!({}))).collect();
    let mut table = table(&nodes);
    for n in 0..100 {
        let mut info = (*pod(asking(json!({ "cpu": "10m" })))).clone();
        info.uid = format!("pod-{n}");
        let Decision::Bind(choice) = decide(&default_framework(), &table, &info) else { panic!() };
        table.place(&info.uid, &choice.node, info.usage.clone(), true);
    }
    let used = &table.columns[crate::table::PODS].used;
    assert!(used.iter().all(|pods| *pods == 10), "{used:?}");
}

/// A node as random choices make it.
fn random_node() -> impl Strategy<Value = Node> {
    let taint = prop_oneof![
        4 => Just(json!([])),
        1 => Just(json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }])),
        1 => Just(json!([{ "key": "k", "effect": "NoExecute" }, { "key": "p", "effect": "PreferNoSchedule" }])),
    ];
    (1..5_u32, 0..3_u32, any::<bool>(), 0..4_u8, taint, 0..3_u8).prop_map(|(cpu, gpus, cordoned, zone, taints, pods)| {
        node(
            "to be named",
            json!({
                "metadata": { "labels": { "zone": zone.to_string() } },
                "spec": { "unschedulable": cordoned, "taints": taints },
                "status": { "allocatable": { "cpu": cpu.to_string(), "example.com/gpu": gpus.to_string(), "pods": pods.to_string() } },
            }),
        )
    })
}

fn random_pod() -> impl Strategy<Value = Value> {
    let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]);
    let required = (operator, 0..4_u8, any::<bool>()).prop_map(|(operator, value, field)| {
        let zone = json!({ "key": "zone", "operator": operator, "values": [value.to_string()] });
        let name = json!({ "key": "metadata.name", "operator": "NotIn", "values": [format!("n{value}")] });
        let mut term = json!({ "matchExpressions": [zone] });
        if field {
            term["matchFields"] = json!([name]);
        }
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [term] } } })
    });
    let tolerations = prop_oneof![
        Just(json!([])),
        Just(json!([{ "operator": "Exists" }])),
        Just(json!([{ "key": "k", "operator": "Exists", "effect": "NoSchedule" }])),
        Just(json!([{ "key": "k", "value": "v" }])),
    ];
    (0..4000_u32, 0..3_u32, prop::option::of(0..4_u8), prop::option::of(required), tolerations, any::<bool>())
        .prop_map(|(cpu, gpus, zone, affinity, tolerations, port)| {
            let ports = if port { json!([{ "containerPort": 1, "hostPort": 80 }]) } else { json!([]) };
            let requests = json!({ "cpu": format!("{cpu}m"), "example.com/gpu": gpus.to_string() });
            let mut spec = json!({
                "containers": [{ "resources": { "requests": requests }, "ports": ports }],
                "tolerations": tolerations,
            });
            if let Some(zone) = zone {
                spec["nodeSelector"] = json!({ "zone": zone.to_string() });
            }
            if let Some(affinity) = affinity {
                spec["affinity"] = affinity;
            }
            spec
        })
}

proptest! {
    #[test]
    fn filters_over_columns_agree_with_the_question_about_one_node(
        nodes in prop::collection::vec(random_node(), 0..80),
        placed in prop::collection::vec((0..80_usize, random_pod()), 0..60),
        spec in random_pod(),
    ) {
        let mut table = Table::new();
        for (index, node) in nodes.iter().enumerate() {
            let mut node = node.clone();
            node.metadata.name = Some(format!("n{index}"));
            table.set_node(&node);
        }
        for (index, (node, spec)) in placed.iter().enumerate() {
            let usage: Usage = pod(spec.clone()).usage.clone();
            table.place(&index.to_string(), &format!("n{node}"), usage, index % 2 == 0);
        }
        let framework = default_framework();
        let pod = pod(spec);
        for (_, plugin, _) in framework.at(Point::Filter) {
            let mut candidates = Candidates::all(&table);
            plugin.filter(&pod, &table, &mut candidates);
            for row in table.live.iter() {
                prop_assert_eq!(
                    candidates.left.contains(row),
                    plugin.admits(&pod, &table, row),
                    "{} on {}", plugin.name(), table.name(row)
                );
            }
        }
        let admitted = |row: Row| framework.at(Point::Filter).all(|(_, plugin, _)| plugin.admits(&pod, &table, row));
        match decide(&framework, &table, &pod) {
            Decision::Bind(choice) => prop_assert!(admitted(choice.row)),
            Decision::Unschedulable(diagnosis) => {
                prop_assert!(table.live.iter().all(|row| !admitted(row)));
                let kept_out: u32 = diagnosis.reasons.values().sum();
                prop_assert!(kept_out >= table.nodes());
            }
            Decision::Denied(reason) => prop_assert!(false, "{}", reason),
        }
    }
}
