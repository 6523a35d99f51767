//! Service addresses as objects: IPAddresses come and go with Services, and further ServiceCIDRs have more of them.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use carrack_store::Store;
use common::{Client, Cluster, service};
use futures::future::join_all;
use serde_json::{Value, json};

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn eventually(client: &Client, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..400 {
        let answer = client.get(path).await;
        let (code, value) = (answer.code, answer.json());
        if wanted(code, &value) {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} did not come to what was wanted: {}", client.get(path).await.text());
}

fn ready(cidr: &Value) -> (&str, &str) {
    let condition = &cidr["status"]["conditions"][0];
    (condition["status"].as_str().unwrap_or_default(), condition["reason"].as_str().unwrap_or_default())
}

/// A range that addresses can be taken from.
async fn range(client: &Client, name: &str, cidr: &str) -> String {
    client.post(CIDRS, &json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})).await.expect(201);
    let path = format!("{CIDRS}/{name}");
    eventually(client, &path, |_, cidr| ready(cidr).0 == "True").await;
    path
}

fn wish(name: &str, address: &str) -> Value {
    let mut wish = service(name);
    wish["spec"]["clusterIP"] = json!(address);
    wish
}

#[tokio::test]
async fn an_address_is_an_object_as_long_as_a_service_holds_it() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let first = client.get(&format!("{ADDRESSES}/10.96.0.1")).await.expect(200);
    let parent = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
    assert_eq!(first["spec"]["parentRef"], parent);
    let labels = json!({
        "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    });
    assert_eq!(first["metadata"]["labels"], labels);
    assert!(first["metadata"]["uid"].is_string() && first["metadata"]["creationTimestamp"].is_string());
    client.post(SERVICES, &wish("web", "10.96.7.7")).await.expect(201);
    let path = format!("{ADDRESSES}/10.96.7.7");
    assert_eq!(client.get(&path).await.expect(200)["spec"]["parentRef"]["name"], "web");
    // Who deletes it frees nothing, and it comes back.
    client.delete(&path).await.expect(200);
    client.post(SERVICES, &wish("other", "10.96.7.7")).await.expect(422);
    assert_eq!(eventually(&client, &path, |code, _| code == 200).await["spec"]["parentRef"]["name"], "web");
    client.delete(&format!("{SERVICES}/web")).await.expect(200);
    client.get(&path).await.expect(404);
    // An address that somebody else has is not given out, and is not the server's to remove.
    let parent = json!({"group": "example.com", "resource": "gateways", "namespace": "default", "name": "g"});
    let own = json!({"metadata": {"name": "10.96.7.7"}, "spec": {"parentRef": parent}});
    client.post(ADDRESSES, &own).await.expect(201);
    let refused = client.post(SERVICES, &wish("web", "10.96.7.7")).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("provided IP is already allocated"), "{refused}");
    // One that says it is a Service's and is not goes.
    let mut stray = first;
    stray["metadata"] = json!({"name": "10.96.9.9", "labels": labels});
    client.post(ADDRESSES, &stray).await.expect(201);
    client.delete(&format!("{ADDRESSES}/10.96.0.1")).await.expect(200);
    eventually(&client, &format!("{ADDRESSES}/10.96.9.9"), |code, _| code == 404).await;
    eventually(&client, &format!("{ADDRESSES}/10.96.0.1"), |code, _| code == 200).await;
    client.get(&path).await.expect(200);
}

#[tokio::test]
async fn further_ranges_have_further_addresses() {
    let small = |config: &mut carrack_server::Config| {
        config.service_cidr = "10.0.0.0/28".into();
        config.dns_address = "10.0.0.10".parse().unwrap();
    };
    let cluster = Cluster::with(small, Store::clone).await;
    cluster.api.start().await.unwrap();
    let client = cluster.client();
    let default = eventually(&client, &format!("{CIDRS}/kubernetes"), |_, c| ready(c).0 == "True").await;
    assert_eq!(default["spec"]["cidrs"], json!(["10.0.0.0/28"]));
    assert_eq!(default["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    assert_eq!(default["status"]["conditions"][0]["message"], "Kubernetes Service CIDR is ready");
    let fill = (0..12).map(|i| {
        let client = client.clone();
        async move { client.post(SERVICES, &service(&format!("s{i}"))).await.expect(201) }
    });
    join_all(fill).await;
    let full = client.post(SERVICES, &service("more")).await.expect(500);
    assert!(full["message"].as_str().unwrap().contains("range 10.0.0.0/28 is full"), "{full}");
    client.post(SERVICES, &wish("named", "10.0.1.5")).await.expect(422);

    let extra = range(&client, "extra", "10.0.1.0/28").await;
    let made = client.post(SERVICES, &service("more")).await.expect(201);
    assert!(made["spec"]["clusterIP"].as_str().unwrap().starts_with("10.0.1."), "{made}");
    client
        .post(SERVICES, &wish("named", "10.0.1.5"))
        .await
        .expect(if made["spec"]["clusterIP"] == "10.0.1.5" { 422 } else { 201 });
    // A range that is in use stays, and gives out nothing more.
    client.delete(&extra).await.expect(200);
    eventually(&client, &extra, |_, cidr| ready(cidr) == ("False", "Terminating")).await;
    client.post(SERVICES, &service("late")).await.expect(500);
    for name in ["more", "named"] {
        client.delete(&format!("{SERVICES}/{name}")).await;
    }
    eventually(&client, &extra, |code, _| code == 404).await;
}

#[tokio::test]
async fn no_address_comes_from_a_range_that_is_gone() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for round in 0..6 {
        let path = range(&client, &format!("r{round}"), "10.7.0.0/28").await;
        let makes = (1..8).map(|i| {
            let client = client.clone();
            async move { client.post(SERVICES, &wish(&format!("s{i}"), &format!("10.7.0.{i}"))).await.code }
        });
        let delete = async {
            tokio::time::sleep(Duration::from_millis(round * 4)).await;
            client.delete(&path).await.expect(200)
        };
        let (made, _) = tokio::join!(join_all(makes), delete);
        let made = made.into_iter().filter(|code| *code == 201).count();
        if made > 0 {
            // Long enough for the server to remove what nobody needs.
            tokio::time::sleep(Duration::from_millis(400)).await;
            assert_eq!(client.get(&path).await.code, 200, "{made} were given out");
        }
        for i in 1..8 {
            client.delete(&format!("{SERVICES}/s{i}")).await;
        }
        eventually(&client, &path, |code, _| code == 404).await;
    }
}
