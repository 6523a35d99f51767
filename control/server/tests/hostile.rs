//! Requests that nobody means well: mutated objects and patches of every kind, odd paths and queries. Whatever
//! comes, the answer is a refusal or a success, never the server's own fault.

// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::LazyLock;

use carrack_api::{Resource, Verb, resources};
use common::objects::{collection, objects};
use common::{Client, Cluster};
use http::Method;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Objects to start from: valid ones of kinds that are stored, of others a name alone.
fn sample(resource: &Resource, name: &str) -> Value {
    static OBJECTS: LazyLock<Vec<(&Resource, Value)>> = LazyLock::new(objects);
    let valid = OBJECTS.iter().find(|(row, _)| row.gvk() == resource.gvk());
    let mut object = valid.map_or_else(|| json!({"spec": {}, "status": {}}), |(_, object)| object.clone());
    object["apiVersion"] = resource.api_version.into();
    object["kind"] = resource.kind.into();
    object["metadata"] =
        json!({"name": name, "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["e/f"]});
    object
}

/// Values to put where others are expected.
fn oddities() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5e308),
        json!(""),
        json!("None"),
        json!("\u{0}"),
        json!("%"),
        json!("../.."),
        json!("9".repeat(400)),
        json!("2026-13-45T99:99:99Z"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"": ""}),
        json!({"name": null}),
        json!([{"name": "x"}, {"name": "x"}]),
        json!("1e309"),
        json!("-0"),
        json!("٣"),
        json!("a=b,c"),
        json!("::1"),
        json!("10.96.0.1"),
        json!(65536),
    ]
}

/// Field names to invent.
const FIELDS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generateName",
    "ownerReferences",
    "deletionTimestamp",
    "finalizers",
    "labels",
    "clusterIP",
    "clusterIPs",
    "ports",
    "type",
    "selector",
    "template",
    "containers",
    "nodeName",
    "replicas",
    "data",
    "stringData",
    "rules",
    "roleRef",
    "subjects",
    "$patch",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "conditions",
    "externalName",
    "nodePort",
];

/// Changes something somewhere in a value.
fn mutate(value: &mut Value, random: &mut StdRng, depth: usize) {
    match value {
        Value::Object(fields) if depth < 8 && random.random_bool(0.85) => {
            if fields.is_empty() || random.random_bool(0.15) {
                let name = FIELDS.choose(random).unwrap().to_string();
                fields.insert(name, oddities().choose(random).unwrap().clone());
                return;
            }
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = keys.choose(random).unwrap();
            if random.random_bool(0.05) {
                fields.remove(key);
            } else {
                mutate(fields.get_mut(key).unwrap(), random, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() && depth < 8 && random.random_bool(0.85) => {
            let at = random.random_range(0..items.len());
            mutate(&mut items[at], random, depth + 1);
        }
        other => *other = oddities().choose(random).unwrap().clone(),
    }
}

async fn try_it(client: &Client, method: Method, path: &str, body: &Value) -> u16 {
    let answer = client.send(method.clone(), path, body.to_string()).await;
    let fine = answer.code < 500 || answer.code == 501 || answer.code == 504;
    assert!(fine, "{method} {path}\n{body}\n{}", answer.text());
    answer.code
}

#[tokio::test]
async fn mutated_objects_of_every_kind() {
    const ROUNDS: usize = 60;
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut random = StdRng::seed_from_u64(7);
    let mut accepted = 0;
    for resource in resources() {
        for round in 0..ROUNDS {
            let name = format!("x{}", round / 3);
            let mut object = sample(resource, &name);
            for _ in 0..random.random_range(0..4) {
                mutate(&mut object, &mut random, 0);
            }
            let path = collection(resource);
            let code = try_it(&client, Method::POST, &path, &object).await;
            accepted += u32::from(code == 201);
            if !resource.allows(Verb::Update) {
                continue;
            }
            let one = format!("{path}/{name}");
            let mut patch = sample(resource, &name);
            patch.as_object_mut().unwrap().retain(|k, _| k != "apiVersion" && k != "kind");
            mutate(&mut patch, &mut random, 0);
            let kind = ["merge", "strategic-merge"].choose(&mut random).unwrap();
            let typed = client.with("content-type", &format!("application/{kind}-patch+json"));
            let part = ["", "/status", "/scale"].choose(&mut random).unwrap();
            try_it(&typed, Method::PATCH, &format!("{one}{part}"), &patch).await;
            let steps = json!([
                {"op": "replace", "path": "/metadata/labels", "value": oddities().choose(&mut random)},
                {"op": "add", "path": format!("/spec/{}", FIELDS.choose(&mut random).unwrap()), "value": 1},
            ]);
            let json_patch = client.with("content-type", "application/json-patch+json");
            try_it(&json_patch, Method::PATCH, &one, &steps).await;
            mutate(&mut object, &mut random, 0);
            try_it(&client, Method::PUT, &one, &object).await;
            if random.random_bool(0.3) {
                let mut options = json!({"propagationPolicy": "Foreground", "preconditions": {"uid": "x"}});
                mutate(&mut options, &mut random, 0);
                try_it(&client, Method::DELETE, &one, &options).await;
            }
        }
    }
    assert!(accepted > 100, "the mutations are so wild that nothing gets far: {accepted}");
    // What got in can be read, listed and shown.
    let tables = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    for resource in resources().iter().filter(|r| r.allows(Verb::List)) {
        let path = format!("{}/{}", resource.root_path(), resource.plural);
        client.get(&path).await.expect(200);
        tables.get(&path).await.expect(200);
    }
}

#[tokio::test]
async fn odd_paths_queries_and_headers() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut random = StdRng::seed_from_u64(11);
    let segments = [
        "api",
        "apis",
        "v1",
        "apps",
        "namespaces",
        "default",
        "pods",
        "x",
        "status",
        "log",
        "exec",
        "proxy",
        "scale",
        "binding",
        "",
        "%00",
        "%2F",
        "..",
        "%F0%9F%9A%A2",
        "watch",
        "openapi",
        "v3",
        "token",
        "finalize",
        "nodes",
    ];
    let queries = [
        "watch=1",
        "watch",
        "limit=1",
        "limit=-5",
        "limit=99999999999999999999",
        "continue=x",
        "resourceVersion=1",
        "resourceVersion=-1",
        "resourceVersionMatch=Exact",
        "labelSelector=a%21%3Db",
        "labelSelector=%28",
        "fieldSelector==",
        "fieldSelector=metadata.name%3Dx",
        "timeoutSeconds=1",
        "timeoutSeconds=99999999999999",
        "dryRun=All",
        "dryRun=",
        "fieldValidation=Strict",
        "pretty=1",
        "sendInitialEvents=true",
        "allowWatchBookmarks=1",
        "timeout=1ns",
        "follow=1",
        "gracePeriodSeconds=9223372036854775807",
        "propagationPolicy=Orphan",
        "includeObject=Object",
        "=",
        "&&&",
        "a=%ff",
    ];
    let accepts = [
        "*/*",
        "application/yaml",
        ";",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "text/html",
        "a/b;q=x",
    ];
    let methods =
        [Method::GET, Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    for _ in 0..3000 {
        let path: String = (0..random.random_range(1..9))
            .map(|_| format!("/{}", segments.choose(&mut random).unwrap()))
            .collect();
        let query: Vec<&str> =
            (0..random.random_range(0..4)).map(|_| *queries.choose(&mut random).unwrap()).collect();
        let target = format!("{path}?{}", query.join("&"));
        let method = methods.choose(&mut random).unwrap().clone();
        let accept = accepts.choose(&mut random).unwrap();
        // Only the head of the answer: a watch goes on.
        let response = client.with("accept", accept).open(method.clone(), &target, "{}").await;
        let code = response.status().as_u16();
        assert!(code < 500 || matches!(code, 501 | 504), "{method} {target} ({accept}): {code}");
    }
}
