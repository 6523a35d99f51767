//! Golden cases: a request and an object in, the changed object or the refusal's words out.

mod limit_ranger;
mod pod_security;
mod storage;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::authn::tests::Memory;
use crate::authn::text;
use crate::{ApiError, Attributes, Draft, UserInfo};

struct Cluster {
    objects: Arc<Memory>,
}

fn cluster() -> Cluster {
    let objects = Arc::new(Memory::default());
    for (name, phase) in [("web", "Active"), ("going", "Terminating")] {
        objects.put("", "namespaces", json!({"metadata": {"name": name}, "status": {"phase": phase}}));
    }
    objects.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "web", "name": "default", "uid": "1"}}),
    );
    Cluster { objects }
}

/// A request by `user`: operation, `[group/]resource[/subresource]`, namespace, name.
struct Request<'a> {
    user: UserInfo,
    operation: Operation,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
    old: Option<Value>,
}

impl<'a> Request<'a> {
    fn new(operation: Operation, resource: &'a str, namespace: &'a str, name: &'a str) -> Self {
        Request { user: UserInfo::new("jane", []), operation, resource, namespace, name, old: None }
    }

    fn by_node(self, node: &str) -> Self {
        Request { user: UserInfo::new(format!("system:node:{node}"), ["system:nodes"]), ..self }
    }

    fn over(self, old: Value) -> Self {
        Request { old: Some(old), ..self }
    }

    /// Runs `plugins` as the server does: all mutations, then all judgements.
    async fn run(&self, plugins: &[Arc<dyn Admission>], object: Option<Value>) -> Result<Value, ApiError> {
        let (group, rest) = match self.resource.split_once('/') {
            Some((group, rest)) if group.contains('.') => (group, rest),
            _ => ("", self.resource),
        };
        let (resource, subresource) = rest.split_once('/').unwrap_or((rest, ""));
        let attributes = Attributes {
            user: self.user.clone(),
            api_group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: self.namespace.into(),
            name: self.name.into(),
            ..Attributes::default()
        };
        let request = AdmissionRequest {
            attributes: &attributes,
            operation: self.operation,
            kind: "Thing",
            old: self.old.as_ref(),
            dry_run: false,
        };
        let mut object = object;
        if let Some(object) = &mut object {
            let mut draft = Draft::new(object);
            for plugin in plugins {
                plugin.mutate(&request, &mut draft).await?;
            }
        }
        for plugin in plugins {
            plugin.validate(&request, object.as_ref()).await?;
        }
        Ok(object.unwrap_or_default())
    }
}

impl Cluster {
    fn objects(&self) -> Arc<dyn Objects> {
        Arc::clone(&self.objects) as Arc<dyn Objects>
    }

    fn all(&self) -> Vec<Arc<dyn Admission>> {
        let (rbac, _asks) = Rbac::new();
        plugins(&self.objects(), &rbac, &[])
    }

    async fn create_pod(&self, pod: Value) -> Result<Value, ApiError> {
        Request::new(Operation::Create, "pods", "web", "").run(&self.all(), Some(pod)).await
    }
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "a", "namespace": "web"}, "spec": spec})
}

/// The refusal's code and message.
fn refusal(result: Result<Value, ApiError>) -> (u16, String) {
    let error = result.expect_err("it was let through");
    (error.code, error.message.clone())
}

#[tokio::test]
async fn a_plain_pod_comes_out_as_upstream_would_make_it() {
    let made = cluster()
        .create_pod(pod(json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]})))
        .await;
    let made = made.unwrap();
    let volume = text(&made, "/spec/volumes/0/name");
    let suffix = volume.strip_prefix("kube-api-access-").unwrap();
    assert!(suffix.len() == 5 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{volume}");
    let mounts = json!([{"name": volume, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let expected = json!({
        "containers": [{"name": "c", "volumeMounts": mounts}],
        "initContainers": [{"name": "i", "volumeMounts": mounts}],
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")],
        "volumes": [{
            "name": volume,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
                ],
            },
        }],
    });
    assert_eq!(made["spec"], expected);
    assert_eq!(made["metadata"], pod(json!({}))["metadata"]);
}

#[tokio::test]
async fn admission_of_what_it_made_changes_nothing() {
    let cluster = cluster();
    let once = cluster.create_pod(pod(json!({"containers": [{"name": "c"}]}))).await.unwrap();
    assert_eq!(cluster.create_pod(once.clone()).await.unwrap(), once);
}

#[tokio::test]
async fn the_automount_matrix() {
    for (of_pod, of_account, mounted) in [
        (None, None, true),
        (None, Some(false), false),
        (None, Some(true), true),
        (Some(true), Some(false), true),
        (Some(false), Some(true), false),
        (Some(false), None, false),
    ] {
        let cluster = cluster();
        let mut account = json!({"metadata": {"namespace": "web", "name": "builder"}});
        if let Some(says) = of_account {
            account["automountServiceAccountToken"] = json!(says);
        }
        cluster.objects.put("", "serviceaccounts", account);
        let mut spec = json!({"serviceAccountName": "builder", "containers": [{"name": "c"}]});
        if let Some(says) = of_pod {
            spec["automountServiceAccountToken"] = json!(says);
        }
        let made = cluster.create_pod(pod(spec)).await.unwrap();
        assert_eq!(made.pointer("/spec/volumes/0").is_some(), mounted, "{of_pod:?} {of_account:?}");
        assert_eq!(made.pointer("/spec/containers/0/volumeMounts/0").is_some(), mounted);
        assert_eq!(made["spec"]["serviceAccountName"], "builder");
    }
}

#[tokio::test]
async fn containers_that_mount_something_there_are_left_alone() {
    let own = json!([{"name": "x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount/"}]);
    let spec = json!({"containers": [{"name": "c", "volumeMounts": own}]});
    let made = cluster().create_pod(pod(spec)).await.unwrap();
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"], own);
    assert_eq!(made.pointer("/spec/volumes"), None, "no volume that nobody mounts");
}

#[tokio::test]
async fn pull_secrets_come_from_the_account_unless_the_pod_has_its_own() {
    let cluster = cluster();
    let secrets = json!([{"name": "registry"}]);
    cluster.objects.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "web", "name": "default"}, "imagePullSecrets": secrets}),
    );
    let made = cluster.create_pod(pod(json!({"containers": []}))).await.unwrap();
    assert_eq!(made["spec"]["imagePullSecrets"], secrets);
    let own = json!([{"name": "own"}]);
    let made = cluster.create_pod(pod(json!({"containers": [], "imagePullSecrets": own}))).await.unwrap();
    assert_eq!(made["spec"]["imagePullSecrets"], own);
}

#[tokio::test]
async fn an_account_that_is_not_there_refuses_the_pod() {
    let cluster = cluster();
    let result = cluster.create_pod(pod(json!({"serviceAccountName": "ghost"}))).await;
    let words = "pods \"a\" is forbidden: error looking up service account web/ghost: serviceaccount \"ghost\" not found";
    assert_eq!(refusal(result), (403, words.into()));
    let mut generated = pod(json!({"serviceAccountName": "ghost"}));
    generated["metadata"] = json!({"generateName": "job-", "namespace": "web"});
    assert!(refusal(cluster.create_pod(generated).await).1.starts_with("pods \"job-\" is forbidden"));
}

#[tokio::test]
async fn namespaces_gate_what_is_made_in_them() {
    let cluster = cluster();
    let run = |operation, resource: &'static str, namespace: &'static str, name: &'static str| {
        let all = cluster.all();
        async move {
            let object = (operation != Operation::Delete).then(|| json!({"metadata": {"name": "x"}}));
            Request::new(operation, resource, namespace, name).run(&all, object).await
        }
    };
    assert_eq!(
        refusal(run(Operation::Create, "configmaps", "ghost", "").await),
        (404, "namespaces \"ghost\" not found".into())
    );
    let words = "configmaps \"x\" is forbidden: unable to create new content in namespace going because it is being terminated";
    let error = run(Operation::Create, "configmaps", "going", "").await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (403, words));
    assert_eq!(error.details.as_ref().unwrap().causes[0].reason, "NamespaceTerminating");

    let allowed = [
        (Operation::Create, "configmaps", "web", ""),
        (Operation::Update, "configmaps", "going", "x"),
        (Operation::Delete, "configmaps", "going", "x"),
        (Operation::Delete, "configmaps", "ghost", "x"),
        (Operation::Create, "pods/binding", "going", "x"),
        (Operation::Create, "authorization.k8s.io/localsubjectaccessreviews", "ghost", ""),
        (Operation::Create, "namespaces", "", ""),
        (Operation::Create, "nodes", "", ""),
        (Operation::Delete, "namespaces", "web", "web"),
        (Operation::Update, "namespaces/finalize", "default", "default"),
    ];
    for (operation, resource, namespace, name) in allowed {
        let result = run(operation, resource, namespace, name).await;
        assert!(result.is_ok(), "{operation:?} {resource} in {namespace}: {result:?}");
    }
    for name in ["default", "kube-system", "kube-public"] {
        let words = format!("namespaces {name:?} is forbidden: this namespace may not be deleted");
        assert_eq!(refusal(run(Operation::Delete, "namespaces", name, name).await), (403, words));
    }
}

#[tokio::test]
async fn tolerations_that_a_pod_has_are_kept() {
    let keys = |made: &Value| -> Vec<String> {
        list(made, "/spec/tolerations").map(|toleration| text(toleration, "/key").to_owned()).collect()
    };
    let (not_ready, unreachable) = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable");
    for (own, expected) in [
        (json!([{"operator": "Exists"}]), vec![""]),
        (
            json!([{"key": not_ready, "operator": "Exists", "tolerationSeconds": 5}]),
            vec![not_ready, unreachable],
        ),
        (json!([{"key": not_ready, "effect": "NoSchedule"}]), vec![not_ready, not_ready, unreachable]),
        (json!([{"key": "other", "operator": "Exists"}]), vec!["other", not_ready, unreachable]),
        (Value::Null, vec![not_ready, unreachable]),
    ] {
        let made = cluster().create_pod(pod(json!({"tolerations": own}))).await.unwrap();
        assert_eq!(keys(&made), expected, "{own}");
    }
}

#[tokio::test]
async fn priorities_come_from_classes() {
    let cluster = cluster();
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    let group = "scheduling.k8s.io";
    cluster.objects.put(group, "priorityclasses", class("high", 1000, false));
    let outcome = |spec: Value| {
        let cluster = &cluster;
        async move {
            let plugins: [Arc<dyn Admission>; 1] = [Arc::new(Priority::new(cluster.objects()))];
            let made =
                Request::new(Operation::Create, "pods", "web", "").run(&plugins, Some(pod(spec))).await?;
            let spec = &made["spec"];
            Ok(json!([spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]]))
        }
    };
    assert_eq!(outcome(json!({"priorityClassName": "high"})).await.unwrap(), json!(["high", 1000, "Never"]));
    let node_critical = outcome(json!({"priorityClassName": "system-node-critical"})).await.unwrap();
    assert_eq!(node_critical, json!(["system-node-critical", 2_000_001_000, "PreemptLowerPriority"]));
    assert_eq!(outcome(json!({"priority": 0})).await.unwrap(), json!([null, 0, "PreemptLowerPriority"]));
    let words = "pods \"a\" is forbidden: no PriorityClass with name foo was found";
    assert_eq!(refusal(outcome(json!({"priorityClassName": "foo"})).await), (403, words.into()));
    let (code, words) = refusal(outcome(json!({"priority": 2_000_000_000})).await);
    assert!(
        code == 403 && words.contains("the integer value of priority (2000000000) must not be provided"),
        "{words}"
    );
    assert_eq!(refusal(outcome(json!({"preemptionPolicy": "Never"})).await).0, 403);

    cluster.objects.put(group, "priorityclasses", class("usual", 7, true));
    cluster.objects.put(group, "priorityclasses", class("more", 9, true));
    assert_eq!(outcome(json!({})).await.unwrap(), json!(["usual", 7, "Never"]));
    let update = Request::new(Operation::Update, "pods", "web", "a")
        .over(pod(json!({"priority": 5, "preemptionPolicy": "Never"})));
    let updated = update.run(&cluster.all(), Some(pod(json!({"containers": []})))).await.unwrap();
    assert_eq!(
        (&updated["spec"]["priority"], &updated["spec"]["preemptionPolicy"]),
        (&json!(5), &json!("Never"))
    );
}

fn mirror(node: &str, spec: Value) -> Value {
    let mut pod = pod(spec);
    pod["spec"]["nodeName"] = json!(node);
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": "nu", "controller": true}]);
    pod
}

#[tokio::test]
async fn mirror_pods_are_taken_as_they_are_and_bring_nothing_along() {
    let cluster = cluster();
    let plain = mirror("n", json!({"containers": [{"name": "c"}]}));
    let made = cluster.create_pod(plain).await.unwrap();
    assert_eq!(made.pointer("/spec/volumes"), None);
    assert_eq!(made["spec"].get("serviceAccountName"), None);
    for spec in [
        json!({"serviceAccountName": "default"}),
        json!({"volumes": [{"name": "s", "secret": {"secretName": "x"}}]}),
        json!({"volumes": [{"name": "s", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
    ] {
        assert_eq!(refusal(cluster.create_pod(mirror("n", spec.clone())).await).0, 403, "{spec}");
    }
}

#[tokio::test]
async fn a_node_touches_itself_and_its_pods_alone() {
    let cluster = cluster();
    let on = |node: &str| {
        let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}});
        let metadata = json!({"name": "a", "namespace": "web", "uid": "u"});
        json!({"metadata": metadata, "spec": {"nodeName": node, "volumes": [token]}})
    };
    cluster.objects.put("", "nodes", json!({"metadata": {"name": "n", "uid": "nu"}}));
    cluster.objects.put("", "pods", on("n"));
    let mut foreign = on("m");
    foreign["metadata"]["name"] = json!("b");
    cluster.objects.put("", "pods", foreign);
    let node = |name: &str| json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
    let token = |pod: &str, uid: &str| {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid});
        json!({"spec": {"boundObjectRef": bound}})
    };
    let lease = |name: &str| json!({"metadata": {"name": name, "namespace": "kube-node-lease"}});
    cluster.objects.put("", "namespaces", json!({"metadata": {"name": "kube-node-lease"}}));
    let account = |name| json!({"metadata": {"name": name, "namespace": "web"}});
    use Operation::{Create, Delete, Update};
    let cases: Vec<(&str, Request<'_>, Option<Value>, bool)> = vec![
        ("own node", Request::new(Create, "nodes", "", "n"), Some(node("n")), true),
        ("own node, named in the body", Request::new(Create, "nodes", "", ""), Some(node("n")), true),
        ("another node", Request::new(Create, "nodes", "", ""), Some(node("m")), false),
        ("own status", Request::new(Update, "nodes/status", "", "n").over(node("n")), Some(node("n")), true),
        (
            "another's status",
            Request::new(Update, "nodes/status", "", "m").over(node("m")),
            Some(node("m")),
            false,
        ),
        (
            "status of an own pod",
            Request::new(Update, "pods/status", "web", "a").over(on("n")),
            Some(on("n")),
            true,
        ),
        (
            "status of a foreign pod",
            Request::new(Update, "pods/status", "web", "b").over(on("m")),
            Some(on("m")),
            false,
        ),
        (
            "status of an unbound pod",
            Request::new(Update, "pods/status", "web", "a").over(on("")),
            Some(on("n")),
            false,
        ),
        ("delete an own pod", Request::new(Delete, "pods", "web", "a").over(on("n")), None, true),
        ("delete a foreign pod", Request::new(Delete, "pods", "web", "b").over(on("m")), None, false),
        ("evict an own pod", Request::new(Create, "pods/eviction", "web", "a"), Some(json!({})), true),
        ("evict a foreign pod", Request::new(Create, "pods/eviction", "web", "b"), Some(json!({})), false),
        ("bind a pod", Request::new(Create, "pods/binding", "web", "a"), Some(json!({})), false),
        (
            "make an own mirror pod",
            Request::new(Create, "pods", "web", ""),
            Some(mirror("n", json!({}))),
            true,
        ),
        (
            "make a foreign mirror pod",
            Request::new(Create, "pods", "web", ""),
            Some(mirror("m", json!({}))),
            false,
        ),
        ("make a real pod", Request::new(Create, "pods", "web", ""), Some(on("n")), false),
        ("change a pod", Request::new(Update, "pods", "web", "a").over(on("n")), Some(on("n")), false),
        (
            "token for an own pod",
            Request::new(Create, "serviceaccounts/token", "web", "default").over(account("default")),
            Some(token("a", "u")),
            true,
        ),
        (
            "token for an earlier pod",
            Request::new(Create, "serviceaccounts/token", "web", "default"),
            Some(token("a", "v")),
            false,
        ),
        (
            "token without a UID",
            Request::new(Create, "serviceaccounts/token", "web", "default"),
            Some(token("a", "")),
            false,
        ),
        (
            "token for a foreign pod",
            Request::new(Create, "serviceaccounts/token", "web", "default"),
            Some(token("b", "u")),
            false,
        ),
        (
            "token for no pod",
            Request::new(Create, "serviceaccounts/token", "web", "default"),
            Some(json!({"spec": {}})),
            false,
        ),
        (
            "own lease",
            Request::new(Update, "coordination.k8s.io/leases", "kube-node-lease", "n"),
            Some(lease("n")),
            true,
        ),
        (
            "another's lease",
            Request::new(Create, "coordination.k8s.io/leases", "kube-node-lease", ""),
            Some(lease("m")),
            false,
        ),
        (
            "a lease elsewhere",
            Request::new(Update, "coordination.k8s.io/leases", "web", "n"),
            Some(lease("n")),
            false,
        ),
        ("an event", Request::new(Create, "events", "web", ""), Some(json!({})), true),
    ];
    for (what, request, object, allowed) in cases {
        let result = request.by_node("n").run(&cluster.all(), object).await;
        assert_eq!(result.is_ok(), allowed, "{what}: {result:?}");
        if !allowed {
            assert_eq!(refusal(result).0, 403, "{what}");
        }
    }
    let nameless = Request {
        user: UserInfo::new("impostor", ["system:nodes"]),
        ..Request::new(Create, "events", "web", "")
    };
    let words = refusal(nameless.run(&cluster.all(), Some(json!({}))).await).1;
    assert!(words.contains("could not determine node"), "{words}");
}

#[tokio::test]
async fn a_node_may_not_label_itself_into_a_reserved_place() {
    let cluster = cluster();
    let update = |old: Value, new: Value| {
        let all = cluster.all();
        async move {
            Request::new(Operation::Update, "nodes", "", "n")
                .over(old)
                .by_node("n")
                .run(&all, Some(new))
                .await
        }
    };
    let labelled = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
    let plain = labelled(json!({"node-role.kubernetes.io/control-plane": "", "a": "1"}));
    for (label, allowed) in [
        ("example.org/rack", true),
        ("rack", true),
        ("kubernetes.io/os", true),
        ("topology.kubernetes.io/zone", true),
        ("node.kubernetes.io/instance-type", true),
        ("x.kubelet.kubernetes.io/y", true),
        ("node-restriction.kubernetes.io/pci", false),
        ("x.node-restriction.kubernetes.io/pci", false),
        ("node-role.kubernetes.io/master", false),
        ("kubernetes.io/anything", false),
        ("x.k8s.io/y", false),
        ("notkubernetes.io/y", true),
    ] {
        let mut changed = plain.clone();
        changed["metadata"]["labels"][label] = json!("new");
        let result = update(plain.clone(), changed).await;
        assert_eq!(result.is_ok(), allowed, "{label}: {result:?}");
    }
    // What is there may stay, but not go.
    assert!(update(plain.clone(), plain.clone()).await.is_ok());
    let words = refusal(update(plain.clone(), labelled(json!({"a": "1"}))).await).1;
    assert!(
        words.ends_with("is not allowed to modify labels: node-role.kubernetes.io/control-plane"),
        "{words}"
    );

    let tainted = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}});
    let words = refusal(update(tainted, json!({"metadata": {"name": "n"}})).await).1;
    assert!(words.ends_with("node \"n\" is not allowed to modify taints"), "{words}");

    let configured =
        json!({"metadata": {"name": "n"}, "spec": {"configSource": {"configMap": {"name": "a"}}}});
    let words = refusal(update(json!({"metadata": {"name": "n"}}), configured.clone()).await).1;
    assert!(
        words.ends_with("is not allowed to update configSource to a new non-nil configSource"),
        "{words}"
    );
    assert!(update(configured.clone(), configured.clone()).await.is_ok(), "it may stay");
    assert!(update(configured, json!({"metadata": {"name": "n"}})).await.is_ok(), "it may go");
}

#[tokio::test]
async fn odd_objects_are_not_a_reason_to_panic() {
    let cluster = cluster();
    for odd in [
        json!(null),
        json!([]),
        json!({"spec": 7}),
        json!({"spec": {"containers": "x", "tolerations": 3, "volumes": {}}}),
        json!({"spec": {"containers": [null, 1]}}),
    ] {
        let _ = cluster.create_pod(odd.clone()).await;
        let _ = Request::new(Operation::Update, "nodes", "", "n")
            .by_node("n")
            .run(&cluster.all(), Some(odd))
            .await;
    }
}
