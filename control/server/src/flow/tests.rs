//! Which requests belong where, and what a flood does to others.

use std::time::Duration;

use futures::FutureExt;
use http::Method;
use serde_json::json;

use super::*;

fn info(method: &Method, path: &str) -> (RequestInfo, Query) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = Query::parse(query).unwrap();
    (RequestInfo::parse(method, path, &query).unwrap(), query)
}

fn account(namespace: &str, name: &str) -> UserInfo {
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), groups)
}

#[test]
fn requests_belong_where_upstream_has_them() {
    let flow = FlowControl::default();
    let node = UserInfo::new("system:node:n", ["system:nodes"]);
    let manager = UserInfo::new("system:kube-controller-manager", []);
    let pods = "/api/v1/namespaces/web/pods";
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
    for (user, method, path, schema, level) in [
        (UserInfo::new("root", ["system:masters"]), Method::GET, pods, "exempt", "exempt"),
        (UserInfo::new("jane", []), Method::GET, "/readyz", "probes", "exempt"),
        (UserInfo::new("jane", []), Method::GET, "/metrics", "global-default", "global-default"),
        (UserInfo::new("jane", []), Method::POST, pods, "global-default", "global-default"),
        (node.clone(), Method::GET, "/api/v1/nodes/n", "system-node-high", "node-high"),
        (node.clone(), Method::PATCH, "/api/v1/nodes/n/status", "system-node-high", "node-high"),
        (node.clone(), Method::PUT, lease, "system-node-high", "node-high"),
        (node, Method::GET, pods, "system-nodes", "system"),
        (manager.clone(), Method::PUT, lease, "system-leader-election", "leader-election"),
        (
            manager.clone(),
            Method::PUT,
            "/api/v1/namespaces/a/endpoints/b",
            "endpoint-controller",
            "workload-high",
        ),
        (manager, Method::GET, pods, "kube-controller-manager", "workload-high"),
        (account("kube-system", "dns"), Method::GET, pods, "kube-system-service-accounts", "workload-high"),
        (account("web", "app"), Method::GET, pods, "service-accounts", "workload-low"),
    ] {
        let (info, _) = info(&method, path);
        let rules = flow.rules.read().clone();
        let entry = rules.entries.iter().find(|e| e.schema.matches(&info, &user)).unwrap();
        assert_eq!((&*entry.schema.name, &*entry.level.name), (schema, level), "{} {path}", user.name);
    }
}

async fn enter(flow: &FlowControl, user: &UserInfo, origin: Origin) -> Result<Option<Admitted>, ApiError> {
    let (info, query) = info(&Method::POST, "/api/v1/namespaces/web/pods");
    let mut marks = None;
    let entered = flow.enter(&info, &query, user, origin, &mut marks).await;
    assert!(marks.is_some());
    entered
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_turned_away_and_others_get_in() {
    let flow = Arc::new(FlowControl::default());
    let (flood, quiet) = (UserInfo::new("flood", []), UserInfo::new("quiet", []));
    let mut running = Vec::new();
    // 600 seats, 20 of 245 shares.
    for _ in 0..49 {
        running.push(enter(&flow, &flood, Origin::Network).now_or_never().expect("waits").unwrap());
    }
    let waiting: Vec<_> = (0..300)
        .map(|_| {
            let (flow, flood) = (flow.clone(), flood.clone());
            tokio::spawn(async move { enter(&flow, &flood, Origin::Network).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = enter(&flow, &flood, Origin::Network).await.err().expect("a hand of queues is full");
    assert_eq!((refused.code, refused.retry_after_seconds()), (429, Some(1)));
    assert!(
        enter(&flow, &UserInfo::new("root", ["system:masters"]), Origin::Network).now_or_never().is_some()
    );
    assert!(enter(&flow, &quiet, Origin::Process).now_or_never().is_some(), "a part of the process waits");
    assert!(
        enter(&flow, &account("web", "a"), Origin::Network).now_or_never().is_some(),
        "another level waits"
    );
    let others = tokio::spawn({
        let flow = flow.clone();
        async move { enter(&flow, &quiet, Origin::Network).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(flow.in_flight(), (0, 49));
    // One of seven queues with work, all the others the flood's: more than its turn is past by now.
    running.clear();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(others.is_finished(), "the quiet one waits behind the flood");
    drop(others);
    let mut page = String::new();
    super::page(&mut page, &flow);
    let rejected = "rejected_requests_total{priority_level=\"global-default\",flow_schema=\"global-default\",reason=\"queue-full\"} 1";
    assert!(page.contains(rejected), "{page}");
    // Nobody waits for ever, and who went away leaves nothing behind.
    tokio::time::sleep(Duration::from_secs(16)).await;
    let mut codes: Vec<u16> = Vec::new();
    for task in waiting {
        codes.push(task.await.unwrap().err().map_or(200, |e| e.code));
    }
    assert!(codes.iter().filter(|c| **c == 429).count() > 240, "{codes:?}");
    drop(running);
    assert_eq!(flow.in_flight(), (0, 0));
    assert!(enter(&flow, &flood, Origin::Network).now_or_never().is_some());
}

#[tokio::test]
async fn seats_are_borrowed_where_they_are_wanted() {
    let flow = FlowControl::default();
    let limit = || flow.rules.read().levels["global-default"].0.limits().1;
    assert_eq!(limit(), 49);
    let user = UserInfo::new("flood", []);
    let held: Vec<_> = (0..49).map(|_| enter(&flow, &user, Origin::Network).now_or_never()).collect();
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let mut waiting = Box::pin(enter(&flow, &user, Origin::Network));
            assert!((&mut waiting).now_or_never().is_none());
            waiting
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(5)).await;
    flow.adjust();
    assert!(limit() > 100, "{}", limit());
    let done = waiting.into_iter().filter_map(FutureExt::now_or_never).count();
    assert!(done > 50, "{done}");
    drop(held);
}

#[test]
fn lists_cost_by_what_they_read() {
    let flow = FlowControl::default();
    let row = carrack_api::find("", "v1", "pods").unwrap();
    flow.stored.write().insert(row.storage_prefix, 750);
    for (path, seats) in [
        ("/api/v1/pods", 8),
        ("/api/v1/pods?limit=100", 1),
        ("/api/v1/pods?limit=500&labelSelector=a", 8),
        ("/api/v1/namespaces/a/pods/b", 1),
        ("/api/v1/pods?watch=1", 1),
        ("/api/v1/pods?watch=1&sendInitialEvents=true", 8),
        ("/api/v1/secrets", 1),
    ] {
        let (info, query) = info(&Method::GET, path);
        assert_eq!(flow.estimate(&info, &query), seats, "{path}");
    }
}

#[test]
fn changed_objects_judge_and_what_leads_nowhere_does_not() {
    let flow = FlowControl::default();
    let mut schemas = bootstrap::schemas();
    let mut mine = schemas.iter().find(|s| s["metadata"]["name"] == "global-default").unwrap().clone();
    mine["metadata"] = json!({"name": "mine", "uid": "u-1"});
    mine["spec"]["matchingPrecedence"] = json!(3);
    mine["spec"]["priorityLevelConfiguration"]["name"] = json!("system");
    schemas.push(mine);
    let mut nowhere = schemas[0].clone();
    nowhere["metadata"] = json!({"name": "a-nowhere"});
    nowhere["spec"]["priorityLevelConfiguration"]["name"] = json!("none");
    schemas.push(nowhere);
    let before = flow.rules.read().levels["system"].0.clone();
    flow.configure(&schemas, &bootstrap::levels());
    let rules = flow.rules.read().clone();
    let (info, _) = info(&Method::GET, "/api/v1/pods");
    let entry = rules.entries.iter().find(|e| e.schema.matches(&info, &UserInfo::new("jane", []))).unwrap();
    assert_eq!((&*entry.schema.name, entry.marks.schema.to_str().unwrap()), ("mine", "u-1"));
    assert!(Arc::ptr_eq(&entry.level, &before), "a level goes on");
    assert!(rules.entries.iter().all(|e| e.schema.name != "a-nowhere"));
}

#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture judging"]
#[allow(clippy::print_stdout)]
fn judging_takes_microseconds() {
    let (flow, user) = (FlowControl::default(), account("web", "app"));
    let began = Instant::now();
    for _ in 0..100_000 {
        drop(enter(&flow, &user, Origin::Network).now_or_never().unwrap().unwrap());
    }
    println!("{:?} for each request", began.elapsed() / 100_000);
}
