//! A cluster with a webhook server beside it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::common::{Client, Cluster};
use crate::tls::{TlsServer, reply};

pub(crate) const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

/// A cluster with a webhook server beside it that notes what it is asked.
pub(crate) struct Hooked {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) server: TlsServer,
    pub(crate) asked: Arc<Mutex<Vec<(String, Value)>>>,
}

pub(crate) fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// What the webhook at a path answers.
fn answer(path: &str, request: &Value) -> (u16, Value) {
    let patch = |patch: Value| json!({"allowed": true, "patchType": "JSONPatch", "patch": base64(&patch.to_string())});
    let label = |key: &str, value: &str| {
        let at = if request["object"]["metadata"]["labels"].is_object() {
            json!([{"op": "add", "path": format!("/metadata/labels/{key}"), "value": value}])
        } else {
            json!([{"op": "add", "path": "/metadata/labels", "value": {key: value}}])
        };
        patch(at)
    };
    let mut response = match path {
        "/deny" => {
            json!({"allowed": false, "status": {"message": "not on my watch", "code": 403, "reason": "Forbidden"}})
        }
        "/deny-plain" => json!({"allowed": false}),
        "/label-a" => label("a", "1"),
        "/label-b" => label("b", "1"),
        // Counts how often it changed the object.
        "/count" => {
            let count = request["object"]["metadata"]["labels"]["count"].as_str().unwrap_or("0");
            label("count", &(count.parse::<u32>().unwrap() + 1).to_string())
        }
        "/unknown-field" => patch(json!([{"op": "add", "path": "/spec/nonsense", "value": 1},
            {"op": "add", "path": "/spec/containers/0/ports", "value": [{"containerPort": 80}]}])),
        "/status" => patch(json!([{"op": "add", "path": "/status/phase", "value": "Running"}])),
        "/broken-patch" => patch(json!([{"op": "remove", "path": "/nothing/there"}])),
        "/warn" => json!({"allowed": true, "warnings": ["mind the gap"]}),
        "/500" => return (500, json!({"no": "status"})),
        "/other-uid" => {
            return (
                200,
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "x", "allowed": true}}),
            );
        }
        "/old" => return (200, json!({"response": {"allowed": true}})),
        _ => json!({"allowed": true}),
    };
    response["uid"] = request["uid"].clone();
    (200, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

impl Hooked {
    pub(crate) async fn start() -> Self {
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let notes = asked.clone();
        let names = ["127.0.0.1", "hook.default.svc"];
        let server = TlsServer::start(&names, move |request| {
            let notes = notes.clone();
            Box::pin(async move {
                let path = request.uri().path().to_owned();
                let query = request.uri().query().unwrap_or_default().to_owned();
                let shown = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                review["query"] = query.into();
                review["authorization"] = shown.into();
                notes.lock().unwrap().push((path.clone(), review.clone()));
                if path == "/slow" {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                }
                let (code, value) = answer(&path, &review["request"]);
                reply(code, value.to_string())
            })
        })
        .await;
        let cluster = Cluster::start().await;
        let client = cluster.client();
        Hooked { cluster, client, server, asked }
    }

    /// An entry of `webhooks` about ConfigMaps and Pods; `with` is put over it.
    pub(crate) fn hook(&self, path: &str, with: Value) -> Value {
        let mut hook = json!({
            "name": format!("{}.example.org", path.trim_start_matches('/')),
            "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", self.server.address.port()),
                "caBundle": self.server.ca_bundle},
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps", "pods"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        });
        for (key, value) in with.as_object().unwrap() {
            hook[key] = value.clone();
        }
        hook
    }

    /// Creates a configuration and waits until it is at work, which is told by another webhook of it.
    pub(crate) async fn configure(&self, kind: &str, name: &str, mut hooks: Vec<Value>) {
        let probe = format!("/probe-{kind}-{name}");
        hooks.push(self.hook(&probe, json!({
            "name": format!("{name}.probe.example.org"),
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}],
        })));
        if kind == "validating" {
            hooks.iter_mut().for_each(|hook| {
                hook.as_object_mut().unwrap().remove("reinvocationPolicy");
            });
        }
        let path = format!("{CONFIGURATIONS}/{kind}webhookconfigurations");
        self.client.post(&path, &json!({"metadata": {"name": name}, "webhooks": hooks})).await.expect(201);
        let began = Instant::now();
        loop {
            let secret = json!({"metadata": {"generateName": "probe-"}});
            self.client.post("/api/v1/namespaces/default/secrets?dryRun=All", &secret).await.expect(201);
            if self.take().iter().any(|(path, _)| *path == probe) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "not at work");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// The paths that were asked since the last look.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.take().into_iter().map(|(path, _)| path).collect()
    }
}
