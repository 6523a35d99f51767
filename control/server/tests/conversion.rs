//! Custom resources that a webhook converts, against a real HTTPS server: what it is asked, what its answers do in every
//! verb, and what happens without one.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Client, Cluster};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tls::{TlsServer, reply};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "servers.example.com";
const V1: &str = "/apis/example.com/v1/namespaces/default/servers";
const V2: &str = "/apis/example.com/v2/namespaces/default/servers";

/// How the webhook answers.
type Mode = Arc<Mutex<&'static str>>;

struct Converted {
    cluster: Cluster,
    client: Client,
    server: TlsServer,
    /// The reviews that the webhook got.
    asked: Arc<Mutex<Vec<Value>>>,
    mode: Mode,
}

/// In v1 there is `spec.hostPort` ("host:port") and `spec.replicas`, in v2 `spec.host`, `spec.port` and `spec.scale`.
fn convert(object: &Value, to: &str) -> Value {
    let mut new = object.clone();
    new["apiVersion"] = to.into();
    let spec = &object["spec"];
    new["spec"] = if to.ends_with("/v2") {
        let (host, port) = spec["hostPort"].as_str().unwrap_or(":").split_once(':').unwrap();
        json!({"host": host, "port": port, "scale": spec["replicas"]})
    } else {
        let part = |name: &str| spec[name].as_str().unwrap_or_default().to_owned();
        json!({"hostPort": format!("{}:{}", part("host"), part("port")), "replicas": spec["scale"]})
    };
    // What converters may change, and what they may not.
    new["metadata"]["labels"]["version"] = to.split('/').next_back().unwrap().into();
    new["metadata"]["generation"] = json!(77);
    new
}

fn answer(review: &Value, mode: &str) -> (u16, Value) {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let mut converted: Vec<Value> = objects.iter().map(|object| convert(object, to)).collect();
    let mut result = json!({"status": "Success"});
    match mode {
        "failure" => result = json!({"status": "Failure", "message": "cannot do that"}),
        "other-uid" => converted[0]["metadata"]["uid"] = json!("other"),
        "few" => drop(converted.pop()),
        "500" => return (500, json!({})),
        _ => {}
    }
    let response = json!({"uid": request["uid"], "result": result, "convertedObjects": converted});
    (200, json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}))
}

fn schema(fields: Value) -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": fields},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}}},
    }}})
}

fn definition(server: &TlsServer) -> Value {
    let text = json!({"type": "string"});
    let version = |name: &str, stored: bool, scale: &str, fields: Value| {
        json!({
            "name": name, "served": true, "storage": stored, "schema": schema(fields),
            "subresources": {"status": {}, "scale": {
                "specReplicasPath": format!(".spec.{scale}"), "statusReplicasPath": ".status.ready",
            }},
            "additionalPrinterColumns": [{"name": "Scale", "type": "integer", "jsonPath": format!(".spec.{scale}")}],
        })
    };
    let mut v1 = version(
        "v1",
        true,
        "replicas",
        json!({
            "hostPort": text, "replicas": {"type": "integer", "default": 1, "maximum": 5},
        }),
    );
    v1["selectableFields"] = json!([{"jsonPath": ".spec.hostPort"}]);
    let mut v2 = version(
        "v2",
        false,
        "scale",
        json!({
            "host": text, "port": text, "scale": {"type": "integer"}, "late": {"type": "string", "default": "x"},
        }),
    );
    v2["selectableFields"] = json!([{"jsonPath": ".spec.host"}]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "servers", "kind": "Server"},
            "versions": [v1, v2],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{}/convert", server.address.port()), "caBundle": server.ca_bundle,
                },
            }},
        },
    })
}

fn v1(name: &str, host_port: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Server", "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"hostPort": host_port},
    })
}

impl Converted {
    async fn start() -> Self {
        let (asked, mode): (Arc<Mutex<Vec<Value>>>, Mode) = (Arc::default(), Arc::new(Mutex::new("")));
        let (notes, how) = (asked.clone(), mode.clone());
        let server = TlsServer::start(&["127.0.0.1"], move |request| {
            let (notes, how) = (notes.clone(), how.clone());
            Box::pin(async move {
                assert_eq!(request.uri().query(), Some("timeout=30s"));
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let review: Value = serde_json::from_slice(&body).unwrap();
                let (code, answer) = answer(&review, *how.lock().unwrap());
                notes.lock().unwrap().push(review);
                reply(code, answer.to_string())
            })
        })
        .await;
        let cluster = Cluster::start().await;
        let client = cluster.client();
        let this = Converted { client, server, asked, mode, cluster };
        this.define(&definition(&this.server)).await;
        this
    }

    /// Creates or replaces the definition and waits until it is served as it says.
    async fn define(&self, definition: &Value) {
        let path = format!("{DEFINITIONS}/{NAME}");
        if self.client.get(&path).await.code == 404 {
            self.client.post(DEFINITIONS, definition).await.expect(201);
        } else {
            self.client.put(&path, definition).await.expect(200);
        }
        for _ in 0..200 {
            if self.client.get(V1).await.code == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the definition is not served");
    }

    fn answer_with(&self, mode: &'static str) {
        *self.mode.lock().unwrap() = mode;
    }

    /// The reviews since the last look, each as the version asked for and the number of objects.
    fn asked(&self) -> Vec<(String, usize)> {
        let all = std::mem::take(&mut *self.asked.lock().unwrap());
        let told = |review: Value| {
            let request = &review["request"];
            let to = request["desiredAPIVersion"].as_str().unwrap().to_owned();
            (to, request["objects"].as_array().unwrap().len())
        };
        all.into_iter().map(told).collect()
    }
}

#[tokio::test]
async fn objects_are_read_and_written_in_every_version() {
    let it = Converted::start().await;
    let client = &it.client;
    let created = client.post(V1, &v1("a", "here:80")).await.expect(201);
    assert_eq!(it.asked(), [], "what is stored as it is asked for is not converted");
    let read = client.get(&format!("{V2}/a")).await.expect(200);
    // The default of v1 came before, that of v2 is for what is written in v2.
    assert_eq!(read["spec"], json!({"host": "here", "port": "80", "scale": 1}));
    assert_eq!(read["apiVersion"], "example.com/v2");
    assert_eq!(read["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!(read["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(read["metadata"]["generation"], 1, "metadata is the server's");
    assert_eq!(read["metadata"]["labels"], json!({"a": "b", "version": "v2"}), "but for labels");
    client.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(it.asked(), [("example.com/v2".to_owned(), 1)], "once for each object and version");

    let mut changed = read;
    changed["spec"]["port"] = json!("81");
    let updated = client.put(&format!("{V2}/a"), &changed).await.expect(200);
    // It is stored in v1, which has no field for the default of v2.
    assert_eq!(updated["spec"], json!({"host": "here", "port": "81", "scale": 1}));
    assert_eq!(updated["metadata"]["generation"], 2);
    assert_eq!(
        client.get(&format!("{V1}/a")).await.expect(200)["spec"],
        json!({"hostPort": "here:81", "replicas": 1})
    );
    let patched =
        client.patch("merge", &format!("{V2}/a"), &json!({"spec": {"host": "there"}})).await.expect(200);
    assert_eq!(patched["spec"]["host"], "there");

    let made = json!({
        "apiVersion": "example.com/v2", "kind": "Server", "metadata": {"name": "b"},
        "spec": {"host": "b", "port": "1", "scale": 3},
    });
    client.post(V2, &made).await.expect(201);
    assert_eq!(
        client.get(&format!("{V1}/b")).await.expect(200)["spec"],
        json!({"hostPort": "b:1", "replicas": 3})
    );
    let dry = json!({
        "apiVersion": "example.com/v2", "kind": "Server", "metadata": {"name": "c"},
        "spec": {"host": "c", "port": "1"},
    });
    let dry = client.post(&format!("{V2}?dryRun=All"), &dry).await;
    assert_eq!(dry.expect(201)["spec"]["late"], "x");
}

#[tokio::test]
async fn status_scale_tables_and_deletions_go_through_other_versions() {
    let it = Converted::start().await;
    let client = &it.client;
    client.post(V1, &v1("a", "here:80")).await.expect(201);
    let path = format!("{V2}/a");
    let status =
        client.patch("merge", &format!("{path}/status"), &json!({"status": {"ready": 2}})).await.expect(200);
    assert_eq!((&status["status"], &status["spec"]["host"]), (&json!({"ready": 2}), &json!("here")));
    let scale = client.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(2)));
    let scaled =
        client.patch("merge", &format!("{path}/scale"), &json!({"spec": {"replicas": 4}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 4);
    assert_eq!(client.get(&format!("{V1}/a")).await.expect(200)["spec"]["replicas"], 4);
    let table =
        client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").get(V2).await.expect(200);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 4]));
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = client.with("accept", partial).get(V2).await.expect(200);
    assert_eq!(metadata["items"][0]["metadata"]["labels"]["version"], "v2");
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    client.patch("merge", &path, &held).await.expect(200);
    let going = client.delete(&path).await.expect(200);
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    assert_eq!(going["apiVersion"], "example.com/v2");
    client.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    assert_eq!(client.get(&format!("{V1}/a")).await.code, 404);
    for name in ["b", "c"] {
        client.post(V1, &v1(name, "x:1")).await.expect(201);
    }
    let gone = client.delete(V2).await.expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    assert_eq!(client.get(V1).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_list_is_one_question_and_an_event_is_one_for_all_watchers() {
    let it = Converted::start().await;
    let client = &it.client;
    for at in 0..5 {
        client.post(V1, &v1(&format!("s{at}"), &format!("h{at}:80"))).await.expect(201);
    }
    let list = client.get(V2).await.expect(200);
    let hosts: Vec<&str> =
        list["items"].as_array().unwrap().iter().filter_map(|o| o["spec"]["host"].as_str()).collect();
    assert_eq!(hosts, ["h0", "h1", "h2", "h3", "h4"]);
    assert_eq!(it.asked(), [("example.com/v2".to_owned(), 5)]);
    let page = client.get(&format!("{V2}?limit=2")).await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let by_host = client.get(&format!("{V2}?fieldSelector=spec.host%3Dh3")).await.expect(200);
    assert_eq!(by_host["items"][0]["metadata"]["name"], "s3");
    let by_label = client.get(&format!("{V2}?labelSelector=version%3Dv2")).await.expect(200);
    assert_eq!(by_label["items"].as_array().unwrap().len(), 5);
    assert_eq!(it.asked(), [], "all of them were known");

    let mut watchers = Vec::new();
    for _ in 0..4 {
        watchers.push(
            client
                .watch(&format!(
                    "{V2}?watch=1&resourceVersion={}",
                    list["metadata"]["resourceVersion"].as_str().unwrap()
                ))
                .await,
        );
    }
    let mut chosen = client.watch(&format!("{V2}?watch=1&fieldSelector=spec.host%3Dh0")).await;
    assert_eq!(chosen.line().await, "ADDED s0");
    client.patch("merge", &format!("{V1}/s0"), &json!({"spec": {"hostPort": "moved:80"}})).await.expect(200);
    for watcher in &mut watchers {
        let event = watcher.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["spec"]["host"]), (&json!("MODIFIED"), &json!("moved")));
    }
    assert_eq!(chosen.line().await, "DELETED s0", "it is selected no more");
    assert_eq!(it.asked(), [("example.com/v2".to_owned(), 1)]);
    client.delete(&format!("{V1}/s0")).await.expect(200);
    let event = watchers[0].next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]["host"]), (&json!("DELETED"), &json!("moved")));
    // A watch that cannot go on says why, and ends.
    it.answer_with("failure");
    client.post(V1, &v1("late", "late:1")).await.expect(201);
    let event = watchers[1].next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    let event = watchers[1].next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(500)));
    assert_eq!(watchers[1].line().await, "END");
}

#[tokio::test]
async fn large_lists_are_several_questions() {
    let it = Converted::start().await;
    let long = "h".repeat(300_000);
    for at in 0..5 {
        it.client.post(V1, &v1(&format!("s{at}"), &format!("{long}{at}:80"))).await.expect(201);
    }
    let list = it.client.get(V2).await.expect(200);
    for (at, object) in list["items"].as_array().unwrap().iter().enumerate() {
        assert_eq!(object["metadata"]["name"], format!("s{at}"));
        assert_eq!(object["spec"]["host"], format!("{long}{at}"));
    }
    let mut sizes: Vec<usize> = it.asked().into_iter().map(|(_, objects)| objects).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 4], "a question has about a mebibyte");
}

#[tokio::test]
async fn fields_are_managed_in_the_version_that_they_were_written_in() {
    let it = Converted::start().await;
    let client = &it.client;
    let apply = |version: &str, manager: &str| {
        format!("/apis/example.com/{version}/namespaces/default/servers/a?fieldManager={manager}")
    };
    let config = |version: &str, spec: Value| json!({"apiVersion": format!("example.com/{version}"), "kind": "Server", "metadata": {"name": "a"}, "spec": spec});
    client.patch("apply", &apply("v1", "one"), &config("v1", json!({"hostPort": "a:1"}))).await.expect(201);
    // The other version's fields are those of the first manager, by another name.
    let refused =
        client.patch("apply", &apply("v2", "two"), &config("v2", json!({"host": "b"}))).await.expect(409);
    assert!(refused["message"].as_str().unwrap().contains("conflict with \"one\""), "{refused}");
    let scaled =
        client.patch("apply", &apply("v2", "two"), &config("v2", json!({"scale": 2}))).await.expect(200);
    let managers = scaled["metadata"]["managedFields"].as_array().unwrap();
    let owned = |manager: &str| {
        let entry = managers.iter().find(|entry| entry["manager"] == manager).unwrap();
        (entry["apiVersion"].clone(), entry["fieldsV1"]["f:spec"].clone())
    };
    assert_eq!(owned("one"), (json!("example.com/v1"), json!({"f:hostPort": {}})));
    assert_eq!(owned("two"), (json!("example.com/v2"), json!({"f:scale": {}})));
    // An update in v2 takes the field of v1 over.
    let changed = client
        .patch("merge", &format!("{V2}/a?fieldManager=three"), &json!({"spec": {"host": "c"}}))
        .await
        .expect(200);
    let managers = changed["metadata"]["managedFields"].as_array().unwrap();
    assert!(!managers.iter().any(|entry| entry["manager"] == "one"), "{managers:?}");
}

#[tokio::test]
async fn failures_are_told_in_upstreams_words_and_spare_what_needs_no_webhook() {
    let it = Converted::start().await;
    let client = &it.client;
    let message = |value: Value| value["message"].as_str().unwrap().to_owned();
    let who = "conversion webhook for example.com/v1, Kind=Server";
    for (at, (mode, words)) in [
        ("failure", "failed: cannot do that".to_owned()),
        ("other-uid", "returned invalid object: must have the same UID: ".to_owned()),
        ("few", "returned 0 objects, expected 1".to_owned()),
        (
            "500",
            "failed: an error on the server (\"{}\") has prevented the request from succeeding".to_owned(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{at}");
        client.post(V1, &v1(&name, "x:1")).await.expect(201);
        it.answer_with(mode);
        let refused = client.get(&format!("{V2}/{name}")).await.expect(500);
        assert!(message(refused).starts_with(&format!("{who} {words}")), "{mode}");
        client.get(V2).await.expect(500);
        assert_eq!(client.delete(&format!("{V2}/{name}")).await.code, 500);
        client.get(V1).await.expect(200);
        // A failure is not kept.
        it.answer_with("");
        client.get(&format!("{V2}/{name}")).await.expect(200);
    }
    let lists = client.delete(V1).await.expect(200);
    assert_eq!(lists["items"].as_array().unwrap().len(), 4);
    // Nobody is there.
    client.post(V1, &v1("kept", "x:1")).await.expect(201);
    let mut nowhere = client.get(&format!("{DEFINITIONS}/{NAME}")).await.expect(200);
    nowhere["spec"]["conversion"]["webhook"]["clientConfig"] =
        json!({"service": {"namespace": "default", "name": "none", "path": "/convert"}});
    it.define(&nowhere).await;
    for _ in 0..100 {
        let refused = message(client.get(&format!("{V2}/kept")).await.json());
        if refused.contains("none.default.svc:443/convert?timeout=30s") {
            assert!(refused.starts_with(&format!("{who} failed: Post \"https://none")), "{refused}");
            // The definition goes with its objects all the same: they are deleted in the version that is stored.
            client.delete(&format!("{DEFINITIONS}/{NAME}")).await.expect(200);
            for _ in 0..200 {
                if client.get(&format!("{DEFINITIONS}/{NAME}")).await.code == 404 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("the definition stays");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the new webhook is not asked");
}

#[tokio::test]
async fn admission_sees_objects_in_the_version_that_it_asks_for() {
    let it = Converted::start().await;
    let client = &it.client;
    let policy = json!({
        "metadata": {"name": "hosts"},
        "spec": {
            "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [{
                "apiGroups": ["example.com"], "apiVersions": ["v2"], "operations": ["CREATE"], "resources": ["servers"],
            }]},
            "validations": [{"expression": "object.spec.host != 'bad'", "message": "bad host"}],
        },
    });
    let group = "/apis/admissionregistration.k8s.io/v1";
    client.post(&format!("{group}/validatingadmissionpolicies"), &policy).await.expect(201);
    let binding = json!({
        "metadata": {"name": "hosts"}, "spec": {"policyName": "hosts", "validationActions": ["Deny"]},
    });
    client.post(&format!("{group}/validatingadmissionpolicybindings"), &binding).await.expect(201);
    let mut refused = 0;
    for at in 0..100 {
        if client.post(V1, &v1(&format!("b{at}"), "bad:1")).await.code == 422 {
            refused = at;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = client.post(V1, &v1("again", "bad:1")).await.expect(422);
    assert!(answer["message"].as_str().unwrap().contains("bad host"), "{refused}: {answer}");
    client.post(V1, &v1("fine", "good:1")).await.expect(201);
}

#[tokio::test]
async fn groups_of_definitions_have_api_services() {
    let it = Converted::start().await;
    let client = &it.client;
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v2.example.com";
    let appears = async |code: u16| {
        for _ in 0..200 {
            let answer = client.get(path).await;
            if answer.code == code {
                return answer.json();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} does not come to {code}");
    };
    let service = appears(200).await;
    assert_eq!(service["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "true"}));
    assert_eq!(
        service["spec"],
        json!({"group": "example.com", "version": "v2", "groupPriorityMinimum": 1000, "versionPriority": 100})
    );
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    // Who deletes it gets it back; it goes with the version.
    let uid = service["metadata"]["uid"].clone();
    client.delete(path).await.expect(200);
    assert_ne!(appears(200).await["metadata"]["uid"], uid);
    let mut one = client.get(&format!("{DEFINITIONS}/{NAME}")).await.expect(200);
    one["spec"]["versions"][1]["served"] = json!(false);
    it.define(&one).await;
    appears(404).await;
    client.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.example.com").await.expect(200);
    drop(it.cluster);
}
