//! Create, get, update, patch and delete, with what can be wrong with each.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Cluster, DEPLOYMENTS, MAPS, PODS, deployment, map, pod};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_object_lives_its_life() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let created = client.post(MAPS, &map("a", "1")).await.expect(201);
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(metadata[field].as_str().is_some_and(|t| !t.is_empty()), "{field}: {created}");
    }
    let path = format!("{MAPS}/a");
    assert_eq!(client.get(&path).await.expect(200), created);
    let mut wanted = created.clone();
    wanted["data"]["k"] = json!("2");
    let updated = client.put(&path, &wanted).await.expect(200);
    assert_eq!(updated["data"]["k"], "2");
    assert_ne!(updated["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    assert_eq!(updated["metadata"]["uid"], metadata["uid"]);
    let gone = client.delete(&path).await.expect(200);
    assert_eq!((gone["kind"].as_str(), gone["status"].as_str()), (Some("Status"), Some("Success")));
    let missing = client.get(&path).await.expect(404);
    assert_eq!(missing["message"], "configmaps \"a\" not found");
    assert_eq!(missing["details"], json!({"name": "a", "kind": "configmaps"}));
    assert_eq!(client.delete(&path).await.code, 404);
    assert_eq!(client.put(&path, &map("a", "3")).await.code, 404);
}

#[tokio::test]
async fn stale_writes_conflict_and_writes_that_change_nothing_write_nothing() {
    let cluster = Cluster::start().await;
    cluster.settled().await;
    let client = cluster.client();
    let first = client.post(MAPS, &map("a", "1")).await.expect(201);
    let path = format!("{MAPS}/a");
    let second = client.put(&path, &map("a", "2")).await.expect(200);
    let mut stale = first.clone();
    stale["data"]["k"] = json!("3");
    let conflict = client.put(&path, &stale).await.expect(409);
    assert_eq!(conflict["reason"], "Conflict");
    let words = conflict["message"].as_str().unwrap();
    assert!(words.contains("the object has been modified; please apply your changes"), "{words}");
    let revision = cluster.store.revision();
    let same = client.put(&path, &second).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let patched = client.patch("merge", &path, &json!({"data": {"k": "2"}})).await.expect(200);
    assert_eq!(patched["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    assert_eq!(cluster.store.revision(), revision);
    let mut other = second.clone();
    other["metadata"]["uid"] = json!("another");
    assert_eq!(client.put(&path, &other).await.code, 409);
    let exists = client.post(MAPS, &map("a", "1")).await.expect(409);
    assert_eq!(exists["reason"], "AlreadyExists");
}

#[tokio::test]
async fn patches_of_all_kinds() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(DEPLOYMENTS, &deployment("web", 1)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let json_patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let patched = client.patch("json", &path, &json_patch).await.expect(200);
    assert_eq!((&patched["spec"]["replicas"], &patched["metadata"]["generation"]), (&json!(2), &json!(2)));
    let merged = client.patch("merge", &path, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(merged["metadata"]["labels"]["a"], "b");
    assert_eq!(merged["metadata"]["generation"], 2);
    let second =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox"}]}}}});
    let strategic = client.patch("strategic-merge", &path, &second).await.expect(200);
    assert_eq!(strategic["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    let replaced = client.patch("merge", &path, &second).await.expect(200);
    assert_eq!(replaced["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);

    assert_eq!(client.with("content-type", "text/plain").send(Method::PATCH, &path, "{}").await.code, 415);
    let unmet = json!([{"op": "test", "path": "/spec/replicas", "value": 7}]);
    assert_eq!(client.patch("json", &path, &unmet).await.code, 422);
    assert_eq!(client.patch("merge", &path, &json!([1])).await.code, 400);
    assert_eq!(client.patch("merge", &path, &json!({"metadata": {"name": "other"}})).await.code, 400);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 9}});
    assert_eq!(client.patch("merge", &path, &stale).await.code, 409);
    assert_eq!(client.patch("merge", &format!("{DEPLOYMENTS}/none"), &json!({})).await.code, 404);
    let wrong_type = client.patch("merge", &path, &json!({"spec": {"replicas": "many"}})).await;
    assert_eq!(wrong_type.code, 422, "{}", wrong_type.text());
}

#[tokio::test]
async fn unknown_and_duplicate_fields() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut odd = deployment("web", 1);
    odd["spec"]["unknownField"] = json!(1);
    let refused = client.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &odd).await.expect(400);
    let words = refused["message"].as_str().unwrap();
    assert!(words.contains("strict decoding error: unknown field \"spec.unknownField\""), "{words}");
    let text = odd.to_string().replacen("\"replicas\":1", "\"replicas\":1,\"replicas\":2", 1);
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let refused = client.send(Method::POST, &strict, text.clone()).await.expect(400);
    let words = refused["message"].as_str().unwrap();
    assert!(words.contains("duplicate field \"spec.replicas\""), "{words}");
    let warned = client.send(Method::POST, DEPLOYMENTS, text).await;
    assert_eq!(warned.code, 201, "{}", warned.text());
    let warnings = warned.warnings();
    assert!(
        warnings.contains(&"299 - \"unknown field \\\"spec.unknownField\\\"\"".to_owned()),
        "{warnings:?}"
    );
    assert_eq!(warned.json()["spec"].get("unknownField"), None);
    let path = format!("{DEPLOYMENTS}/web?fieldValidation=Strict");
    let refused = client.patch("merge", &path, &json!({"spec": {"nope": 1}})).await.expect(400);
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"spec.nope\""), "{refused}");
    odd["metadata"]["name"] = json!("other");
    let ignored = client.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore&dryRun=All"), &odd).await;
    assert_eq!((ignored.code, ignored.warnings().len()), (201, 0));
    assert_eq!(client.post(&format!("{MAPS}?fieldValidation=Sometimes"), &map("x", "")).await.code, 422);
}

#[tokio::test]
async fn bodies_that_are_no_objects() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let yaml = client.with("content-type", "application/yaml");
    let cases: Vec<(&str, u16)> = vec![
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("null", 422),
        ("{\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":1}}", 400),
        ("{\"metadata\":{\"name\":7}}", 400),
        ("{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"}}", 400),
        ("{\"apiVersion\":\"apps/v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}", 400),
        ("{\"metadata\":{\"name\":\"a\",\"namespace\":\"other\"}}", 400),
        ("{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"5\"}}", 400),
        ("{\"metadata\":{}}", 422),
        ("{\"metadata\":{\"name\":\"Not_A_Name\"}}", 422),
        ("{\"metadata\":{\"name\":\"../../etc\"}}", 422),
        ("{\"metadata\":{\"name\":\"a\",\"labels\":{\"bad key!\":\"x\"}}}", 422),
    ];
    for (body, code) in cases {
        let answer = client.send(Method::POST, MAPS, body.to_owned()).await;
        assert_eq!(answer.code, code, "{body}: {}", answer.text());
        assert_eq!(answer.json()["kind"], "Status", "{body}");
    }
    for body in ["a: [", "a: b: c", "- 1"] {
        let answer = yaml.send(Method::POST, MAPS, body.to_owned()).await;
        assert_eq!(answer.code, 400, "{body}: {}", answer.text());
    }
    let good = yaml.send(Method::POST, MAPS, "metadata: {name: from-yaml}\ndata: {k: v}\n").await;
    assert_eq!(good.code, 201, "{}", good.text());
    let cbor = client.with("content-type", "application/cbor");
    assert_eq!(cbor.send(Method::POST, MAPS, "x").await.code, 415);
    let protobuf = client.with("content-type", "application/vnd.kubernetes.protobuf");
    assert_eq!(protobuf.send(Method::POST, MAPS, "{}").await.code, 400);
    assert_eq!(protobuf.send(Method::POST, MAPS, "k8s\0\x0a\x7f").await.code, 400);
    // The type is named v1 ConfigMap, the message holds metadata with a name.
    let message = "k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x06\x0a\x04\x0a\x02pb";
    let made = protobuf.send(Method::POST, MAPS, message).await.expect(201);
    assert_eq!(made["metadata"]["name"], "pb");
    let deep =
        format!("{{\"metadata\":{{\"name\":\"deep\"}},\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let dropped = client.send(Method::POST, MAPS, deep.clone()).await;
    assert_eq!((dropped.code, dropped.json().get("x")), (201, None), "an unknown field, however deep");
    let patch = client.with("content-type", "application/merge-patch+json");
    assert_eq!(patch.send(Method::PATCH, &format!("{MAPS}/deep"), deep).await.code, 400);
}

#[tokio::test]
async fn bodies_up_to_the_limit_and_beyond() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let large = client.post(MAPS, &map("large", &"x".repeat(900_000))).await;
    assert_eq!(large.code, 201, "{}", &large.text()[..200]);
    // More than the kind takes, less than the server reads.
    assert_eq!(client.post(MAPS, &map("larger", &"x".repeat(2 << 20))).await.code, 422);
    let beyond = client.post(MAPS, &map("beyond", &"x".repeat(3 << 20))).await.expect(413);
    assert_eq!(beyond["reason"], "RequestEntityTooLarge");
    assert_eq!(client.get(&format!("{MAPS}/beyond")).await.code, 404);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    assert_eq!(client.stall(Method::POST, &format!("{MAPS}?timeout=50ms")).await, 504);
    // Without a wish of the client's, a minute.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    assert_eq!(client.stall(Method::POST, MAPS).await, 504);
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn paths_and_verbs_that_are_not_there() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for (method, path, code) in [
        (Method::GET, "/api/v1/namespaces/default/gadgets", 404),
        (Method::GET, "/api/v2/pods", 404),
        (Method::GET, "/api/v1/pods/a", 404),
        (Method::GET, "/api/v1/namespaces/default/nodes", 404),
        (Method::GET, "/api/v1/namespaces/default/pods/a/nothing", 404),
        (Method::POST, "/api/v1/pods", 405),
        (Method::DELETE, "/api/v1/pods", 405),
        (Method::POST, "/api/v1/namespaces/default/pods/a", 405),
        (Method::PUT, MAPS, 405),
        (Method::GET, "/apis/authentication.k8s.io/v1/tokenreviews", 405),
        (Method::POST, "/version", 405),
        (Method::GET, "/api/v1/pods/%zz", 400),
        (Method::GET, "/api/v1/pods?labelSelector=%ff", 400),
        (Method::GET, "/api/v1/pods?labelSelector=a%20in%20(", 400),
        (Method::GET, "/api/v1/pods?fieldSelector=spec.color%3Dred", 400),
        (Method::GET, "/api/v1/pods?timeout=soon", 400),
        (Method::TRACE, PODS, 405),
    ] {
        let answer = client.send(method.clone(), path, "").await;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.text());
        assert_eq!(answer.json()["kind"], "Status", "{method} {path}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let cluster = Cluster::start().await;
    let answer = cluster.client_as("nobody").get(PODS).await.expect(403);
    let words = answer["message"].as_str().unwrap();
    assert!(words.starts_with("pods is forbidden: User \"nobody\" cannot list resource \"pods\""), "{words}");
    // Whoever may see nothing does not learn what exists.
    assert_eq!(cluster.client_as("nobody").get("/apis/none.io/v1/things").await.code, 403);
    assert_eq!(cluster.client_as("nobody").get("/version").await.code, 403);
    let impersonated = cluster.client().with("impersonate-user", "nobody").get(PODS).await;
    assert_eq!(impersonated.code, 403);
    let forged = cluster.client_as("nobody").with("impersonate-user", "tester").get(PODS).await;
    assert_eq!(forged.code, 403);
}

#[tokio::test]
async fn generated_names() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let wish = json!({"metadata": {"generateName": "job-"}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = client.post(MAPS, &wish).await.expect(201);
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("job-") && name.len() == 9, "{name}");
        assert!(names.insert(name));
    }
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let before = client.post(MAPS, &map("a", "1")).await.expect(201);
    let revision = cluster.settled().await;
    let dry = |path: &str| format!("{path}?dryRun=All");
    assert_eq!(client.post(&dry(MAPS), &map("b", "1")).await.code, 201);
    assert_eq!(client.post(&dry(MAPS), &map("a", "1")).await.code, 409);
    let path = format!("{MAPS}/a");
    assert_eq!(client.put(&dry(&path), &map("a", "2")).await.expect(200)["data"]["k"], "2");
    assert_eq!(client.patch("merge", &dry(&path), &json!({"data": {"k": "3"}})).await.code, 200);
    assert_eq!(client.delete(&dry(&path)).await.code, 200);
    assert_eq!(client.delete(&dry(MAPS)).await.code, 200);
    assert_eq!(client.post(&dry(common::SERVICES), &common::service("s")).await.code, 201);
    assert_eq!(client.post("/api/v1/namespaces/default/events?dryRun=All", &event("e")).await.code, 201);
    assert_eq!(client.post(&format!("{MAPS}?dryRun=Maybe"), &map("b", "1")).await.code, 422);
    assert_eq!(client.get(&path).await.expect(200), before);
    assert_eq!(cluster.store.revision(), revision);
}

fn event(name: &str) -> Value {
    json!({
        "metadata": {"name": name}, "reason": "Tested", "message": "it was", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "a"},
        "source": {"component": "test"}, "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn events_are_written_with_a_lease() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for name in ["a", "b"] {
        client.post("/api/v1/namespaces/default/events", &event(name)).await.expect(201);
    }
    let leases = cluster.store.leases().into_iter().filter_map(|id| cluster.store.lease(id));
    // The server itself has one, too.
    let mut leases: Vec<_> =
        leases.filter(|(_, keys)| keys.iter().any(|key| key.starts_with(b"/registry/events/"))).collect();
    assert_eq!(leases.len(), 1, "events share a lease");
    let (lease, keys) = leases.remove(0);
    assert_eq!(keys.len(), 2);
    assert!((3600..=3660).contains(&lease.granted_ttl), "{lease:?}");
    cluster.store.lease_revoke(lease.id).await.unwrap();
    assert_eq!(client.get("/api/v1/namespaces/default/events/a").await.code, 404);
}

#[tokio::test]
async fn events_are_judged_by_the_version_that_is_written() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let (old, new) =
        ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events");
    client.post(old, &event("A_b")).await.expect(201);
    let found = client.get(&format!("{new}/A_b")).await.expect(200);
    let refused = client.put(&format!("{new}/A_b"), &json!({"note": "x", "metadata": {"name": "A_b"}})).await;
    let words = refused.expect(422)["message"].as_str().unwrap().to_owned();
    assert!(words.contains("message: Invalid value: \"x\": field is immutable"), "{words}");
    client.put(&format!("{new}/A_b"), &found).await.expect(200);
    let made = client.post(new, &json!({"metadata": {"name": "b"}, "type": "Normal"})).await.expect(422);
    let words = made["message"].as_str().unwrap();
    assert!(
        words.ends_with("eventTime: Required value]") || words.ends_with("eventTime: Required value"),
        "{words}"
    );
    client.patch("merge", &format!("{old}/A_b"), &json!({"count": 2})).await.expect(200);
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut with_status = deployment("web", 1);
    with_status["status"] = json!({"replicas": 9});
    let created = client.post(DEPLOYMENTS, &with_status).await.expect(201);
    assert!(created.get("status").is_none_or(|s| s.get("replicas").is_none()), "{created}");
    let path = format!("{DEPLOYMENTS}/web/status");
    let mut wanted = created.clone();
    wanted["status"] = json!({"replicas": 1, "observedGeneration": 1});
    wanted["spec"]["replicas"] = json!(7);
    let written = client.put(&path, &wanted).await.expect(200);
    assert_eq!((&written["status"]["replicas"], &written["spec"]["replicas"]), (&json!(1), &json!(1)));
    assert_eq!(written["metadata"]["generation"], 1);
    let patched = client.patch("merge", &path, &json!({"status": {"readyReplicas": 1}})).await.expect(200);
    assert_eq!(patched["status"], json!({"observedGeneration": 1, "readyReplicas": 1, "replicas": 1}));
    let body = json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 5}});
    let object = client.patch("merge", &format!("{DEPLOYMENTS}/web"), &body).await.expect(200);
    assert_eq!((&object["status"]["readyReplicas"], &object["spec"]["replicas"]), (&json!(1), &json!(3)));
    assert_eq!(client.get(&path).await.expect(200), object);
}

#[tokio::test]
async fn finalizers_and_preconditions() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut held = map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let created = client.post(MAPS, &held).await.expect(201);
    let path = format!("{MAPS}/held");
    let wrong = client.delete_with(&path, &json!({"preconditions": {"uid": "other"}})).await;
    assert_eq!(wrong.code, 409);
    let wrong = client.delete_with(&path, &json!({"preconditions": {"resourceVersion": "1"}})).await;
    assert_eq!(wrong.code, 409);
    let options = json!({"preconditions": {"uid": created["metadata"]["uid"]}});
    let marked = client.delete_with(&path, &options).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(client.delete(&path).await.expect(200)["metadata"]["name"], "held");
    // Nobody takes the deletion back.
    let back = json!({"metadata": {"deletionTimestamp": null}});
    client.patch("merge", &path, &back).await;
    assert!(client.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
    let freed = client.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    assert_eq!(freed["metadata"]["name"], "held");
    assert_eq!(client.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_sets_the_collectors_finalizers() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for (name, policy, finalizer) in [("o", "Orphan", "orphan"), ("f", "Foreground", "foregroundDeletion")] {
        client.post(MAPS, &map(name, "")).await.expect(201);
        let path = format!("{MAPS}/{name}");
        let marked = client.delete_with(&path, &json!({"propagationPolicy": policy})).await.expect(200);
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    client.post(MAPS, &map("b", "")).await.expect(201);
    let gone = client.delete(&format!("{MAPS}/b?propagationPolicy=Background")).await.expect(200);
    assert_eq!(gone["status"], "Success");
}

#[tokio::test]
async fn pods_end_gracefully_once_bound() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("free")).await.expect(201);
    assert_eq!(client.delete(&format!("{PODS}/free")).await.expect(200)["kind"], "Pod");
    assert_eq!(client.get(&format!("{PODS}/free")).await.code, 404);
    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("n1");
    bound["spec"]["terminationGracePeriodSeconds"] = json!(7);
    client.post(PODS, &bound).await.expect(201);
    let path = format!("{PODS}/bound");
    let going = client.delete(&path).await.expect(200);
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 7);
    let shorter = client.delete_with(&path, &json!({"gracePeriodSeconds": 2})).await.expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 2);
    assert_eq!(client.get(&path).await.code, 200);
    client.delete_with(&path, &json!({"gracePeriodSeconds": 0})).await.expect(200);
    assert_eq!(client.get(&path).await.code, 404);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for i in 0..30 {
        let mut one = map(&format!("m{i}"), "");
        one["metadata"]["labels"] = json!({"parity": if i % 2 == 0 { "even" } else { "odd" }});
        client.post(MAPS, &one).await.expect(201);
    }
    let deleted = client.delete(&format!("{MAPS}?labelSelector=parity%3Deven")).await.expect(200);
    assert_eq!(deleted["items"].as_array().unwrap().len(), 15);
    let left = client.get(MAPS).await.expect(200);
    let names: Vec<&str> =
        left["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 15);
    assert!(names.contains(&"m1") && !names.contains(&"m2"), "{names:?}");
}

#[tokio::test]
async fn namespaces_bound_their_content() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let lost = client.post("/api/v1/namespaces/none/configmaps", &map("a", "")).await.expect(404);
    assert_eq!(lost["message"], "namespaces \"none\" not found");
    let made = client.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).await.expect(201);
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    client.post("/api/v1/namespaces/team/configmaps", &map("a", "")).await.expect(201);
    let going = client.delete("/api/v1/namespaces/team").await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let refused = client.post("/api/v1/namespaces/team/configmaps", &map("b", "")).await.expect(403);
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut done = going.clone();
    done["spec"]["finalizers"] = json!(["kubernetes", "mine"]);
    let refused = client.put("/api/v1/namespaces/team/finalize", &done).await.expect(422);
    let words = "Namespace \"team\" is invalid: spec.finalizers[1]: Invalid value: \"mine\": name is neither a \
                 standard finalizer name nor is it fully qualified";
    assert_eq!(refused["message"], words);
    done["spec"]["finalizers"] = json!([]);
    client.put("/api/v1/namespaces/team/finalize", &done).await.expect(200);
    assert_eq!(client.get("/api/v1/namespaces/team").await.code, 404);
}

#[tokio::test]
async fn hundreds_of_patches_at_once_all_count() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(MAPS, &json!({"metadata": {"name": "shared"}})).await.expect(201);
    let writers: Vec<_> = (0..100)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                let key = format!("k{i}");
                client
                    .patch("merge", &format!("{MAPS}/shared"), &json!({"data": {key: "x"}}))
                    .await
                    .expect(200);
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let shared = client.get(&format!("{MAPS}/shared")).await.expect(200);
    assert_eq!(shared["data"].as_object().unwrap().len(), 100);
}

#[tokio::test]
async fn updates_at_once_say_what_they_said() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(MAPS, &map("shared", "0")).await.expect(201);
    let writers: Vec<_> = (1..=50)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                let wanted = map("shared", &i.to_string());
                let stored = client.put(&format!("{MAPS}/shared"), &wanted).await.expect(200);
                assert_eq!(stored["data"], wanted["data"], "also when somebody else was faster");
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}
