//! Storage and ingress classes, protection of what is in use, claims that grow, runtime classes, new nodes.

use super::*;

fn class(name: &str, default: bool, created: &str) -> Value {
    let annotations = json!({
        "storageclass.kubernetes.io/is-default-class": default.to_string(),
        "ingressclass.kubernetes.io/is-default-class": default.to_string(),
    });
    json!({
        "metadata": {"name": name, "annotations": annotations, "creationTimestamp": created},
        "allowVolumeExpansion": name == "elastic",
    })
}

fn with_classes() -> Cluster {
    let cluster = cluster();
    for (name, default, created) in [
        ("old", true, "2026-01-01T00:00:00Z"),
        ("new", true, "2026-02-01T00:00:00Z"),
        ("also-new", true, "2026-02-01T00:00:00Z"),
        ("elastic", false, "2026-03-01T00:00:00Z"),
    ] {
        cluster.objects.put("storage.k8s.io", "storageclasses", class(name, default, created));
        cluster.objects.put("networking.k8s.io", "ingressclasses", class(name, default, created));
    }
    cluster
}

async fn create(cluster: &Cluster, resource: &str, object: Value) -> Result<Value, ApiError> {
    Request::new(Operation::Create, resource, "web", "").run(&cluster.all(), Some(object)).await
}

#[tokio::test]
async fn claims_and_ingresses_get_the_newest_default() {
    let cluster = with_classes();
    for (spec, expected) in [
        (json!({}), json!("also-new")),
        (json!({"storageClassName": null}), json!("also-new")),
        (json!({"storageClassName": ""}), json!("")),
        (json!({"storageClassName": "elastic"}), json!("elastic")),
    ] {
        let made = create(&cluster, "persistentvolumeclaims", json!({"spec": spec})).await.unwrap();
        assert_eq!(made["spec"]["storageClassName"], expected);
        assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    }
    let made = create(&cluster, "networking.k8s.io/ingresses", json!({"spec": {}})).await.unwrap();
    assert_eq!(made["spec"]["ingressClassName"], "also-new");
    let annotated = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
    let made = create(&cluster, "networking.k8s.io/ingresses", annotated).await.unwrap();
    assert_eq!(made["spec"].get("ingressClassName"), None);
    let made = create(&super::cluster(), "persistentvolumeclaims", json!({"spec": {}})).await.unwrap();
    assert_eq!(made["spec"].get("storageClassName"), None, "there is no default");
}

#[tokio::test]
async fn volumes_are_protected_and_new_nodes_tainted_once() {
    let cluster = cluster();
    let request = |resource| Request::new(Operation::Create, resource, "", "");
    let volume = request("persistentvolumes").run(&cluster.all(), Some(json!({}))).await.unwrap();
    assert_eq!(volume["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    let again = request("persistentvolumes").run(&cluster.all(), Some(volume.clone())).await.unwrap();
    assert_eq!(again, volume);
    let node = request("nodes").run(&cluster.all(), Some(json!({}))).await.unwrap();
    let taints = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    assert_eq!(node["spec"]["taints"], taints);
    assert_eq!(request("nodes").run(&cluster.all(), Some(node.clone())).await.unwrap(), node);
}

#[tokio::test]
async fn only_bound_claims_of_classes_that_allow_it_grow() {
    let cluster = with_classes();
    let claim = |class: &str, phase: &str, size: &str| {
        json!({
            "metadata": {"name": "d"}, "status": {"phase": phase},
            "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}},
        })
    };
    let refused = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc \
                   must support resize";
    for (class, phase, size, why) in [
        ("elastic", "Bound", "2Gi", ""),
        ("elastic", "Bound", "1Gi", ""),
        ("elastic", "Pending", "2Gi", "Only bound persistent volume claims can be expanded"),
        ("old", "Bound", "2Gi", refused),
        ("", "Bound", "2Gi", refused),
    ] {
        let request = Request::new(Operation::Update, "persistentvolumeclaims", "web", "d");
        let request = request.over(claim(class, phase, "1Gi"));
        let result = request.run(&cluster.all(), Some(claim(class, phase, size))).await;
        if why.is_empty() {
            assert!(result.is_ok(), "{class} {size}");
        } else {
            let message = format!("persistentvolumeclaims \"d\" is forbidden: {why}");
            assert_eq!(refusal(result), (403, message));
        }
    }
}

#[tokio::test]
async fn runtime_classes_bring_overhead_and_places() {
    let cluster = cluster();
    let class = json!({
        "metadata": {"name": "vm"}, "handler": "vm",
        "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm", "operator": "Exists"}]},
    });
    cluster.objects.put("node.k8s.io", "runtimeclasses", class);
    cluster.objects.put(
        "node.k8s.io",
        "runtimeclasses",
        json!({"metadata": {"name": "plain"}, "handler": "x"}),
    );
    let made =
        cluster.create_pod(pod(json!({"runtimeClassName": "vm", "nodeSelector": {"zone": "a"}}))).await;
    let made = made.unwrap();
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "100m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"kvm": "yes", "zone": "a"}));
    assert!(list(&made, "/spec/tolerations").any(|t| t["key"] == "kvm"));
    assert_eq!(cluster.create_pod(made.clone()).await.unwrap(), made);
    for (spec, why) in [
        (json!({"runtimeClassName": "none"}), "pod rejected: RuntimeClass \"none\" not found"),
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"runtimeClassName": "plain", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"kvm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no",
        ),
    ] {
        let message = format!("pods \"a\" is forbidden: {why}");
        assert_eq!(refusal(cluster.create_pod(pod(spec)).await), (403, message));
    }
}
