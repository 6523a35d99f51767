//! Ways around the rules: paths that read in two ways, names that limit nothing, and nodes that make more of themselves.

use serde_json::{Value, json};

use super::guarded::{Cluster, named};
use super::{REQUESTS, attempt, furnished, signing};

const WEB: &str = "/api/v1/namespaces/web";

#[tokio::test]
async fn rights_in_a_namespace_reach_no_other_one() {
    let cluster = furnished().await;
    let no = &[][..];
    let label = || json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    let below = |rest: &str| format!("{WEB}/namespaces{rest}");
    attempt(
        &cluster,
        vec![
            ("boss", "GET", WEB.into(), no, json!(null), 200),
            ("boss", "PATCH", WEB.into(), no, label(), 200),
            ("boss", "GET", "/api/v1/namespaces/default".into(), no, json!(null), 403),
            ("boss", "GET", below("/default"), no, json!(null), 404),
            ("boss", "PATCH", below("/default"), no, label(), 404),
            ("boss", "DELETE", below("/default"), no, json!(null), 404),
            ("boss", "PUT", below("/default/finalize"), no, named("Namespace", "default"), 404),
            ("boss", "GET", below(""), no, json!(null), 404),
            ("boss", "GET", below("?fieldSelector=metadata.name%3Dweb"), no, json!(null), 404),
            ("boss", "POST", below(""), no, named("Namespace", "mine"), 404),
            ("boss", "DELETE", below(""), no, json!(null), 404),
            ("boss", "GET", format!("{WEB}/nodes/n1"), no, json!(null), 404),
            ("vera", "GET", below("/kube-system"), no, json!(null), 404),
        ],
    )
    .await;
    cluster.root("GET", "/api/v1/namespaces/default", json!(null)).await;
}

#[tokio::test]
async fn a_right_to_one_name_shows_no_other() {
    let cluster = furnished().await;
    let no = &[][..];
    let secrets = |rest: &str| format!("{WEB}/secrets{rest}");
    attempt(
        &cluster,
        vec![
            // The watch of a path with a name would be one of all names.
            ("watcher", "GET", secrets("/named?watch=1"), no, json!(null), 404),
            ("watcher", "GET", secrets("/other?watch=1"), no, json!(null), 403),
            ("watcher", "GET", secrets("?fieldSelector=metadata.name%3Dnamed"), no, json!(null), 200),
            ("watcher", "GET", secrets("?fieldSelector=metadata.name%3Dother"), no, json!(null), 403),
            ("watcher", "GET", secrets("?fieldSelector=metadata.name!%3Dnamed"), no, json!(null), 403),
            // The comma belongs to the value: this selects every Secret.
            (
                "watcher",
                "GET",
                secrets("?fieldSelector=type!%3Dx%5C,metadata.name%3Dnamed"),
                no,
                json!(null),
                403,
            ),
            ("watcher", "DELETE", secrets("?fieldSelector=metadata.name%3Dnamed"), no, json!(null), 403),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_escaped_slash_is_judged_as_a_slash() {
    let cluster = furnished().await;
    let no = &[][..];
    attempt(
        &cluster,
        vec![
            // A path below /apis may be read by everybody, the objects of a group may not.
            ("jane", "GET", "/apis/metrics.example.org%2Fv1%2Fnodes".into(), no, json!(null), 403),
            ("jane", "GET", "/apis%2Fapps/v1/deployments".into(), no, json!(null), 403),
            ("jane", "GET", "/api%2Fv1%2Fsecrets".into(), no, json!(null), 403),
            ("watcher", "GET", format!("{WEB}/secrets/named%2Fstatus"), no, json!(null), 403),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_made_on_the_way_has_to_be_allowed() {
    let cluster = furnished().await;
    let no = &[][..];
    let lease = |name: &str| format!("/apis/coordination.k8s.io/v1/namespaces/web/leases/{name}");
    let body = |name: &str| {
        let mut lease = named("Lease", name);
        lease["apiVersion"] = json!("coordination.k8s.io/v1");
        lease
    };
    let exec = format!("{WEB}/pods/mine/exec?command=sh");
    attempt(
        &cluster,
        vec![
            // An update that finds nothing would create.
            ("updater", "PUT", lease("a"), no, body("a"), 403),
            ("ed", "PUT", lease("a"), no, body("a"), 201),
            // What is there he may update: he is told to say which version of it.
            ("updater", "PUT", lease("a"), no, body("a"), 422),
            // A WebSocket is opened by GET, and runs a command all the same.
            ("reader", "GET", exec, no, json!(null), 403),
        ],
    )
    .await;
}

/// A pod as the node n1 may make it, and `more` in its spec.
async fn mirror(cluster: &Cluster, name: &str, more: Value) -> Value {
    let node = cluster.root("GET", "/api/v1/nodes/n1", json!(null)).await;
    let mut pod = named("Pod", name);
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    pod["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"], "controller": true},
    ]);
    pod["spec"] = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]});
    for (field, value) in more.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

#[tokio::test]
async fn a_node_makes_no_pod_that_opens_anything_to_it() {
    let cluster = furnished().await;
    let no = &[][..];
    let pods = || format!("{WEB}/pods");
    let reference = |from: Value| json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": from}]}]});
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({"volumes": [volume]})
    };
    let mut attempts = Vec::new();
    for (index, more) in [
        reference(json!({"secretKeyRef": {"name": "key2", "key": "k"}})),
        reference(json!({"configMapKeyRef": {"name": "map", "key": "k"}})),
        json!({"imagePullSecrets": [{"name": "key2"}]}),
        json!({"serviceAccountName": "runner"}),
        volume(json!({"secret": {"secretName": "key2"}})),
        volume(json!({"projected": {"sources": [{"secret": {"name": "key2"}}]}})),
        volume(json!({"projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}}]}})),
        volume(json!({"configMap": {"name": "map"}})),
        volume(json!({"persistentVolumeClaim": {"claimName": "claim"}})),
        json!({"resourceClaims": [{"name": "r", "resourceClaimName": "devices"}]}),
        json!({"nodeName": "n2"}),
    ]
    .into_iter()
    .enumerate()
    {
        let pod = mirror(&cluster, &format!("m{index}"), more).await;
        attempts.push(("node", "POST", pods(), no, pod, 403));
    }
    for (pointer, value) in [
        ("/metadata/ownerReferences", json!([])),
        ("/metadata/ownerReferences/0/name", json!("n2")),
        ("/metadata/ownerReferences/0/uid", json!("u")),
        ("/metadata/ownerReferences/0/controller", json!(false)),
        ("/metadata/annotations", json!({})),
    ] {
        let mut pod = mirror(&cluster, "owned", json!({})).await;
        *pod.pointer_mut(pointer).unwrap() = value;
        attempts.push(("node", "POST", pods(), no, pod, 403));
    }
    attempts.push(("node", "POST", pods(), no, mirror(&cluster, "plain", json!({})).await, 201));
    // What an administrator makes of such a pod leads nowhere either.
    let more =
        json!({"containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": "map"}}]}]});
    attempts.push(("root", "POST", pods(), no, mirror(&cluster, "odd", more).await, 201));
    attempts.push(("node", "GET", format!("{WEB}/pods/odd"), no, json!(null), 200));
    attempts.push(("node", "GET", format!("{WEB}/configmaps/map"), no, json!(null), 403));
    attempts.push(("node", "GET", format!("{WEB}/configmaps/settings"), no, json!(null), 404));
    attempt(&cluster, attempts).await;
}

#[tokio::test]
async fn a_node_tells_what_it_finds_and_nothing_else() {
    let cluster = furnished().await;
    let no = &[][..];
    let mut claim = named("PersistentVolumeClaim", "claim");
    claim["spec"] = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    cluster.root("POST", &format!("{WEB}/persistentvolumeclaims"), claim).await;
    let mut claiming = named("Pod", "claiming");
    claiming["spec"] = json!({
        "nodeName": "n1", "serviceAccountName": "runner", "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i"}],
        "resourceClaims": [{"name": "r", "resourceClaimTemplateName": "devices"}],
    });
    cluster.root("POST", &format!("{WEB}/pods"), claiming).await;
    let of_pod = || format!("{WEB}/pods/mine/status");
    let of_claiming = || format!("{WEB}/pods/claiming/status");
    let of_claim = || format!("{WEB}/persistentvolumeclaims/claim/status");
    let node = || "/api/v1/nodes/n1".to_owned();
    let labels = || json!({"metadata": {"labels": {"app": "bank"}}});
    let claims =
        json!({"status": {"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "devices"}]}});
    // The garbage collector would delete the node, with its taints, for want of an owner.
    let owned = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "u"}]}});
    let serving = |name: &str, of: &str| {
        let mut request = signing(name, "kubernetes.io/kubelet-serving", of, &["system:nodes"]);
        request["spec"]["usages"] = json!(["digital signature", "server auth"]);
        request
    };
    attempt(
        &cluster,
        vec![
            ("node", "PATCH", of_pod(), no, json!({"status": {"phase": "Running"}}), 200),
            ("node", "PATCH", of_pod(), no, labels(), 403),
            ("node", "PATCH", of_claiming(), no, claims, 403),
            ("node", "PATCH", of_claim(), no, json!({"status": {"capacity": {"storage": "1Gi"}}}), 200),
            ("node", "PATCH", of_claim(), no, labels(), 403),
            ("node", "PATCH", of_claim(), no, json!({"metadata": {"finalizers": ["a.b/c"]}}), 403),
            ("node", "PATCH", node(), no, owned, 403),
            ("node", "PATCH", node(), no, json!({"metadata": {"labels": {"a": "b"}}}), 200),
            ("node", "POST", REQUESTS.into(), no, serving("theirs", "system:node:n2"), 403),
            ("node", "POST", REQUESTS.into(), no, serving("mine", "system:node:n1"), 201),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_node_asks_for_the_audiences_of_its_pods() {
    let cluster = furnished().await;
    let no = &[][..];
    let pod = cluster.root("GET", &format!("{WEB}/pods/mine"), json!(null)).await;
    let token = |audiences: Value| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "audiences": audiences,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "mine", "uid": pod["metadata"]["uid"]},
        }})
    };
    let path = || format!("{WEB}/serviceaccounts/runner/token");
    attempt(
        &cluster,
        vec![
            ("node", "POST", path(), no, token(json!([])), 201),
            ("node", "POST", path(), no, token(json!(["vault"])), 201),
            ("node", "POST", path(), no, token(json!(["vault", "bank"])), 403),
            ("node", "POST", path(), no, token(json!(["bank"])), 403),
            ("ed", "POST", path(), no, token(json!(["bank"])), 201),
        ],
    )
    .await;
    // Whom an administrator lets name an audience does so.
    let (group, version) = ("rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1");
    let role = json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "audience"}, "rules": [
        {"verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""], "resources": ["bank"]}]});
    let binding = json!({
        "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "audience"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "audience"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}],
    });
    cluster.root("POST", super::CLUSTER_ROLES, role).await;
    cluster.root("POST", super::CLUSTER_BINDINGS, binding).await;
    attempt(&cluster, vec![("node", "POST", path(), no, token(json!(["bank"])), 201)]).await;
}
