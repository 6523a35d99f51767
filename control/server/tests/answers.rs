//! The form and the words of refusals, and what every answer has.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Cluster, MAPS, PODS, map};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn refusals_are_written_as_the_client_reads() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let path = format!("{MAPS}/none");
    let plain = client.get(&path).await;
    let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"configmaps \"none\" not found","reason":"NotFound","details":{"name":"none","kind":"configmaps"},"code":404}"#;
    assert_eq!(plain.text().trim_end(), text);
    let curl = client.with("user-agent", "curl/8.1").get(&path).await.text();
    assert!(curl.starts_with("{\n  \"kind\": \"Status\",\n  \"apiVersion\": \"v1\",\n"), "{curl}");
    let yaml = client.with("accept", "application/yaml").get(&path).await;
    assert_eq!((yaml.code, &yaml.headers["content-type"]), (404, &"application/yaml".parse().unwrap()));
    assert!(yaml.text().contains("reason: NotFound\n"), "{}", yaml.text());
    let message = client.with("accept", "application/vnd.kubernetes.protobuf").get(&path).await;
    assert_eq!((message.code, &message.bytes[..4]), (404, &b"k8s\0"[..]));
    let table = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").get(&path).await;
    assert!(table.text().starts_with("{\n  \"kind\": \"Status\""), "{}", table.text());
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for path in [
        "/nothing",
        "/apis/none.example",
        "/apis/none.example/v1",
        "/apis/none.example/v1/things",
        "/openapi/v3/apis/x/v1",
    ] {
        let answer = client.get(path).await;
        assert_eq!((answer.code, answer.text().as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    for path in ["/api/v2", "/api/v1/things", "/apis/apps/v9/deployments", "/apis/apps/v1/things"] {
        let status = client.get(path).await.expect(404);
        assert_eq!(status["message"], "the server could not find the requested resource", "{path}");
        assert_eq!(status["details"], json!({}));
    }
    let refused = client.put(MAPS, &map("a", "1")).await.expect(405);
    assert_eq!((&refused["reason"], &refused["details"]), (&json!("MethodNotAllowed"), &json!({})));
}

#[tokio::test]
async fn no_cache_keeps_answers_but_immutable_ones() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for path in [
        "/",
        "/healthz",
        "/readyz/ping",
        "/metrics",
        "/openapi/v2",
        "/api",
        "/apis/apps/v1",
        MAPS,
        "/nothing",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.headers["cache-control"], "no-cache, private", "{path}");
    }
    let index = client.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    let hashed = client.get(url).await;
    assert_eq!((hashed.code, hashed.headers["cache-control"].to_str().unwrap()), (200, "public, immutable"));
    let expires = hashed.headers["expires"].to_str().unwrap();
    assert!(expires.ends_with(" GMT"), "{expires}");
    let moved = client.get("/openapi/v3/api/v1?hash=OLD").await;
    assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (301, url));
    assert_eq!(client.get("/openapi/v3/api/v1").await.headers["cache-control"], "no-cache, private");
}

#[tokio::test]
async fn groups_come_in_the_order_of_their_priorities() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let list = client.get("/apis").await.expect(200);
    let names: Vec<&str> =
        list["groups"].as_array().unwrap().iter().filter_map(|group| group["name"].as_str()).collect();
    assert_eq!(names[..4], ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]);
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let list = client.with("accept", accept).get("/apis").await.expect(200);
    let items = list["items"].as_array().unwrap();
    let aggregated: Vec<&str> = items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    assert_eq!(aggregated, names);
    assert_eq!(items[0]["metadata"], json!({"name": "apiregistration.k8s.io"}));
    // What did not change is not sent again.
    let first = client.with("accept", accept).get("/apis").await;
    assert!(first.headers["content-type"].to_str().unwrap().contains("as=APIGroupDiscoveryList"));
    let tag = first.headers["etag"].to_str().unwrap();
    let again = client.with("accept", accept).with("if-none-match", tag).get("/apis").await;
    assert_eq!((again.code, again.bytes.len()), (304, 0));
}

#[tokio::test]
async fn owner_references_that_are_there_twice_are_taken_out_with_a_warning() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"});
    let mut object = map("a", "1");
    object["metadata"]["ownerReferences"] = json!([owner, owner]);
    let words = |when: &str| {
        format!(
            "299 - \".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u\""
        )
    };
    let created = client.post(MAPS, &object).await;
    assert_eq!(created.warnings(), [words("")]);
    assert_eq!(created.expect(201)["metadata"]["ownerReferences"], json!([owner]));
    let updated = client.put(&format!("{MAPS}/a"), &object).await;
    assert_eq!(updated.warnings(), [words("")]);
    let more = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": owner}]);
    let patched = client.patch("json", &format!("{MAPS}/a"), &more).await;
    assert_eq!(patched.warnings(), [words(" after mutating admission happens")]);
    assert_eq!(patched.expect(200)["metadata"]["ownerReferences"], json!([owner]));
}

#[tokio::test]
async fn deletions_are_answered_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut held = map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let uid = client.post(MAPS, &held).await.expect(201)["metadata"]["uid"].as_str().unwrap().to_owned();
    let path = format!("{MAPS}/held");
    let refused = client.delete_with(&path, &json!({"preconditions": {"uid": "x"}})).await.expect(409);
    assert_eq!(
        refused["message"],
        format!(
            "Operation cannot be fulfilled on ConfigMap \"held\": the UID in the precondition (x) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    assert_eq!(refused["details"], json!({"name": "held", "kind": "ConfigMap"}));
    let refused =
        client.delete_with("/api/v1/namespaces/default", &json!({"preconditions": {"uid": "x"}})).await;
    assert!([403, 409].contains(&refused.code), "{}", refused.text());
    // Dependents go, too: said in the old way, the answer tells that the object is still there.
    let marked = client.delete_with(&path, &json!({"orphanDependents": false, "dryRun": ["All"]})).await;
    assert_eq!(marked.code, 202);
    assert_eq!(client.delete_with(&path, &json!({"orphanDependents": false})).await.code, 202);
    assert_eq!(client.delete_with(&path, &json!({"propagationPolicy": "Background"})).await.code, 200);
    assert_eq!(client.delete(&format!("{path}?orphanDependents=false")).await.code, 202);
    client.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    client.post(MAPS, &map("free", "1")).await.expect(201);
    let options = json!({"orphanDependents": false, "gracePeriodSeconds": -5});
    assert_eq!(client.delete_with(&format!("{MAPS}/free"), &options).await.code, 200);
}

#[tokio::test]
async fn updates_keep_times_and_name_the_uid_that_is_there() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let path = format!("{MAPS}/a");
    let created = client.post(MAPS, &map("a", "1")).await.expect(201);
    let mut older = map("a", "2");
    older["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    let updated = client.put(&path, &older).await.expect(200);
    assert_eq!(updated["metadata"]["creationTimestamp"], created["metadata"]["creationTimestamp"]);
    let mut other = map("a", "3");
    other["metadata"]["uid"] = json!("x");
    let uid = created["metadata"]["uid"].as_str().unwrap();
    let words = |name: &str, found: &str| {
        format!(
            "Operation cannot be fulfilled on configmaps \"{name}\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta: {found}"
        )
    };
    assert_eq!(client.put(&path, &other).await.expect(409)["message"], words("a", uid));
    other["metadata"]["name"] = json!("gone");
    assert_eq!(client.put(&format!("{MAPS}/gone"), &other).await.expect(409)["message"], words("gone", ""));
    let refused = client.patch("merge", &path, &json!({"metadata": {"uid": "x"}})).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.uid");
    let sooner = json!({"metadata": {"deletionGracePeriodSeconds": 1}});
    let refused = client.patch("merge", &path, &sooner).await.expect(422);
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "Invalid value: 1: field is immutable; may only be changed via deletion"
    );
    let mut zero = map("zero", "1");
    zero["metadata"]["resourceVersion"] = json!("0");
    client.post(MAPS, &zero).await.expect(201);
}

#[tokio::test]
async fn custom_resources_have_their_own_refusals() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "tabs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.expect(201);
    let tabs = "/apis/example.com/v1/namespaces/default/tabs";
    for _ in 0..100 {
        if client.get(tabs).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let tab = |name: &str| json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": name}});
    client.post(tabs, &tab("a")).await.expect(201);
    let status = client.put(&format!("{tabs}/a/status"), &tab("a")).await.expect(404);
    assert_eq!(status["message"], "tabs.example.com \"a\" not found");
    let refused: Value = client.send(Method::OPTIONS, tabs, "").await.expect(405);
    assert_eq!(refused["message"], "options is not supported on resources of kind \"tabs.example.com\"");
    assert_eq!(refused["details"], json!({"group": "example.com", "kind": "tabs"}));
    for path in ["/apis/example.com/v1/tabs/a", "/apis/example.com/v2/tabs", "/apis/example.com/v1/cards"] {
        assert_eq!(client.get(path).await.text(), "404 page not found\n", "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_or_kept_is_told_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let broken = client.send(Method::POST, MAPS, "{").await.expect(400);
    assert_eq!(
        broken["message"],
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)"
    );
    let large = client.post(MAPS, &map("large", &"x".repeat(1_100_000))).await.expect(422);
    assert_eq!(
        large["message"],
        "ConfigMap \"large\" is invalid: []: Too long: may not be more than 1048576 bytes"
    );
    client.post(MAPS, &map("a", "1")).await.expect(201);
    let path = format!("{MAPS}/a");
    let merge = client.with("content-type", "application/merge-patch+json");
    let broken = merge.send(Method::PATCH, &path, "{\"data\" 1}").await.expect(400);
    assert_eq!(broken["message"], "error decoding patch: invalid character '1' after object key");
    let noted = json!([{"op": "add", "path": "/data/x", "value": "y", "comment": "z"}]);
    let warned = client.patch("json", &path, &noted).await;
    assert_eq!(warned.warnings(), ["299 - \"json patch unknown field \\\"[0].comment\\\"\""]);
    let strict = client.patch("json", &format!("{path}?fieldValidation=Strict"), &noted).await.expect(400);
    assert!(
        strict["message"]
            .as_str()
            .unwrap()
            .ends_with("strict decoding error: json patch unknown field \"[0].comment\"")
    );
}

#[tokio::test]
async fn watches_are_streams_of_two_kinds() {
    let cluster = Cluster::start().await;
    let yaml = cluster.client().with("accept", "application/yaml");
    let refused = yaml.get(&format!("{MAPS}?watch=1")).await;
    assert_eq!(refused.code, 406);
    let words = "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    assert!(refused.text().replace("\n  ", " ").contains(words), "{}", refused.text());
}

#[tokio::test]
async fn a_watch_from_nowhere_is_told_when_the_state_is_complete() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &common::pod("a")).await.expect(201);
    for start in ["", "&resourceVersion=0"] {
        let mut events = client.watch(&format!("{PODS}?watch=1&allowWatchBookmarks=true{start}")).await;
        assert_eq!(events.next().await.unwrap()["type"], "ADDED");
        let mark = events.next().await.unwrap();
        assert_eq!(mark["type"], "BOOKMARK");
        assert_eq!(mark["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
        assert_eq!(mark["object"]["metadata"].get("creationTimestamp"), None);
    }
}
