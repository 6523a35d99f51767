//! Webhooks, against a real HTTPS server: what they are asked, what their answers do, and what happens without one.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/hooked.rs"]
mod hooked;
#[path = "common/tls.rs"]
mod tls;

use std::time::{Duration, Instant};

use common::{MAPS, PODS, map, pod};
use hooked::{CONFIGURATIONS, Hooked, base64};
use serde_json::{Value, json};

#[tokio::test]
async fn a_review_says_everything_about_the_request() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    hooked.configure("validating", "all", vec![hooked.hook("/allow", json!({}))]).await;
    client.post(&format!("{MAPS}?fieldManager=me"), &map("a", "1")).await.expect(201);
    let (_, review) = hooked.take().remove(0);
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    assert_eq!(review["query"], "timeout=5s");
    let request = &review["request"];
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    assert_eq!((&request["kind"], &request["requestKind"]), (&kind, &kind));
    assert_eq!((&request["resource"], &request["requestResource"]), (&resource, &resource));
    assert_eq!((&request["name"], &request["namespace"]), (&json!("a"), &json!("default")));
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("CREATE"), &json!(false)));
    assert_eq!(request["userInfo"], json!({"username": "tester", "groups": ["system:authenticated"]}));
    assert_eq!((&request["object"]["data"]["k"], &request["oldObject"]), (&json!("1"), &Value::Null));
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"});
    assert_eq!(request["options"], options);
    assert!(request["uid"].as_str().unwrap().len() > 30 && request.get("subResource").is_none());

    client.put(&format!("{MAPS}/a"), &map("a", "2")).await.expect(200);
    let (_, review) = hooked.take().remove(0);
    let request = &review["request"];
    assert_eq!(
        (&request["operation"], &request["options"]["kind"]),
        (&json!("UPDATE"), &json!("UpdateOptions"))
    );
    assert_eq!(
        (&request["object"]["data"]["k"], &request["oldObject"]["data"]["k"]),
        (&json!("2"), &json!("1"))
    );
    client.patch("merge", &format!("{MAPS}/a"), &json!({"data": {"k": "3"}})).await.expect(200);
    assert_eq!(hooked.take()[0].1["request"]["options"]["kind"], "PatchOptions");
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 3, "dryRun": ["All"]});
    client.delete_with(&format!("{MAPS}/a"), &options).await.expect(200);
    let (_, review) = hooked.take().remove(0);
    let request = &review["request"];
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!((&request["oldObject"]["data"]["k"], &request["dryRun"]), (&json!("3"), &json!(true)));
    let expected = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 3, "dryRun": ["All"]});
    assert_eq!(request["options"], expected);
    client.delete(MAPS).await.expect(200);
    assert_eq!(hooked.take()[0].1["request"]["name"], "a", "a collection is deleted one by one");
}

#[tokio::test]
async fn refusals_are_told_as_upstream_tells_them() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let only = |resource: &str| json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]}]});
    hooked
        .configure(
            "validating",
            "deny",
            vec![
                hooked.hook("/deny", only("configmaps")),
                hooked.hook("/deny-plain", only("endpoints")),
                hooked.hook("/warn", only("services")),
            ],
        )
        .await;
    let refused = client.post(MAPS, &map("a", "1")).await.expect(403);
    assert_eq!(
        refused["message"],
        "admission webhook \"deny.example.org\" denied the request: not on my watch"
    );
    assert_eq!(refused["reason"], "Forbidden");
    client.get(&format!("{MAPS}/a")).await.expect(404);
    let refused = client
        .post("/api/v1/namespaces/default/endpoints", &json!({"metadata": {"name": "e"}}))
        .await
        .expect(400);
    assert_eq!(
        refused["message"],
        "admission webhook \"deny-plain.example.org\" denied the request without explanation"
    );
    let made = client.post(common::SERVICES, &common::service("s")).await;
    assert!(made.warnings().iter().any(|w| w.contains("mind the gap")), "{:?}", made.warnings());
    made.expect(201);
}

#[tokio::test]
async fn patches_change_objects_and_are_completed_and_pruned() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let only = |resource: &str| json!({"rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]}]});
    hooked
        .configure(
            "mutating",
            "m",
            vec![
                hooked.hook("/label-a", only("configmaps")),
                hooked.hook("/unknown-field", only("pods")),
                hooked.hook("/status", only("pods")),
                hooked.hook("/broken-patch", only("services")),
            ],
        )
        .await;
    let made = client.post(MAPS, &map("a", "1")).await.expect(201);
    assert_eq!(made["metadata"]["labels"], json!({"a": "1"}));
    let made = client.post(PODS, &pod("p")).await.expect(201);
    assert_eq!(made["spec"].get("nonsense"), None, "what the kind does not have is dropped");
    assert_eq!(
        made["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 80, "protocol": "TCP"}]),
        "defaults are set again"
    );
    assert_eq!(made["status"]["phase"], "Pending", "a new object's status is not a webhook's to set");
    let failed = client.post(common::SERVICES, &common::service("s")).await.expect(500);
    assert_eq!(failed["reason"], "InternalError", "{failed}");
    // A status update asks nobody who asked for the object alone.
    hooked.take();
    client
        .patch("merge", &format!("{PODS}/p/status"), &json!({"status": {"message": "x"}}))
        .await
        .expect(200);
    assert_eq!(hooked.paths(), [""; 0]);
}

#[tokio::test]
async fn webhooks_run_in_order_and_again_when_they_want_to() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    hooked.configure("mutating", "b", vec![hooked.hook("/label-b", json!({}))]).await;
    hooked
        .configure("mutating", "a", vec![hooked.hook("/count", again), hooked.hook("/label-a", json!({}))])
        .await;
    let made = client.post(MAPS, &map("x", "1")).await.expect(201);
    assert_eq!(hooked.paths(), ["/count", "/label-a", "/label-b", "/count"]);
    assert_eq!(made["metadata"]["labels"], json!({"count": "2", "a": "1", "b": "1"}));
    // Nothing that changes the object comes after it: it is not asked again.
    client.delete(&format!("{CONFIGURATIONS}/mutatingwebhookconfigurations/b")).await.expect(200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.put(&format!("{MAPS}/x"), &made).await.expect(200);
    assert_eq!(hooked.paths(), ["/count", "/label-a"], "label-a changed nothing, it was there");
}

/// Policies come before webhooks, and both see in a second round what the others did.
#[tokio::test]
async fn webhooks_run_again_after_policies_and_the_other_way_round() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let policies = "/apis/admissionregistration.k8s.io/v1beta1";
    let expression =
        "Object{metadata: Object.metadata{labels: {'seen': object.metadata.?labels[?'a'].orValue('0')}}}";
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]}});
    client.post(&format!("{policies}/mutatingadmissionpolicies"), &policy).await.expect(201);
    let binding = json!({"metadata": {"name": "p"}, "spec": {"policyName": "p"}});
    client.post(&format!("{policies}/mutatingadmissionpolicybindings"), &binding).await.expect(201);
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    hooked.configure("mutating", "a", vec![hooked.hook("/label-a", again)]).await;
    let made = client.post(MAPS, &map("x", "1")).await.expect(201);
    let asked = hooked.take();
    let labels: Vec<&Value> =
        asked.iter().map(|(_, review)| &review["request"]["object"]["metadata"]["labels"]).collect();
    assert_eq!(labels, [&json!({"seen": "0"}), &json!({"seen": "1", "a": "1"})]);
    assert_eq!(made["metadata"]["labels"], json!({"seen": "1", "a": "1"}));
}

#[tokio::test]
async fn failures_end_the_request_or_are_ignored() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let dead = format!("https://127.0.0.1:{}/x", {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    });
    let nowhere =
        json!({"clientConfig": {"service": {"namespace": "default", "name": "none", "path": "/p"}}});
    let strange = json!({"clientConfig": {"url": format!("https://localhost:{}/allow", hooked.server.address.port()), "caBundle": hooked.server.ca_bundle}});
    let untrusted = json!({"clientConfig": {"url": format!("https://127.0.0.1:{}/allow", hooked.server.address.port()), "caBundle": other_bundle()}});
    #[rustfmt::skip]
    let cases = [
        ("/slow", json!({"timeoutSeconds": 1}), "timeout=1s\": context deadline exceeded"),
        ("/dead", json!({"clientConfig": {"url": dead}}), "connect: connection refused"),
        ("/none", nowhere, "failed to call webhook: Post \"https://none.default.svc:443/p?timeout=5s\": service \"none\" not found"),
        ("/strange", strange, "tls: failed to verify certificate: x509:"),
        ("/untrusted", untrusted, "x509: certificate signed by unknown authority"),
        ("/500", json!({}), "failed to call webhook: an error on the server (\"{\\\"no\\\":\\\"status\\\"}\") has prevented the request from succeeding"),
        ("/other-uid", json!({}), "received invalid webhook response: expected response.uid="),
    ];
    for (kind, ignores) in
        [("validating", false), ("validating", true), ("mutating", false), ("mutating", true)]
    {
        for (path, with, expected) in &cases {
            let mut with = with.clone();
            with["failurePolicy"] = json!(if ignores { "Ignore" } else { "Fail" });
            hooked.configure(kind, "one", vec![hooked.hook(path, with)]).await;
            let began = Instant::now();
            let answer = client.post(MAPS, &json!({"metadata": {"generateName": "m-"}})).await;
            assert!(began.elapsed() < Duration::from_secs(20), "{path} took {:?}", began.elapsed());
            if ignores {
                answer.expect(201);
            } else {
                let status = answer.expect(500);
                let message = status["message"].as_str().unwrap();
                let name =
                    format!("failed calling webhook \"{}.example.org\": ", path.trim_start_matches('/'));
                assert!(message.contains(&name) && message.contains(expected), "{path}: {message}");
            }
            client.delete(&format!("{CONFIGURATIONS}/{kind}webhookconfigurations/one")).await.expect(200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn other_bundle() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    base64(&ca.self_signed(&key).unwrap().pem())
}

#[tokio::test]
async fn a_service_without_a_selector_leads_to_the_webhook() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let port = hooked.server.address.port();
    client
        .post(
            common::SERVICES,
            &json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "h", "port": 443}]}}),
        )
        .await
        .expect(201);
    let slice = json!({
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "h", "port": port, "protocol": "TCP"}],
    });
    // Validation lets no loopback addresses in.
    let key = "/registry/endpointslices/default/hook-1".to_owned();
    let put = carrack_store::Op::put(key, slice.to_string());
    hooked.cluster.store.txn(carrack_store::Txn::of(vec![put])).await.unwrap();
    let config = json!({"clientConfig": {"caBundle": hooked.server.ca_bundle,
        "service": {"namespace": "default", "name": "hook", "path": "/label-a"}}});
    hooked.configure("mutating", "m", vec![hooked.hook("/label-a", config)]).await;
    let before = *hooked.server.connections.lock().unwrap();
    for name in ["a", "b", "c"] {
        let made = client.post(MAPS, &map(name, "1")).await.expect(201);
        assert_eq!(made["metadata"]["labels"]["a"], "1");
    }
    assert!(*hooked.server.connections.lock().unwrap() <= before + 1, "connections are used again");
}

#[tokio::test]
async fn dry_runs_selectors_and_versions_decide_who_is_asked() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let blind = json!({"sideEffects": "Unknown"});
    let refused = client
        .post(
            &format!("{CONFIGURATIONS}/validatingwebhookconfigurations"),
            &json!({"metadata": {"name": "x"}, "webhooks": [hooked.hook("/allow", blind)]}),
        )
        .await;
    assert_eq!(refused.code, 422, "v1 has no webhooks with unknown side effects");
    let object = json!({"objectSelector": {"matchLabels": {"want": "yes"}}});
    let namespace =
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}});
    let events = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"], "resources": ["events"]}]});
    let old = json!({"admissionReviewVersions": ["v0", "v1beta1", "v1"],
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["serviceaccounts"]}]});
    hooked
        .configure(
            "validating",
            "v",
            vec![
                hooked.hook("/object", object),
                hooked.hook("/namespace", namespace),
                hooked.hook("/events", events),
                hooked.hook("/old", old),
            ],
        )
        .await;
    client.post(MAPS, &map("a", "1")).await.expect(201);
    assert_eq!(hooked.paths(), [""; 0]);
    let mut wanted = map("b", "1");
    wanted["metadata"]["labels"] = json!({"want": "yes"});
    client.post(MAPS, &wanted).await.expect(201);
    assert_eq!(hooked.paths(), ["/object"]);
    client.patch("merge", &format!("{MAPS}/b"), &json!({"metadata": {"labels": null}})).await.expect(200);
    assert_eq!(hooked.paths(), ["/object"], "the old object counts too");
    client.post("/api/v1/namespaces/kube-system/configmaps", &map("a", "1")).await.expect(201);
    assert_eq!(hooked.paths(), ["/namespace"]);
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "r", "type": "Normal"});
    client.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    let (path, review) = hooked.take().remove(0);
    let request = &review["request"];
    assert_eq!((path.as_str(), &request["resource"]["group"]), ("/events", &json!("events.k8s.io")));
    assert_eq!(
        (&request["requestResource"]["group"], &request["object"]["apiVersion"]),
        (&json!(""), &json!("events.k8s.io/v1"))
    );
    assert_eq!(request["kind"]["group"], "events.k8s.io");
    client
        .post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "s"}}))
        .await
        .expect(201);
    assert_eq!(hooked.take()[0].1["apiVersion"], "admission.k8s.io/v1beta1");
}

#[tokio::test]
async fn subresources_connections_and_steps_of_the_server() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let all = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods/*", "deployments/scale", "namespaces/finalize"]}]});
    hooked.configure("validating", "v", vec![hooked.hook("/all", all)]).await;
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    client.post(PODS, &pod("p")).await.expect(201);
    assert_eq!(hooked.paths(), ["/all"]);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    client.post(&format!("{PODS}/p/binding"), &binding).await.expect(201);
    let asked = hooked.take();
    assert_eq!(asked.len(), 1, "the binding is asked about, its execution is not");
    let request = &asked[0].1["request"];
    assert_eq!((&request["kind"]["kind"], &request["subResource"]), (&json!("Binding"), &json!("binding")));
    assert_eq!(
        (&request["object"]["target"]["name"], &request["operation"]),
        (&json!("n"), &json!("CREATE"))
    );
    assert_eq!(client.get(&format!("{PODS}/p/exec?command=sh&container=main&stdin=true")).await.code, 200);
    let request = hooked.take().remove(0).1["request"].clone();
    assert_eq!(
        (&request["operation"], &request["kind"]["kind"]),
        (&json!("CONNECT"), &json!("PodExecOptions"))
    );
    assert_eq!((&request["object"]["command"], &request["options"]), (&json!(["sh"]), &Value::Null));
    client.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).await.expect(201);
    let asked = hooked.take();
    assert_eq!((asked.len(), &asked[0].1["request"]["kind"]["kind"]), (1, &json!("Eviction")));
    client.post(common::DEPLOYMENTS, &common::deployment("d", 1)).await.expect(201);
    client
        .patch("merge", &format!("{}/d/scale", common::DEPLOYMENTS), &json!({"spec": {"replicas": 4}}))
        .await
        .expect(200);
    let request = hooked.take().remove(0).1["request"].clone();
    assert_eq!(request["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(
        (&request["object"]["spec"]["replicas"], &request["oldObject"]["spec"]["replicas"]),
        (&json!(4), &json!(1))
    );
}

#[tokio::test]
async fn configurations_are_exempt_and_the_server_starts_without_webhooks() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let all = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    hooked
        .configure(
            "validating",
            "v",
            vec![hooked.hook(
                "/deny",
                json!({"name": "last.example.org", "rules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["limitranges"]}]}),
            )],
        )
        .await;
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/v");
    let patch = json!({"webhooks": [hooked.hook("/deny", all)]});
    client.patch("merge", &path, &patch).await.expect(200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.post(MAPS, &map("a", "1")).await.expect(403);
    hooked.cluster.api.start().await.unwrap();
    client.delete(&path).await.expect(200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.post(MAPS, &map("a", "1")).await.expect(201);
}

#[tokio::test]
async fn conditions_decide_who_is_asked() {
    let hooked = Hooked::start().await;
    let client = &hooked.client;
    let when = |expression: &str, policy: &str| json!({"matchConditions": [{"name": "c", "expression": expression}], "failurePolicy": policy});
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    for (expression, expected) in [("object.", "compilation failed"), ("1 + 1", "must evaluate to bool")] {
        let hook = hooked.hook("/allow", when(expression, "Fail"));
        let body = json!({"metadata": {"name": "cel"}, "webhooks": [hook]});
        let refused = client.post(&path, &body).await.expect(422);
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains("webhooks[0].matchConditions[0].expression") && message.contains(expected),
            "{message}"
        );
    }
    let named = "object.metadata.name.startsWith('x') && request.operation == 'CREATE'";
    hooked
        .configure(
            "validating",
            "v",
            vec![
                hooked.hook("/named", when(named, "Fail")),
                hooked.hook("/ignored", when("object.data.nothing == '1'", "Ignore")),
                hooked.hook("/rights", when("!authorizer.requestResource.check('update').allowed()", "Fail")),
            ],
        )
        .await;
    client.post(MAPS, &map("a", "1")).await.expect(201);
    assert_eq!(hooked.paths(), [""; 0]);
    client.post(MAPS, &map("xa", "1")).await.expect(201);
    assert_eq!(hooked.paths(), ["/named"]);
    hooked
        .configure("mutating", "m", vec![hooked.hook("/failing", when("object.data.nothing == '1'", "Fail"))])
        .await;
    let refused = client.post(MAPS, &map("b", "1")).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("expression 'object.data.nothing == '1'' resulted in error: "),
        "{refused}"
    );
}

#[tokio::test]
async fn webhooks_are_asked_as_the_users_of_a_kubeconfig() {
    let hooked = Hooked::start().await;
    let dir = hooked.cluster.dir.path();
    std::fs::write(dir.join("token"), "from-a-file\n").unwrap();
    let port = hooked.server.address.port();
    let users = json!({"users": [
        {"name": format!("127.0.0.1:{port}"), "user": {"tokenFile": "token"}},
        {"name": "*", "user": {"token": "for-others"}},
    ]});
    std::fs::write(dir.join("users"), users.to_string()).unwrap();
    let admission = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
         - name: ValidatingAdmissionWebhook\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    \
         kind: WebhookAdmissionConfiguration\n    kubeConfigFile: {}\n",
        dir.join("users").display()
    );
    let read = carrack_server::admission::read_config(&admission, dir).unwrap();
    hooked.cluster.api.set_webhook_credentials(read.webhooks);
    hooked.configure("validating", "v", vec![hooked.hook("/allow", json!({}))]).await;
    hooked.configure("mutating", "m", vec![hooked.hook("/label-a", json!({}))]).await;
    hooked.client.post(MAPS, &map("a", "1")).await.expect(201);
    let asked = hooked.take();
    let shown = |path: &str| asked.iter().find(|(p, _)| p == path).unwrap().1["authorization"].clone();
    assert_eq!(shown("/allow"), "Bearer from-a-file");
    assert_eq!(shown("/label-a"), Value::Null, "mutating ones have users of their own, and none here");
}
