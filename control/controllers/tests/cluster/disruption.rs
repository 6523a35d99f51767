//! Disruption budgets, with the evictions that they are for.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{EvictParams, ListParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, check, until};
use crate::workloads::{deployment, rolled_out};

fn budget(name: &str, app: &str, limit: Value) -> Value {
    let mut spec = limit;
    spec["selector"] = json!({ "matchLabels": { "app": app } });
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    })
}

/// Waits until the budget's status is like this.
async fn becomes(cluster: &Cluster, name: &str, wanted: impl Fn(&PodDisruptionBudgetStatus) -> bool) {
    let budgets = cluster.api::<PodDisruptionBudget>();
    until(name, || async {
        let status = budgets.get(name).await.unwrap().status.unwrap_or_default();
        check(wanted(&status), status)
    })
    .await;
}

async fn names(cluster: &Cluster, app: &str) -> Vec<String> {
    let pods = cluster.api::<Pod>().list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap();
    pods.items.into_iter().map(|pod| pod.metadata.name.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_pods_go_than_the_budget_allows() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("deployments", deployment("web", 3)).await;
    rolled_out(&cluster, "web", 3).await;
    cluster.create("poddisruptionbudgets", budget("web", "web", json!({ "minAvailable": 2 }))).await;
    becomes(&cluster, "web", |s| s.disruptions_allowed == 1 && s.current_healthy == 3).await;
    // Those that come instead do not become ready: only one may go, however many ask at once.
    cluster.pods_become_ready(false);
    let mut asking = tokio::task::JoinSet::new();
    for name in names(&cluster, "web").await {
        let pods = cluster.api::<Pod>();
        asking.spawn(async move { pods.evict(&name, &EvictParams::default()).await });
    }
    let (granted, refused): (Vec<_>, Vec<_>) = asking.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((granted.len(), refused.len()), (1, 2));
    for refusal in refused {
        let kube::Error::Api(status) = refusal.unwrap_err() else { panic!() };
        assert_eq!(status.code, 429, "{status:?}");
        assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    }
    becomes(&cluster, "web", |s| s.disruptions_allowed == 0 && s.disrupted_pods.is_none()).await;
    // One that is not ready takes nothing from the budget, once the others are enough.
    let unready = until("the one that came instead", || async {
        let pods = cluster.api::<Pod>().list(&ListParams::default().labels("app=web")).await.unwrap();
        let ready = |pod: &&Pod| {
            let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "False")
        };
        pods.items.iter().find(ready).map(|pod| pod.metadata.name.clone().unwrap()).ok_or("none".to_owned())
    });
    let (unready, _) = unready.await;
    cluster.pods_become_ready(true);
    cluster.api::<Pod>().evict(&unready, &EvictParams::default()).await.unwrap();
    becomes(&cluster, "web", |s| s.disruptions_allowed == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_missing_is_counted_from_what_the_controllers_want() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    cluster.create("deployments", deployment("web", 4)).await;
    rolled_out(&cluster, "web", 4).await;
    cluster.create("poddisruptionbudgets", budget("web", "web", json!({ "maxUnavailable": "30%" }))).await;
    becomes(&cluster, "web", |s| s.expected_pods == 4 && s.disruptions_allowed == 2).await;
    let sets = cluster.api::<k8s_openapi::api::apps::v1::Deployment>();
    let more = json!({ "spec": { "replicas": 8 } });
    sets.patch("web", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&more)).await.unwrap();
    becomes(&cluster, "web", |s| {
        s.expected_pods == 8 && s.current_healthy == 8 && s.disruptions_allowed == 3
    })
    .await;

    // Controllers that there is no cache of are asked for their scale; not all have one.
    for (kind, plural, app) in [("StatefulSet", "statefulsets", "db"), ("DaemonSet", "daemonsets", "log")] {
        let mut set = deployment(app, 3);
        set["kind"] = json!(kind);
        if kind == "DaemonSet" {
            set["spec"].as_object_mut().unwrap().remove("replicas");
        }
        let made = cluster.create(plural, set).await;
        let owner = json!({
            "apiVersion": "apps/v1", "kind": kind, "name": app, "uid": made.metadata.uid, "controller": true,
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{app}-0"), "namespace": "default", "labels": { "app": app }, "ownerReferences": [owner],
            },
            "spec": { "containers": [{ "name": "c", "image": "web:1" }] },
        });
        cluster.create("pods", pod).await;
        cluster.create("poddisruptionbudgets", budget(app, app, json!({ "maxUnavailable": 1 }))).await;
    }
    becomes(&cluster, "db", |s| s.expected_pods == 3 && s.desired_healthy == 2 && s.current_healthy == 1)
        .await;
    becomes(&cluster, "log", |s| {
        let condition = s.conditions.iter().flatten().find(|c| c.reason == "SyncFailed");
        condition.is_some_and(|c| c.message == "daemonsets.apps does not implement the scale subresource")
    })
    .await;
}
