//! The life of an object of each kind that is stored: made, read in every form, listed, watched, changed by each kind of
//! patch and by updates, its status written, and deleted. What is asked and answered is the same for all kinds.

// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use carrack_api::{Resource, Verb, resources};
use common::objects::{collection, objects};
use common::{Answer, Client, Cluster, Events};
use http::Method;
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// Kinds whose status and finalizers the server writes by itself, whenever it likes.
const OWN_STATUS: &[&str] = &[
    "apiservices",
    "customresourcedefinitions",
    "flowschemas",
    "prioritylevelconfigurations",
    "servicecidrs",
    "validatingadmissionpolicies",
];

/// Kinds whose annotations count as a new generation, as upstream.
const ANNOTATIONS_COUNT: &[&str] = &["deployments"];

#[tokio::test]
async fn every_kind_has_an_object() {
    let all = objects();
    let there: BTreeSet<_> = all.iter().map(|(row, _)| (row.api_version, row.kind)).collect();
    let wanted: BTreeSet<_> = resources()
        .iter()
        .filter(|row| row.allows(Verb::Update))
        .map(|row| (row.api_version, row.kind))
        .collect();
    assert_eq!(there, wanted);
    for (row, object) in all {
        let has = object.get("status").is_some();
        assert!(has == row.has_status() || OWN_STATUS.contains(&row.plural), "{row:?}");
    }
}

#[tokio::test]
async fn an_object_of_each_kind_lives_its_life() {
    let cluster = Cluster::start().await;
    cluster.settled().await;
    let mut failed = Vec::new();
    let tasks = tokio::task::LocalSet::new();
    for (row, object) in objects() {
        // Each in a task of its own: what is wrong with one says nothing of the next.
        let life = tasks.spawn_local(life(cluster.client(), row, object));
        if tasks.run_until(life).await.is_err() {
            failed.push(format!("{} {}", row.api_version, row.kind));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

async fn life(client: Client, row: &'static Resource, object: Value) {
    let mut life = Life::begin(client, row, &object).await;
    life.is_read_in_every_form().await;
    life.is_patched().await;
    life.is_updated().await;
    life.has_a_status(&object).await;
    life.ends().await;
}

/// One object, as it was answered last.
struct Life {
    client: Client,
    row: &'static Resource,
    path: String,
    watch: Events,
    now: Value,
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Whether everything of `part` is in `whole`; `at` for the message.
#[track_caller]
fn contains(whole: &Value, part: &Value, at: &str) {
    match part {
        Value::Object(fields) => {
            for (name, value) in fields {
                contains(&whole[name], value, &format!("{at}/{name}"));
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                contains(&whole[number], item, &format!("{at}/{number}"));
            }
        }
        other => assert_eq!(whole, other, "{at}"),
    }
}

impl Life {
    async fn begin(client: Client, row: &'static Resource, object: &Value) -> Self {
        let path = collection(row);
        let list = client.get(&path).await.expect(200);
        let since = list["metadata"]["resourceVersion"].as_str().unwrap();
        let watch = client.watch(&format!("{path}?watch=true&resourceVersion={since}")).await;
        let dry = client.post(&format!("{path}?dryRun=All"), object).await.expect(201);
        let name = object["metadata"]["name"].as_str().unwrap();
        client.get(&format!("{path}/{name}")).await.expect(404);
        let now = client.post(&path, object).await.expect(201);
        let mut sent = object.clone();
        sent.as_object_mut().unwrap().remove("status");
        contains(&now, &sent, "");
        contains(&dry, &sent, "");
        let metadata = &now["metadata"];
        assert_eq!(metadata["uid"].as_str().map(str::len), Some(36), "{now}");
        assert!(metadata["creationTimestamp"].is_string() && revision(&now) > 0, "{now}");
        let again = client.post(&path, object).await.expect(409);
        assert_eq!(again["reason"], "AlreadyExists");
        Life { path: format!("{path}/{name}"), client, row, watch, now }
    }

    /// The object as it should be, without what changes with each write, and what the server writes by itself.
    fn rest(&self, object: &Value) -> Value {
        let mut object = object.clone();
        let metadata = object["metadata"].as_object_mut().unwrap();
        for field in ["resourceVersion", "managedFields", "labels", "annotations"] {
            metadata.remove(field);
        }
        if OWN_STATUS.contains(&self.row.plural) {
            metadata.remove("finalizers");
            object.as_object_mut().unwrap().remove("status");
        }
        object
    }

    /// Whether a write came too late because the server itself has written the status in between.
    fn was_overtaken(&self, code: u16) -> bool {
        code == 409 && OWN_STATUS.contains(&self.row.plural)
    }

    async fn read(&self) -> Value {
        self.client.get(&self.path).await.expect(200)
    }

    /// Alone, in lists, as a table, as metadata alone, and in protobuf.
    async fn is_read_in_every_form(&mut self) {
        let read = self.read().await;
        assert_eq!(self.rest(&read), self.rest(&self.now));
        let name = read["metadata"]["name"].as_str().unwrap().to_owned();
        let all = collection(self.row);
        let list = self.client.get(&format!("{all}?fieldSelector=metadata.name%3D{name}")).await.expect(200);
        assert_eq!(list["kind"], self.row.list_kind);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
        let mut item = list["items"][0].clone();
        (item["apiVersion"], item["kind"]) = (self.row.api_version.into(), self.row.kind.into());
        assert_eq!(self.rest(&item), self.rest(&read));

        let table = self.client.with("accept", TABLE).get(&self.path).await.expect(200);
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        // Upstream sends ages of addresses, and no column for them.
        let columns = columns + usize::from(self.row.plural == "ipaddresses");
        assert_eq!(
            (table["kind"].as_str(), table["rows"].as_array().map(Vec::len)),
            (Some("Table"), Some(1))
        );
        assert_eq!(table["rows"][0]["cells"].as_array().map(Vec::len), Some(columns), "{table}");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");

        let partial = self.client.with("accept", PARTIAL).get(&self.path).await.expect(200);
        assert_eq!(partial["kind"], "PartialObjectMetadata");
        assert_eq!(partial["metadata"]["uid"], read["metadata"]["uid"]);
        assert!(partial.get("spec").is_none());
        self.is_the_same_in_protobuf().await;
    }

    /// What is read in protobuf and written back as it is changes nothing.
    async fn is_the_same_in_protobuf(&mut self) {
        let read = self.client.with("accept", PROTOBUF).get(&self.path).await;
        if !self.row.has_protobuf() {
            assert_eq!(read.code, 406, "{}", read.text());
            return;
        }
        assert!(read.code == 200 && read.bytes.starts_with(b"k8s\0"), "{}", read.text());
        let (mut read, mut before) = (read, self.read().await);
        let writer = self.client.with("content-type", PROTOBUF);
        let mut answer = writer.send(Method::PUT, &self.path, read.bytes).await;
        while self.was_overtaken(answer.code) {
            read = self.client.with("accept", PROTOBUF).get(&self.path).await;
            before = self.read().await;
            answer = writer.send(Method::PUT, &self.path, read.bytes).await;
        }
        let written = answer.expect(200);
        assert_eq!(self.rest(&written), self.rest(&before));
        if !OWN_STATUS.contains(&self.row.plural) {
            assert_eq!(revision(&written), revision(&before), "nothing changed, so nothing is written");
        }
        self.now = written;
    }

    /// Each kind of patch sets a label, and nothing else changes.
    async fn is_patched(&mut self) {
        let name = self.now["metadata"]["name"].clone();
        let patches = [
            ("merge", json!({"metadata": {"labels": {"merge": "1"}}})),
            ("json", json!([{"op": "add", "path": "/metadata/labels/json", "value": "1"}])),
            ("strategic-merge", json!({"metadata": {"labels": {"strategic-merge": "1"}}})),
            (
                "apply",
                json!({
                    "apiVersion": self.row.api_version, "kind": self.row.kind,
                    "metadata": {"name": name, "labels": {"apply": "1"}},
                }),
            ),
        ];
        for (kind, patch) in patches {
            let before = self.now.clone();
            let path = format!("{}?fieldManager=lives", self.path);
            let answer = self.client.patch(kind, &path, &patch).await.expect(200);
            assert_eq!(answer["metadata"]["labels"][kind], "1", "{kind}: {answer}");
            assert!(revision(&answer) > revision(&before), "{kind}");
            assert_eq!(self.rest(&answer), self.rest(&before), "{kind}");
            let managers = answer["metadata"]["managedFields"].as_array().unwrap();
            let operation = if kind == "apply" { "Apply" } else { "Update" };
            let owns = |m: &Value| m["manager"] == "lives" && m["operation"] == operation;
            assert!(managers.iter().any(owns), "{kind}: {managers:?}");
            let again = self.client.patch(kind, &path, &patch).await.expect(200);
            if !OWN_STATUS.contains(&self.row.plural) {
                assert_eq!(revision(&again), revision(&answer), "{kind} a second time changes nothing");
            }
            self.now = again;
        }
    }

    async fn is_updated(&mut self) {
        let (mut wanted, answer) = loop {
            let mut wanted = self.read().await;
            wanted["metadata"]["annotations"]["example.com/updated"] = "yes".into();
            let answer = self.client.put(&self.path, &wanted).await;
            if !self.was_overtaken(answer.code) {
                break (wanted, answer.expect(200));
            }
        };
        assert_eq!(answer["metadata"]["annotations"]["example.com/updated"], "yes");
        if ANNOTATIONS_COUNT.contains(&self.row.plural) {
            let before = wanted["metadata"]["generation"].as_u64().unwrap();
            wanted["metadata"]["generation"] = (before + 1).into();
        }
        assert_eq!(self.rest(&answer), self.rest(&wanted));
        wanted["metadata"]["resourceVersion"] = "1".into();
        let stale = self.client.put(&self.path, &wanted).await.expect(409);
        assert_eq!(stale["reason"], "Conflict");
        self.now = answer;
    }

    /// The status has a way of its own, and nothing else goes that way.
    async fn has_a_status(&mut self, object: &Value) {
        let path = format!("{}/status", self.path);
        if !self.row.has_status() {
            self.client.get(&path).await.expect(404);
            return;
        }
        let Some(status) = object.get("status") else { return };
        let patch = json!({"metadata": {"labels": {"status": "1"}}, "status": status});
        let answer = self.client.patch("merge", &path, &patch).await.expect(200);
        contains(&answer["status"], status, "/status");
        assert_eq!(answer.get("spec"), self.now.get("spec"));
        assert_eq!(answer["metadata"]["generation"], self.now["metadata"]["generation"]);
        let read = self.client.get(&path).await.expect(200);
        assert_eq!(self.rest(&read), self.rest(&answer));
        let around = json!({"metadata": {"labels": {"around": "1"}}, "status": null});
        let kept = self.client.patch("merge", &self.path, &around).await.expect(200);
        contains(&kept["status"], status, "/status");
        self.now = kept;
    }

    /// Deletion as a rehearsal, and then for good; watchers have seen it all.
    async fn ends(mut self) {
        let no_finalizers = json!({"metadata": {"finalizers": null}});
        self.client.patch("merge", &self.path, &no_finalizers).await.expect(200);
        self.client.send(Method::DELETE, &format!("{}?dryRun=All", self.path), "").await.expect(200);
        let last = self.read().await;
        assert!(last["metadata"].get("deletionTimestamp").is_none());
        let wrong = json!({"preconditions": {"uid": "another"}});
        self.client.delete_with(&self.path, &wrong).await.expect(409);
        self.client.delete_with(&self.path, &json!({"gracePeriodSeconds": 0})).await.expect(200);
        if self.row.plural == "namespaces" {
            self.is_finalized().await;
        }
        let uid = &last["metadata"]["uid"];
        let mut seen = Vec::new();
        loop {
            let event = self.watch.next().await.expect("the watch goes on");
            if event["object"]["metadata"]["uid"] != *uid {
                continue;
            }
            let revision = revision(&event["object"]);
            assert!(seen.last().is_none_or(|(_, before)| *before < revision), "{seen:?} {event}");
            seen.push((event["type"].as_str().unwrap().to_owned(), revision));
            if event["type"] == "DELETED" {
                break;
            }
        }
        // The deletion is seen when whoever holds the object by a finalizer has let it go.
        self.client.get(&self.path).await.expect(404);
        let kinds: BTreeSet<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, BTreeSet::from(["ADDED", "MODIFIED", "DELETED"]));
        assert_eq!(
            (seen[0].0.as_str(), seen.iter().filter(|(kind, _)| kind == "ADDED").count()),
            ("ADDED", 1)
        );
    }

    /// What the namespace controller does when nothing is left in it.
    async fn is_finalized(&self) {
        let mut terminating = self.read().await;
        assert_eq!(terminating["status"]["phase"], "Terminating");
        terminating["spec"]["finalizers"] = json!([]);
        let answer: Answer = self.client.put(&format!("{}/finalize", self.path), &terminating).await;
        answer.expect(200);
    }
}
