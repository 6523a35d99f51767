//! Quotas, as those meet them who create, change and delete objects, many at once.

#![allow(clippy::unwrap_used)] // a helper that fails ends its test

mod common;

use common::{Client, Cluster, MAPS, PODS, map, pod};
use serde_json::{Value, json};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// Makes a quota and counts as the controller would: nothing is there yet.
async fn limit(client: &Client, name: &str, hard: Value) {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard},
    });
    let mut made = client.post(QUOTAS, &quota).await.expect(201);
    let names = hard.as_object().unwrap().keys();
    let used: Value = names.map(|name| (name.clone(), json!("0"))).collect();
    made["status"] = json!({"hard": hard, "used": used});
    client.put(&format!("{QUOTAS}/{name}/status"), &made).await.expect(200);
}

async fn used(client: &Client, name: &str) -> Value {
    client.get(&format!("{QUOTAS}/{name}")).await.expect(200)["status"]["used"].clone()
}

fn sized(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_creations_at_once_fill_a_quota_of_ten_and_no_more() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "maps", json!({"configmaps": "10"})).await;
    limit(&client, "all", json!({"count/configmaps": "11"})).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        tasks.spawn(async move { client.post(MAPS, &map(&format!("m{number}"), "x")).await });
    }
    let answers = tasks.join_all().await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    let refused: Vec<Value> = answers.into_iter().filter(|a| a.code != 201).map(|a| a.expect(403)).collect();
    assert_eq!((made, refused.len()), (10, 90));
    for refusal in refused {
        let message = refusal["message"].as_str().unwrap();
        let why = "is forbidden: exceeded quota: maps, requested: configmaps=1, used: configmaps=10, \
                   limited: configmaps=10";
        assert!(message.starts_with("configmaps \"m") && message.ends_with(why), "{message}");
    }
    assert_eq!(client.get(MAPS).await.expect(200)["items"].as_array().unwrap().len(), 10);
    assert_eq!(used(&client, "maps").await, json!({"configmaps": "10"}));
    assert_eq!(used(&client, "all").await, json!({"count/configmaps": "10"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_release_at_once_however_many_there_are() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "maps", json!({"configmaps": "20"})).await;
    for number in 0..20 {
        client.post(MAPS, &map(&format!("m{number}"), "x")).await.expect(201);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { client.delete(&format!("{MAPS}/m{number}")).await.expect(200) });
        let client = cluster.client();
        tasks.spawn(async move { client.post(MAPS, &map(&format!("n{number}"), "x")).await.json() });
    }
    tasks.join_all().await;
    let left = client.get(MAPS).await.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(used(&client, "maps").await, json!({"configmaps": left.to_string()}));
}

#[tokio::test]
async fn what_is_not_written_is_not_charged() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "maps", json!({"configmaps": "2"})).await;
    let dry = format!("{MAPS}?dryRun=All");
    client.post(&dry, &map("a", "x")).await.expect(201);
    client.post(MAPS, &map("not a name", "x")).await.expect(422);
    assert_eq!(used(&client, "maps").await, json!({"configmaps": "0"}));
    client.post(MAPS, &map("a", "x")).await.expect(201);
    client.post(MAPS, &map("a", "x")).await.expect(409);
    client.put(&format!("{MAPS}/a"), &map("a", "y")).await.expect(200);
    client.send(http::Method::DELETE, &format!("{MAPS}/a?dryRun=All"), "").await.expect(200);
    assert_eq!(used(&client, "maps").await, json!({"configmaps": "1"}));
    client.post(MAPS, &map("b", "x")).await.expect(201);
    client.post(&dry, &map("c", "x")).await.expect(403);
    client.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(used(&client, "maps").await, json!({"configmaps": "1"}));
}

#[tokio::test]
async fn a_quota_that_nobody_counted_lets_nothing_in() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let quota = json!({"metadata": {"name": "new"}, "spec": {"hard": {"configmaps": "5"}}});
    client.post(QUOTAS, &quota).await.expect(201);
    let refused = client.post(MAPS, &map("a", "x")).await.expect(403);
    let why = "configmaps \"a\" is forbidden: status unknown for quota: new, resources: configmaps";
    assert_eq!(refused["message"], why);
    client.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}})).await.expect(201);
    client.post("/api/v1/namespaces/kube-system/configmaps", &map("a", "x")).await.expect(201);
}

#[tokio::test]
async fn pods_say_what_they_need_and_give_it_back_when_they_end() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "cpu", json!({"requests.cpu": "2", "pods": "5"})).await;
    let refused = client.post(PODS, &pod("mute")).await.expect(403);
    let why = "pods \"mute\" is forbidden: failed quota: cpu: must specify requests.cpu for: main";
    assert_eq!(refused["message"], why);
    client.post(PODS, &sized("a", "1500m")).await.expect(201);
    let refused = client.post(PODS, &sized("b", "1")).await.expect(403);
    let why = "pods \"b\" is forbidden: exceeded quota: cpu, requested: requests.cpu=1, \
               used: requests.cpu=1500m, limited: requests.cpu=2";
    assert_eq!(refused["message"], why);
    let resize = |cpu: &str| json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]}});
    let path = format!("{PODS}/a/resize");
    client.patch("strategic-merge", &path, &resize("3")).await.expect(403);
    client.patch("strategic-merge", &path, &resize("1800m")).await.expect(200);
    assert_eq!(used(&client, "cpu").await, json!({"requests.cpu": "1800m", "pods": "1"}));
    let ended = json!({"status": {"phase": "Succeeded"}});
    client.patch("merge", &format!("{PODS}/a/status"), &ended).await.expect(200);
    assert_eq!(used(&client, "cpu").await, json!({"requests.cpu": "0", "pods": "0"}));
    client.delete(&format!("{PODS}/a")).await.expect(200);
    assert_eq!(used(&client, "cpu").await, json!({"requests.cpu": "0", "pods": "0"}));
    client.post(PODS, &sized("b", "2")).await.expect(201);
}

#[tokio::test]
async fn services_and_claims_are_charged_for_what_they_grow_by() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "s", json!({"services.nodeports": "1", "requests.storage": "10Gi"})).await;
    let mut service = client.post(common::SERVICES, &common::service("web")).await.expect(201);
    service["spec"]["type"] = json!("NodePort");
    let path = format!("{}/web", common::SERVICES);
    let mut service = client.put(&path, &service).await.expect(200);
    assert_eq!(used(&client, "s").await["services.nodeports"], "1");
    let mut second = common::service("other");
    second["spec"]["type"] = json!("NodePort");
    client.post(common::SERVICES, &second).await.expect(403);
    service["spec"]["type"] = json!("ClusterIP");
    service["spec"]["ports"][0].as_object_mut().unwrap().remove("nodePort");
    client.put(&path, &service).await.expect(200);
    assert_eq!(used(&client, "s").await["services.nodeports"], "0");
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str, size: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
        }})
    };
    client.post(claims, &claim("a", "8Gi")).await.expect(201);
    let refused = client.post(claims, &claim("b", "3Gi")).await.expect(403);
    let why = "persistentvolumeclaims \"b\" is forbidden: exceeded quota: s, requested: requests.storage=3Gi, \
               used: requests.storage=8Gi, limited: requests.storage=10Gi";
    assert_eq!(refused["message"], why);
}

#[tokio::test]
async fn any_kind_can_be_counted() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "d", json!({"count/deployments.apps": "1", "count/leases.coordination.k8s.io": "0"}))
        .await;
    client.post(common::DEPLOYMENTS, &common::deployment("a", 1)).await.expect(201);
    client.post(common::DEPLOYMENTS, &common::deployment("b", 1)).await.expect(403);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    client.post(leases, &json!({"metadata": {"name": "l"}})).await.expect(403);
    assert_eq!(used(&client, "d").await["count/deployments.apps"], "1");
}

/// Creates that many maps in a namespace, 32 at a time; how long it takes.
async fn fill(client: &Client, namespace: &str, count: usize) -> std::time::Duration {
    use futures::StreamExt;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let began = std::time::Instant::now();
    let creations = (0..count).map(|number| {
        let (client, path) = (client.clone(), path.clone());
        async move { client.post(&path, &map(&format!("f{number}"), "x")).await.expect(201) }
    });
    futures::stream::iter(creations).buffer_unordered(32).count().await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_namespace_all_get_their_turn() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    limit(&client, "maps", json!({"configmaps": "1000"})).await;
    let free = fill(&client, "kube-public", 300).await;
    let limited = fill(&client, "default", 300).await;
    println!("300 creations, 32 at a time: {free:?} without a quota, {limited:?} with one");
    assert_eq!(used(&client, "maps").await, json!({"configmaps": "300"}));
}
