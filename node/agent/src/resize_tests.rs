//! What [`resize`](crate::resize) decides.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::resize::{
    Amounts, Change, Verdict, allocate, allocated_pod, changes, is_settled, judge, memory_decreases, refusal,
    request_of, summary,
};
use crate::state::{Containers, Run};

fn sized(cpu: &str, memory: &str) -> Value {
    json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "cpu": cpu, "memory": memory } })
}

fn pod(a: Value, policy: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "generation": 2 }, "spec": { "containers": [
        { "name": "a", "resources": a, "resizePolicy": policy },
        { "name": "b", "resources": sized("100m", "10Mi") },
    ] } }))
    .unwrap()
}

/// Both containers run with what the pod wants.
fn running(pod: &Pod) -> Containers {
    let mut containers = Containers::new();
    allocate(pod, &mut containers, false);
    for state in containers.values_mut() {
        state.run = Run::Running { id: "x".into(), pid: 1, started_at: Timestamp::UNIX_EPOCH };
        state.applied = state.allocated.clone();
    }
    containers
}

#[test]
fn what_a_pod_asks_for_counts_sidecars_and_the_largest_init_container() {
    let requests = |cpu: &str| json!({ "requests": { "cpu": cpu, "memory": "1Ki" } });
    let pod: Pod = serde_json::from_value(json!({ "spec": {
        "initContainers": [
            { "name": "side", "restartPolicy": "Always", "resources": requests("500m") },
            { "name": "once", "resources": requests("3") },
        ],
        "containers": [{ "name": "a", "resources": requests("1") }, { "name": "b", "resources": {} }],
        "overhead": { "cpu": "100m" },
    } }))
    .unwrap();
    assert_eq!(request_of(&pod), Amounts { cpu: 3600, memory: 2048 });
}

#[test]
fn what_fits_is_granted_and_what_never_can_is_told_apart() {
    let cpu = |cpu| Amounts { cpu, memory: 100 };
    let verdict = |wanted, used| judge(cpu(wanted), cpu(1000), cpu(used), Amounts { cpu: 4000, memory: 150 });
    assert_eq!(verdict(3000, 1000), Verdict::Granted);
    assert_eq!(verdict(500, 9000), Verdict::Granted, "what becomes smaller always fits");
    let why = "Node didn't have enough resource: cpu, requested: 3001, used: 1000, capacity: 4000";
    assert_eq!(verdict(3001, 1000), Verdict::Deferred(why.into()));
    let why = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000";
    assert_eq!(verdict(5000, 0), Verdict::Infeasible(why.into()));
}

#[test]
fn a_wish_changes_nothing_until_it_is_allocated() {
    let old = pod(sized("100m", "10Mi"), json!([]));
    let mut containers = running(&old);
    let new = pod(sized("200m", "10Mi"), json!([]));
    assert!(is_settled(&old, &containers) && !is_settled(&new, &containers));
    assert!(is_settled(&pod(sized("0.1", "10240Ki"), json!([])), &containers), "the same in other words");
    allocate(&new, &mut containers, false);
    assert_eq!(changes(&new, &containers), []);
    assert_eq!(request_of(&allocated_pod(&new, &containers)).cpu, 200);
    allocate(&new, &mut containers, true);
    assert_eq!(changes(&new, &containers), [("a".to_owned(), Change::Update)]);
    containers.get_mut("a").unwrap().run = Run::Absent;
    assert_eq!(changes(&new, &containers), [], "what does not run starts with what it is allocated");
}

#[test]
fn the_policy_of_what_changes_decides_about_a_restart() {
    let policy = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
    let old = pod(sized("100m", "10Mi"), policy.clone());
    for (cpu, memory, expected) in
        [("200m", "10Mi", Change::Update), ("100m", "20Mi", Change::Restart), ("1", "20Mi", Change::Restart)]
    {
        let mut containers = running(&old);
        let new = pod(sized(cpu, memory), policy.clone());
        allocate(&new, &mut containers, true);
        assert_eq!(changes(&new, &containers), [("a".to_owned(), expected)], "{cpu} {memory}");
    }
}

#[test]
fn memory_limits_come_down_only_above_what_is_in_use() {
    let old = pod(sized("100m", "30Mi"), json!([]));
    let mut containers = running(&old);
    let new = pod(sized("100m", "20Mi"), json!([]));
    allocate(&new, &mut containers, true);
    let decreases = memory_decreases(&new, &containers);
    assert_eq!(decreases, [(None, 30 << 20), (Some("a".to_owned()), 20 << 20)]);
    assert_eq!(refusal(&decreases, |_| 19 << 20), None);
    assert_eq!(
        refusal(&decreases, |name| if name.is_some() { 20 << 20 } else { 0 }).unwrap(),
        "cannot decrease memory limits: attempting to set container \"a\" memory limit (20971520) below current usage (20971520)"
    );
    assert_eq!(
        refusal(&decreases, |_| 40 << 20).unwrap(),
        "cannot decrease memory limits: [attempting to set pod memory limit (31457280) below current usage (41943040), \
         attempting to set container \"a\" memory limit (20971520) below current usage (41943040)]"
    );
    let restarts = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
    let new = pod(sized("100m", "20Mi"), restarts);
    assert_eq!(memory_decreases(&new, &containers), [], "a new run begins with nothing in use");
}

#[test]
fn events_tell_what_was_wanted() {
    let told = summary(&pod(json!({ "limits": { "cpu": "1" } }), json!([])), Some("no"));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["containers"][0], json!({ "name": "a", "resources": { "limits": { "cpu": "1" } } }));
    assert_eq!((&told["generation"], &told["error"]), (&json!(2), &json!("no")));
    assert!(told.get("initContainers").is_none());
}
