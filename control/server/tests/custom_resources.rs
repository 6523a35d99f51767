//! Custom resources over HTTP: definitions, objects, versions, subresources, and the end of a definition.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Client, Cluster};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "crontabs.stable.example.com";
const CRONTABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "selectableFields": [{"jsonPath": ".spec.image"}],
                "additionalPrinterColumns": [
                    {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                ],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"},
                        "image": {"type": "string"},
                        "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                        "ports": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "port": {"type": "integer"},
                            }},
                        },
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "selector": {"type": "string"},
                    }},
                }}},
            }],
        },
    })
}

fn crontab(name: &str) -> Value {
    json!({
        "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name},
        "spec": {"cronSpec": "* * * * */5", "image": "a"},
    })
}

/// Waits until `crontabs` are served.
async fn define(client: &Client) {
    client.post(DEFINITIONS, &definition()).await.expect(201);
    eventually(client, CRONTABS, |code, _| code == 200).await;
}

#[tokio::test]
async fn an_object_says_of_what_kind_it_is() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    define(&client).await;
    let but = |field: &str, value: Option<&str>| {
        let mut object = crontab("a");
        match value {
            Some(value) => object[field] = json!(value),
            None => drop(object.as_object_mut().unwrap().remove(field)),
        }
        object
    };
    let without = but("kind", None);
    let shown = without.to_string();
    let nameless = format!(
        "the object provided is unrecognized (must be of type CronTab): Object 'Kind' is missing in '{shown}' ({} ...)",
        &shown[..30]
    );
    let unfit = |version: &str, why: &str| {
        format!("CronTab in version {version:?} cannot be handled as a CronTab: {why}")
    };
    let cases = [
        (without, 400, nameless),
        (
            but("apiVersion", None),
            400,
            unfit(
                "",
                "/, Kind=CronTab is unstructured and is not suitable for converting to \"stable.example.com/v1\"",
            ),
        ),
        (
            but("apiVersion", Some("apps/v1")),
            400,
            unfit(
                "v1",
                "apps/v1, Kind=CronTab is unstructured and is not suitable for converting to \"stable.example.com/v1\"",
            ),
        ),
        (
            but("apiVersion", Some("stable.example.com/v9")),
            400,
            unfit("v9", "request to convert CR from an invalid group/version: stable.example.com/v9"),
        ),
        (
            but("kind", Some("Other")),
            422,
            "Other.stable.example.com \"a\" is invalid: kind: Invalid value: \"Other\": must be CronTab"
                .to_owned(),
        ),
    ];
    for (object, code, why) in cases {
        let answer = client.post(CRONTABS, &object).await;
        assert_eq!((answer.code, answer.json()["message"].clone()), (code, json!(why)));
    }
    client.post(CRONTABS, &crontab("a")).await.expect(201);
    let mut old = client.watch("/apis/stable.example.com/v1/watch/namespaces/default/crontabs/a").await;
    assert_eq!(old.line().await, "ADDED a");
    assert_eq!(client.put(&format!("{CRONTABS}/a"), &but("kind", None)).await.code, 400);
}

fn condition<'v>(definition: &'v Value, kind: &str) -> &'v str {
    let all = definition["status"]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|c| c["type"] == kind);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default()
}

/// Waits until `wanted` holds of what `path` answers.
async fn eventually(client: &Client, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..200 {
        let answer = client.get(path).await;
        let value = answer.json();
        if wanted(answer.code, &value) {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} did not come to what was wanted: {}", client.get(path).await.text());
}

async fn established(client: &Client, definition: &Value) -> Value {
    client.post(DEFINITIONS, definition).await.expect(201);
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    eventually(client, &path, |_, d| condition(d, "Established") == "True").await
}

#[tokio::test]
async fn a_definition_is_completed_established_and_told_of() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let stored = established(&client, &definition()).await;
    assert_eq!(stored["spec"]["names"]["singular"], "crontab");
    assert_eq!(stored["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(stored["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(stored["status"]["acceptedNames"], stored["spec"]["names"]);
    assert_eq!(stored["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(stored["metadata"]["generation"], 1);
    let list = client.get("/apis/stable.example.com/v1").await.expect(200);
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["ct"]));
    assert_eq!(list["resources"][0]["categories"], json!(["all"]));
    let groups = client.get("/apis").await.expect(200);
    assert!(groups["groups"].as_array().unwrap().iter().any(|g| g["name"] == "stable.example.com"));
    let aggregated = client
        .with("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        .get("/apis")
        .await
        .expect(200);
    let ours = aggregated["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["metadata"]["name"] == "stable.example.com");
    assert_eq!(ours.unwrap()["versions"][0]["resources"][0]["responseKind"]["kind"], "CronTab");
    let v3 = client.get("/openapi/v3/apis/stable.example.com/v1").await.expect(200);
    let schema = &v3["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["properties"]["replicas"]["maximum"], 10);
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    assert!(v3["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
    let v2 = client.get("/openapi/v2").await.expect(200);
    assert!(v2["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"].is_object());
    assert!(v2["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
}

#[tokio::test]
async fn what_is_wrong_with_a_definition_is_said_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let with = |pointer: &str, value: Value| {
        let mut changed = definition();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let cases = [
        (
            with("/metadata/name", json!("x")),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            with("/spec/scope", json!("Galaxy")),
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            with("/spec/versions/0/storage", json!(false)),
            "must have exactly one version marked as storage version",
        ),
        (
            with("/spec/names/kind", json!("Cron_Tab")),
            "spec.names.kind: Invalid value: \"Cron_Tab\": may have mixed case, but should otherwise match",
        ),
        (
            with(&format!("{schema}/type"), json!("array")),
            "spec.validation.openAPIV3Schema.type: Invalid value: \"array\": must be object at the root",
        ),
        (
            with(&format!("{schema}/properties/spec/properties/image"), json!({})),
            "spec.validation.openAPIV3Schema.properties[spec].properties[image].type: Required value: must not be empty for specified object fields",
        ),
        (
            with(&format!("{schema}/properties/spec/properties/replicas/default"), json!(99)),
            "spec.validation.openAPIV3Schema.properties[spec].properties[replicas].default: Invalid value: 99",
        ),
        (
            with(
                &format!("{schema}/properties/spec/properties/image"),
                json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.none"}]}),
            ),
            "properties[image].x-kubernetes-validations[0].rule: Invalid value: \"self.none\": compilation failed",
        ),
        (
            with(&format!("{schema}/properties/spec/properties/ports/items/required"), json!([])),
            "spec.validation.openAPIV3Schema.properties[spec].properties[ports].items.properties[name].default: Required value: this property is in x-kubernetes-list-map-keys",
        ),
        (
            with("/spec/versions/0/selectableFields", json!([{"jsonPath": ".spec.none"}])),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.none\": is an invalid path",
        ),
    ];
    for (wrong, words) in cases {
        let refused = client.post(DEFINITIONS, &wrong).await.expect(422);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(words), "{words}\n{message}");
    }
    let mut protected = definition();
    protected["metadata"]["name"] = json!("crontabs.x.k8s.io");
    protected["spec"]["group"] = json!("x.k8s.io");
    let refused = client.post(DEFINITIONS, &protected).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("protected groups must have approval annotation"));
}

#[tokio::test]
async fn finalizers_have_any_name_and_those_without_a_domain_are_advised_about() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let mut object = crontab("a");
    object["metadata"]["finalizers"] =
        json!(["resources-finalizer.argocd.argoproj.io", "example.com/a", "orphan"]);
    let made = client.post(CRONTABS, &object).await;
    let advice = "299 - \"metadata.finalizers: \\\"resources-finalizer.argocd.argoproj.io\\\": prefer a \
                  domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other \
                  finalizer writers\"";
    assert_eq!(made.warnings(), [advice]);
    let mut made = made.expect(201);
    made["spec"]["image"] = json!("b");
    let changed = client.put(&format!("{CRONTABS}/a"), &made).await;
    assert_eq!(changed.warnings(), [""; 0], "it was there before");
    changed.expect(200);
    object["metadata"]["name"] = json!("b");
    object["metadata"]["finalizers"] = json!(["a b"]);
    let refused = client.post(CRONTABS, &object).await.expect(422);
    let words = refused["message"].as_str().unwrap();
    assert!(
        words.contains("metadata.finalizers: Invalid value: \"a b\": name part must consist of"),
        "{words}"
    );
}

#[tokio::test]
async fn objects_are_pruned_defaulted_judged_and_changed() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let mut object = crontab("a");
    object["spec"]["unknown"] = json!(1);
    object["spec"]["free"] = json!({"any": {"thing": [1]}});
    let strict = client.post(&format!("{CRONTABS}?fieldValidation=Strict"), &object).await.expect(400);
    assert!(
        strict["message"].as_str().unwrap().contains("strict decoding error: unknown field \"spec.unknown\"")
    );
    let warned = client.post(&format!("{CRONTABS}?fieldValidation=Warn&dryRun=All"), &object).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.unknown\\\"\""]);
    let created = client.post(CRONTABS, &object).await.expect(201);
    assert_eq!(created["spec"]["replicas"], 1);
    assert_eq!(created["spec"].get("unknown"), None);
    assert_eq!(created["spec"]["free"], json!({"any": {"thing": [1]}}));
    assert_eq!(created["metadata"]["generation"], 1);
    let mut wrong = crontab("b");
    wrong["spec"] = json!({"cronSpec": "never", "replicas": "three"});
    let refused = client.post(CRONTABS, &wrong).await.expect(422);
    let words = refused["message"].as_str().unwrap();
    assert!(words.starts_with("CronTab.stable.example.com \"b\" is invalid: ["), "{words}");
    assert!(words.contains(r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#), "{words}");
    assert!(words.contains("spec.cronSpec in body should match"), "{words}");

    let path = format!("{CRONTABS}/a");
    let merged = client.patch("merge", &path, &json!({"spec": {"image": "b"}})).await.expect(200);
    assert_eq!((&merged["spec"]["image"], &merged["metadata"]["generation"]), (&json!("b"), &json!(2)));
    let json_patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 11}]);
    client.patch("json", &path, &json_patch).await.expect(422);
    let strategic = client.patch("strategic-merge", &path, &json!({})).await.expect(415);
    assert!(!strategic["message"].as_str().unwrap().contains("strategic"), "{strategic}");
    let labelled =
        client.patch("merge", &path, &json!({"metadata": {"labels": {"x": "y"}}})).await.expect(200);
    assert_eq!(labelled["metadata"]["generation"], 2, "labels are not what is wanted");
    let mut blind = labelled.clone();
    blind["metadata"]["resourceVersion"] = Value::Null;
    client.put(&path, &blind).await.expect(422);

    let protobuf = "application/vnd.kubernetes.protobuf";
    assert_eq!(client.with("accept", protobuf).get(&path).await.code, 406);
    assert_eq!(
        client.with("content-type", protobuf).send(http::Method::POST, CRONTABS, "k8s\0").await.code,
        415
    );
    let both = client.with("accept", "application/vnd.kubernetes.protobuf,application/json").get(&path).await;
    assert_eq!(both.expect(200)["kind"], "CronTab");

    let by_image = client.get(&format!("{CRONTABS}?fieldSelector=spec.image%3Db")).await.expect(200);
    assert_eq!((by_image["items"].as_array().unwrap().len(), &by_image["kind"]), (1, &json!("CronTabList")));
    assert_eq!(client.get(&format!("{CRONTABS}?fieldSelector=spec.replicas%3D1")).await.code, 400);
    let table =
        client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").get(CRONTABS).await.expect(200);
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(columns, ["Name", "Spec", "Replicas"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "* * * * */5", 1]));
}

#[tokio::test]
async fn watches_status_and_scale() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let mut events = client.watch(&format!("{CRONTABS}?watch=1&fieldSelector=spec.image%3Da")).await;
    let mut object = crontab("a");
    object["status"] = json!({"replicas": 7});
    let created = client.post(CRONTABS, &object).await.expect(201);
    assert_eq!(created.get("status"), None, "the status has its own way in");
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]["replicas"]), (&json!("ADDED"), &json!(1)));

    let path = format!("{CRONTABS}/a");
    let mut with_status = created.clone();
    with_status["status"] = json!({"replicas": 2, "selector": "app=a", "unknown": 1});
    with_status["spec"]["image"] = json!("ignored");
    let updated = client.put(&format!("{path}/status"), &with_status).await.expect(200);
    assert_eq!(updated["status"], json!({"replicas": 2, "selector": "app=a"}));
    assert_eq!((&updated["spec"]["image"], &updated["metadata"]["generation"]), (&json!("a"), &json!(1)));
    let wrong = client.patch("merge", &format!("{path}/status"), &json!({"status": {"replicas": "x"}})).await;
    assert!(
        wrong.expect(422)["message"]
            .as_str()
            .unwrap()
            .contains("status.replicas in body must be of type integer")
    );

    let scale = client.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"], &scale["status"]),
        (&json!("Scale"), &json!({"replicas": 1}), &json!({"replicas": 2, "selector": "app=a"}))
    );
    let scaled =
        client.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 3}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 3);
    let after = client.get(&path).await.expect(200);
    assert_eq!((&after["spec"]["replicas"], &after["metadata"]["generation"]), (&json!(3), &json!(2)));
    client.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 99}})).await.expect(422);
    client.patch("merge", &path, &json!({"spec": {"image": "b"}})).await.expect(200);
    for expected in ["MODIFIED a", "MODIFIED a", "DELETED a"] {
        assert_eq!(events.line().await, expected);
    }
}

#[tokio::test]
async fn configurations_are_applied_by_the_schema() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let path = |manager: &str| format!("{CRONTABS}/a?fieldManager={manager}");
    let config = |ports: Value| {
        let mut config = crontab("a");
        config["spec"]["ports"] = ports;
        config
    };
    let first = config(json!([{"name": "web", "port": 80}]));
    let created = client.patch("apply", &path("one"), &first).await.expect(201);
    assert_eq!(created["spec"]["replicas"], 1);
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(fields["f:ports"]["k:{\"name\":\"web\"}"].is_object(), "{fields}");
    assert_eq!(fields.get("f:replicas"), None, "a default is nobody's wish");
    let other = json!({
        "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
        "spec": {"ports": [{"name": "dns", "port": 53}]},
    });
    let merged = client.patch("apply", &path("two"), &other).await.expect(200);
    assert_eq!(merged["spec"]["ports"].as_array().unwrap().len(), 2);
    let conflict = json!({
        "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
        "spec": {"image": "mine"},
    });
    client.patch("apply", &path("three"), &conflict).await.expect(409);
    let without = client.patch("apply", &path("one"), &config(json!([]))).await.expect(200);
    assert_eq!(without["spec"]["ports"], json!([{"name": "dns", "port": 53}]));
    let mut unknown = crontab("a");
    unknown["spec"]["nowhere"] = json!(1);
    let refused = client.patch("apply", &path("one"), &unknown).await.expect(400);
    assert!(refused["message"].as_str().unwrap().contains(".spec.nowhere: field not declared in schema"));
}

#[tokio::test]
async fn versions_differ_and_old_objects_get_new_defaults() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let first = established(&client, &definition()).await;
    client.post(CRONTABS, &crontab("old")).await.expect(201);
    let mut second = first;
    let mut v2 = second["spec"]["versions"][0].clone();
    v2["name"] = json!("v2");
    v2["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["zone"] =
        json!({"type": "string", "default": "here"});
    second["spec"]["versions"][0]["storage"] = json!(false);
    second["spec"]["versions"].as_array_mut().unwrap().push(v2);
    let path = format!("{DEFINITIONS}/{NAME}");
    let updated = client.put(&path, &second).await.expect(200);
    assert_eq!(updated["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(updated["metadata"]["generation"], 2);
    eventually(&client, "/apis/stable.example.com", |_, g| g["preferredVersion"]["version"] == "v2").await;
    let in_v2 = "/apis/stable.example.com/v2/namespaces/default/crontabs";
    // Stored in v1, whose defaults it gets, and read in v2.
    let read = client.get(&format!("{in_v2}/old")).await.expect(200);
    assert_eq!(read["apiVersion"], "stable.example.com/v2");
    assert_eq!(read["spec"].get("zone"), None);
    let rewritten =
        client.patch("merge", &format!("{in_v2}/old"), &json!({"spec": {"image": "b"}})).await.expect(200);
    assert_eq!(rewritten["spec"]["zone"], "here");
    let as_v1 = client.get(&format!("{CRONTABS}/old")).await.expect(200);
    assert_eq!((&as_v1["apiVersion"], as_v1["spec"].get("zone")), (&json!("stable.example.com/v1"), None));
    // A default that comes later is there for what is stored in that version.
    let mut third = client.get(&path).await.expect(200);
    third["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["later"] =
        json!({"type": "integer", "default": 5});
    client.put(&path, &third).await.expect(200);
    eventually(&client, &format!("{in_v2}/old"), |_, o| o["spec"]["later"] == 5).await;
    let gone = client.get(&path).await.expect(200);
    let mut only_v2 = gone;
    only_v2["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = client.put(&path, &only_v2).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("v1 was previously a storage version"));
}

#[tokio::test]
async fn a_version_goes_once_nothing_is_stored_in_it() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut both = definition();
    let mut v2 = both["spec"]["versions"][0].clone();
    v2["name"] = json!("v2");
    both["spec"]["versions"].as_array_mut().unwrap().push(v2);
    both["spec"]["versions"][1]["storage"] = json!(false);
    let mut moved = established(&client, &both).await;
    client.post(CRONTABS, &crontab("a")).await.expect(201);
    moved["spec"]["versions"][0]["storage"] = json!(false);
    moved["spec"]["versions"][1]["storage"] = json!(true);
    let path = format!("{DEFINITIONS}/{NAME}");
    let mut moved = client.put(&path, &moved).await.expect(200);
    assert_eq!(moved["status"]["storedVersions"], json!(["v1", "v2"]));
    // A migration writes each object again, which brings it into the version that is stored now.
    let in_v2 = "/apis/stable.example.com/v2/namespaces/default/crontabs/a";
    let before = client.get(in_v2).await.expect(200);
    let after = client.put(in_v2, &before).await.expect(200);
    assert_ne!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    moved["status"]["storedVersions"] = json!(["v2"]);
    moved["metadata"]["resourceVersion"] = Value::Null;
    client.put(&format!("{path}/status"), &moved).await.expect(200);
    let mut only = client.get(&path).await.expect(200);
    assert_eq!(only["status"]["storedVersions"], json!(["v2"]));
    only["spec"]["versions"].as_array_mut().unwrap().remove(0);
    client.put(&path, &only).await.expect(200);
    eventually(&client, "/apis/stable.example.com/v1", |code, _| code == 404).await;
    client.get(in_v2).await.expect(200);
}

#[tokio::test]
async fn what_a_stricter_schema_refuses_stays_until_it_is_changed() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut stricter = established(&client, &definition()).await;
    let mut object = crontab("a");
    object["spec"]["image"] = json!("long-name");
    client.post(CRONTABS, &object).await.expect(201);
    let fields =
        &mut stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    fields["image"]["maxLength"] = json!(3);
    client.put(&format!("{DEFINITIONS}/{NAME}"), &stricter).await.expect(200);
    for _ in 0..200 {
        if client.post(&format!("{CRONTABS}?dryRun=All"), &json!({
            "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "b"}, "spec": {"image": "long"},
        })).await.code == 422
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let path = format!("{CRONTABS}/a");
    client.patch("merge", &path, &json!({"spec": {"replicas": 2}})).await.expect(200);
    client.patch("merge", &format!("{path}/status"), &json!({"status": {"replicas": 1}})).await.expect(200);
    client.patch("merge", &path, &json!({"spec": {"image": "longer"}})).await.expect(422);
    client.patch("merge", &path, &json!({"spec": {"image": "abc"}})).await.expect(200);
}

#[tokio::test]
async fn a_watch_ends_when_the_schema_changes() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let mut events = client.watch(&format!("{CRONTABS}?watch=1")).await;
    let path = format!("{DEFINITIONS}/{NAME}");
    client.patch("merge", &path, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    client.post(CRONTABS, &crontab("a")).await.expect(201);
    assert_eq!(events.line().await, "ADDED a", "a label changes nothing of the kind");
    let mut changed = client.get(&path).await.expect(200);
    let schema = &mut changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["added"] = json!({"type": "string", "default": "x"});
    client.put(&path, &changed).await.expect(200);
    assert_eq!(events.line().await, "END");
    let listed = client.get(CRONTABS).await.expect(200);
    assert_eq!(listed["items"][0]["spec"]["added"], "x");
}

#[tokio::test]
async fn names_conflict_and_are_freed() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let mut other = definition();
    other["metadata"]["name"] = json!("others.stable.example.com");
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["ct"]});
    client.post(DEFINITIONS, &other).await.expect(201);
    let path = format!("{DEFINITIONS}/others.stable.example.com");
    let refused = eventually(&client, &path, |_, d| condition(d, "NamesAccepted") == "False").await;
    assert_eq!(condition(&refused, "Established"), "False");
    assert_eq!(client.get("/apis/stable.example.com/v1/namespaces/default/others").await.code, 404);
    client.delete(&format!("{DEFINITIONS}/{NAME}")).await.expect(200);
    eventually(&client, &path, |_, d| condition(d, "Established") == "True").await;
    client.get("/apis/stable.example.com/v1/namespaces/default/others").await.expect(200);
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    established(&client, &definition()).await;
    let mut held = crontab("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.post(CRONTABS, &held).await.expect(201);
    client.post(CRONTABS, &crontab("free")).await.expect(201);
    let path = format!("{DEFINITIONS}/{NAME}");
    let deleted = client.delete(&path).await.expect(200);
    assert_eq!(condition(&deleted, "Terminating"), "True");
    assert_eq!(deleted["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    eventually(&client, &format!("{CRONTABS}/free"), |code, _| code == 404).await;
    let refused = client.post(CRONTABS, &crontab("late")).await.expect(405);
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");
    client.get(&path).await.expect(200);
    client
        .patch("merge", &format!("{CRONTABS}/held"), &json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    eventually(&client, &path, |code, _| code == 404).await;
    eventually(&client, "/apis/stable.example.com/v1", |code, _| code == 404).await;
}

#[tokio::test]
async fn a_server_that_comes_back_serves_what_was_there() {
    let cluster = Cluster::start().await;
    established(&cluster.client(), &definition()).await;
    cluster.client().post(CRONTABS, &crontab("a")).await.expect(201);
    let again = cluster.another();
    again.api.start().await.unwrap();
    assert_eq!(again.client().get(&format!("{CRONTABS}/a")).await.expect(200)["spec"]["replicas"], 1);
}
