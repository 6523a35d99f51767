//! The audit log of requests, as its readers find it.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "guarded/fake.rs"]
mod fake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_server::admission::{PodSecurity, PodSecurityConfig};
use carrack_server::audit::{Audit, LogOptions, Mode, WebhookOptions};
use carrack_server::{Config, Remote, StoreObjects};
use common::{Cluster, MAPS, map, pod};
use fake::Fake;
use serde_json::{Value, json};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: None, users: ['system:apiserver']}
- {level: None, nonResourceURLs: ['/metrics']}
- {level: RequestResponse, resources: [{resources: [configmaps]}], verbs: [create, list]}
- {level: Request, resources: [{resources: [configmaps]}], verbs: [patch], omitStages: [RequestReceived]}
- {level: Metadata}
";

async fn cluster(mode: Mode) -> (Cluster, PathBuf) {
    let cluster = Cluster::start().await;
    let path = cluster.dir.path().join("audit.log");
    tell(&cluster, Some(log(&path, mode)), None);
    (cluster, path)
}

fn log(path: &Path, mode: Mode) -> LogOptions {
    LogOptions { path: path.to_owned(), max_age: 0, max_backup: 0, max_size: 1, mode }
}

fn tell(cluster: &Cluster, log: Option<LogOptions>, webhook: Option<WebhookOptions>) {
    let policy = cluster.dir.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    cluster.api.set_audit(Audit::open(&policy, log, webhook).unwrap());
}

fn events(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stages(events: &[Value]) -> Vec<String> {
    let text = |e: &Value, key: &str| e[key].as_str().unwrap_or_default().to_owned();
    events.iter().map(|e| format!("{} {} {}", text(e, "verb"), text(e, "level"), text(e, "stage"))).collect()
}

#[tokio::test]
async fn requests_are_told_as_the_policy_says() {
    let (cluster, path) = cluster(Mode::Blocking).await;
    let client = cluster.client().with("audit-id", "my-id").with("user-agent", "tests/1");
    let made = client.post(MAPS, &map("a", "1")).await;
    assert_eq!(made.headers["audit-id"], "my-id");
    made.expect(201);
    let patch = json!({"data": {"k": "2"}});
    client.patch("merge", &format!("{MAPS}/a"), &patch).await.expect(200);
    client.get(MAPS).await.expect(200);
    client.get("/metrics").await;
    client.get(&format!("{MAPS}/none")).await.expect(404);
    cluster.client_as("nobody").get("/api/v1/nodes?limit=1").await.expect(403);
    let events = events(&path);
    assert_eq!(
        stages(&events),
        [
            "create RequestResponse RequestReceived",
            "create RequestResponse ResponseComplete",
            "patch Request ResponseComplete",
            "list RequestResponse RequestReceived",
            "list RequestResponse ResponseComplete",
            "get Metadata RequestReceived",
            "get Metadata ResponseComplete",
            "list Metadata RequestReceived",
            "list Metadata ResponseComplete",
        ]
    );
    let create = &events[1];
    assert_eq!(create["auditID"], "my-id");
    assert_eq!(create["user"], json!({"username": "tester", "groups": ["system:authenticated"]}));
    assert_eq!((&create["userAgent"], &create["sourceIPs"]), (&json!("tests/1"), &json!(["127.0.0.1"])));
    let object = json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"});
    assert_eq!(create["objectRef"], object);
    assert_eq!(create["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(create["requestObject"]["data"]["k"], "1");
    assert_eq!(create["responseObject"]["data"]["k"], "1");
    assert!(create["responseObject"]["metadata"]["uid"].is_string());
    assert!(create["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(create["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!((&events[2]["requestObject"], events[2].get("responseObject")), (&patch, None));
    assert_eq!(events[4]["responseObject"]["items"][0]["data"]["k"], "2");
    assert_eq!(
        (&events[6]["responseStatus"]["code"], &events[6]["responseStatus"]["reason"]),
        (&json!(404), &json!("NotFound"))
    );
    assert!(events[6].get("requestObject").is_none());
    let forbidden = &events[8];
    assert_eq!(forbidden["requestURI"], "/api/v1/nodes?limit=1");
    assert_eq!(forbidden["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(forbidden["responseStatus"]["code"], 403);
    let metrics = cluster.client().get("/metrics").await.text();
    assert!(metrics.contains("apiserver_audit_event_total 9\n"), "{metrics}");
    assert!(metrics.contains("apiserver_audit_level_total{level=\"RequestResponse\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn pod_security_tells_what_it_judged_by_and_whom_it_left_alone() {
    let exempt = PodSecurityConfig { namespaces: vec!["free".into()], ..PodSecurityConfig::default() };
    let plugin = move |config: &mut Config| {
        let objects = Arc::new(StoreObjects::new(config.store.clone()));
        config.admission = vec![Arc::new(PodSecurity::new(objects, exempt))];
    };
    let cluster = Cluster::with(plugin, Clone::clone).await;
    let path = cluster.dir.path().join("audit.log");
    tell(&cluster, Some(log(&path, Mode::Blocking)), None);
    let client = cluster.client();
    for (name, labels) in [
        ("strict", json!({"enforce": "baseline", "audit": "restricted"})),
        ("plain", json!({})),
        ("free", json!({"enforce": "baseline"})),
    ] {
        let labels = labels.as_object().unwrap().iter();
        let labels: Value =
            labels.map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), v.clone())).collect();
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        client.post("/api/v1/namespaces", &namespace).await.expect(201);
    }
    let mut host = pod("a");
    host["spec"]["hostPID"] = json!(true);
    for (namespace, code) in [("strict", 403), ("plain", 201), ("free", 201)] {
        client.post(&format!("/api/v1/namespaces/{namespace}/pods"), &host).await.expect(code);
    }
    let told = events(&path);
    let told =
        told.iter().filter(|e| e["objectRef"]["resource"] == "pods" && e["stage"] == "ResponseComplete");
    let told: Vec<&Value> = told.map(|event| &event["annotations"]).collect();
    let of = |index: usize, key: &str| told[index][format!("pod-security.kubernetes.io/{key}")].as_str();
    assert_eq!(of(0, "enforce-policy"), Some("baseline:latest"));
    let violations = of(0, "audit-violations").unwrap();
    assert!(
        violations.starts_with("would violate PodSecurity \"restricted:latest\": host namespaces"),
        "{violations}"
    );
    assert_eq!((of(1, "enforce-policy"), of(1, "audit-violations")), (Some("privileged:latest"), None));
    assert_eq!((of(2, "exempt"), of(2, "enforce-policy")), (Some("namespace"), None));
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let (cluster, path) = cluster(Mode::Blocking).await;
    let watch = cluster.client().watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(stages(&events(&path)), ["watch Metadata RequestReceived", "watch Metadata ResponseStarted"]);
    drop(watch);
    let all = events(&path);
    assert_eq!(stages(&all).last().unwrap(), "watch Metadata ResponseComplete");
    assert_eq!(all[2]["auditID"], all[0]["auditID"]);
}

#[tokio::test]
async fn who_goes_away_and_who_impersonates_is_told() {
    let (cluster, path) = cluster(Mode::Blocking).await;
    let client = cluster.client();
    let stalled = tokio::time::timeout(
        std::time::Duration::from_millis(50),
        client.stall(http::Method::PUT, "/api/v1/namespaces/default/services/a"),
    );
    stalled.await.expect_err("the body never comes");
    let all = events(&path);
    assert_eq!(stages(&all), ["update Metadata RequestReceived", "update Metadata ResponseComplete"]);
    assert_eq!(all[1]["responseStatus"]["code"], 499);
    client.with("impersonate-user", "jane").get("/api/v1/nodes").await.expect(200);
    let last = events(&path).pop().unwrap();
    assert_eq!(
        (&last["user"]["username"], &last["impersonatedUser"]["username"]),
        (&json!("tester"), &json!("jane"))
    );
}

#[tokio::test]
async fn an_event_refers_to_the_object_as_its_sender_does() {
    let (cluster, path) = cluster(Mode::Blocking).await;
    let client = cluster.client();
    let made = client.post(MAPS, &map("a", "1")).await.expect(201);
    client.put(&format!("{MAPS}/a"), &made).await.expect(200);
    let updated = events(&path).pop().unwrap();
    assert_eq!((&updated["verb"], &updated["level"]), (&json!("update"), &json!("Metadata")));
    let reference = &updated["objectRef"];
    assert_eq!(reference["uid"], made["metadata"]["uid"]);
    assert_eq!(reference["resourceVersion"], made["metadata"]["resourceVersion"]);
    client.patch("merge", &format!("{MAPS}/a"), &json!({"metadata": {"uid": made["metadata"]["uid"]}})).await;
    assert!(events(&path).pop().unwrap()["objectRef"].get("uid").is_none(), "a patch is no object");
}

#[tokio::test]
async fn a_batched_log_has_everything_a_moment_later() {
    let (cluster, path) = cluster(Mode::Batch).await;
    for _ in 0..20 {
        cluster.client().get("/api/v1/nodes").await.expect(200);
    }
    for _ in 0..100 {
        if events(&path).len() == 40 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} events", events(&path).len());
}

/// Waits until the page of metrics has a line.
async fn wait_for_metric(cluster: &Cluster, line: &str) {
    let began = Instant::now();
    loop {
        let page = cluster.client().get("/metrics").await.text();
        if page.lines().any(|found| found == line) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no {line} in {page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_webhook_gets_batches_and_what_it_does_not_take_is_counted() {
    let hook = Fake::start(|_, _| (200, json!({}))).await;
    let cluster = Cluster::start().await;
    let policy = cluster.dir.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let remote = Remote::open(&hook.kubeconfig(), Duration::from_secs(5)).unwrap();
    let options = WebhookOptions {
        max_size: 4,
        max_wait: Duration::from_millis(200),
        initial_backoff: Duration::from_millis(5),
        ..WebhookOptions::new(remote)
    };
    cluster.api.set_audit(Audit::open(&policy, None, Some(options)).unwrap());
    for _ in 0..3 {
        cluster.client().get("/api/v1/nodes").await.expect(200);
    }
    let began = Instant::now();
    while hook.count() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} batches", hook.count());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut batches = std::mem::take(&mut *hook.asked.lock().unwrap());
    // They are on their way at once.
    batches.sort_by_key(|batch| std::cmp::Reverse(batch["items"].as_array().unwrap().len()));
    assert_eq!(
        (&batches[0]["kind"], &batches[0]["apiVersion"]),
        (&json!("EventList"), &json!("audit.k8s.io/v1"))
    );
    let first = batches[0]["items"].as_array().unwrap();
    assert_eq!(stages(first)[1], "list Metadata ResponseComplete");
    assert_eq!((first.len(), batches[1]["items"].as_array().unwrap().len()), (4, 2));

    // What passes is tried again, what does not is lost.
    hook.answer(|_, _| (503, json!({})));
    cluster.client().get("/api/v1/nodes").await.expect(200);
    wait_for_metric(&cluster, "apiserver_audit_error_total{plugin=\"webhook\"} 2").await;
    assert_eq!(hook.count(), 5, "attempts");
    hook.answer(|_, _| (400, json!({})));
    cluster.client().get("/api/v1/nodes").await.expect(200);
    wait_for_metric(&cluster, "apiserver_audit_error_total{plugin=\"webhook\"} 4").await;
    assert_eq!(hook.count(), 6, "it will not take it the next time either");
    wait_for_metric(&cluster, "apiserver_audit_error_total{plugin=\"buffered\"} 0").await;
}

#[tokio::test]
async fn a_request_waits_for_a_blocking_webhook_and_goes_on_without_it() {
    let hook = Fake::start(|_, _| (200, json!({}))).await;
    let cluster = Cluster::start().await;
    let remote = Remote::open(&hook.kubeconfig(), Duration::from_secs(5)).unwrap();
    tell(&cluster, None, Some(WebhookOptions { mode: Mode::Blocking, ..WebhookOptions::new(remote) }));
    cluster.client().get("/api/v1/nodes").await.expect(200);
    let told = std::mem::take(&mut *hook.asked.lock().unwrap());
    let told: Vec<Value> = told.iter().flat_map(|list| list["items"].as_array().unwrap().clone()).collect();
    assert_eq!(stages(&told), ["list Metadata RequestReceived", "list Metadata ResponseComplete"]);
    hook.answer(|_, _| (400, json!({})));
    cluster.client().get("/api/v1/nodes").await.expect(200);
    wait_for_metric(&cluster, "apiserver_audit_error_total{plugin=\"webhook\"} 2").await;
}

#[tokio::test]
async fn a_strict_way_refuses_what_it_cannot_tell() {
    let hook = Fake::start(|_, _| (400, json!({}))).await;
    let cluster = Cluster::start().await;
    let remote = Remote::open(&hook.kubeconfig(), Duration::from_secs(5)).unwrap();
    let strict = WebhookOptions { mode: Mode::BlockingStrict, ..WebhookOptions::new(remote) };
    tell(&cluster, None, Some(strict));
    let refused = cluster.client().post(MAPS, &map("a", "1")).await.expect(500);
    assert_eq!(refused["message"], "Internal error occurred: failed to store audit event");
    assert_eq!(hook.count(), 1, "no more is told of what was not done");
    hook.answer(|_, _| (200, json!({})));
    cluster.client().get(&format!("{MAPS}/a")).await.expect(404);
    cluster.client().post(MAPS, &map("a", "1")).await.expect(201);

    for (mode, code) in [(Mode::BlockingStrict, 500), (Mode::Blocking, 200)] {
        let cluster = Cluster::start().await;
        tell(&cluster, Some(log(Path::new("/dev/full"), mode)), None);
        assert_eq!(cluster.client().get("/api/v1/nodes").await.code, code, "{mode:?}");
    }
}
