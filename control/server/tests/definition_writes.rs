//! Who writes a definition and is answered finds it served as written, at the server that answered.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Client, Cluster};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "lamps.light.example.com";
const LAMPS: &str = "/apis/light.example.com/v1/namespaces/default/lamps";
const DEFAULT: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/watts/default";

/// A definition whose objects get `watts` by default.
fn definition(watts: u32) -> Value {
    let schema = json!({"type": "object", "properties": {"watts": {"type": "integer", "default": watts}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "light.example.com", "scope": "Namespaced",
            "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

fn lamp() -> Value {
    json!({"apiVersion": "light.example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}})
}

/// What a new object gets by default.
async fn watts(client: &Client) -> u64 {
    let made = client.post(&format!("{LAMPS}?dryRun=All"), &lamp()).await.expect(201);
    made["watts"].as_u64().unwrap()
}

#[tokio::test]
async fn a_definition_is_served_by_once_its_write_is_answered() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(DEFINITIONS, &definition(1)).await.expect(201);
    assert_eq!(watts(&client).await, 1);
    let path = format!("{DEFINITIONS}/{NAME}");
    // The status is written beside what follows, once.
    for _ in 0..200 {
        if client.get(&path).await.text().contains("InitialNamesAccepted") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for round in 1..=8_u32 {
        let by_put = round * 10;
        let mut changed = client.get(&path).await.expect(200);
        *changed.pointer_mut(DEFAULT).unwrap() = json!(by_put);
        client.put(&path, &changed).await.expect(200);
        assert_eq!(watts(&client).await, u64::from(by_put));
        let patch = json!([{"op": "replace", "path": DEFAULT, "value": by_put + 1}]);
        client.patch("json", &path, &patch).await.expect(200);
        assert_eq!(watts(&client).await, u64::from(by_put) + 1);
        let apply = format!("{path}?fieldManager=test&force=true");
        client.patch("apply", &apply, &definition(by_put + 2)).await.expect(200);
        assert_eq!(watts(&client).await, u64::from(by_put) + 2);
    }
    let mut held = lamp();
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.post(LAMPS, &held).await.expect(201);
    client.delete(&path).await.expect(200);
    let mut another = lamp();
    another["metadata"]["name"] = json!("b");
    let another = client.post(LAMPS, &another).await.expect(405);
    assert!(another["message"].as_str().unwrap().contains("is terminating"), "{another}");
}

#[tokio::test]
async fn the_end_of_one_definition_does_not_hold_up_writes_of_others() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut large = definition(1);
    large["metadata"]["name"] = json!("fuses.light.example.com");
    large["spec"]["names"] = json!({"plural": "fuses", "kind": "Fuse"});
    client.post(DEFINITIONS, &large).await.expect(201);
    client.post(DEFINITIONS, &definition(1)).await.expect(201);
    let fuses = LAMPS.replace("lamps", "fuses");
    let makes = (0..600).map(|i| {
        let (client, fuses) = (client.clone(), &fuses);
        let mut fuse = lamp();
        fuse["kind"] = json!("Fuse");
        fuse["metadata"]["name"] = json!(format!("f{i}"));
        async move { client.post(fuses, &fuse).await.expect(201) }
    });
    stream::iter(makes).buffer_unordered(32).for_each(async |_| {}).await;
    client.delete(&format!("{DEFINITIONS}/fuses.light.example.com")).await.expect(200);
    let patch = json!([{"op": "replace", "path": DEFAULT, "value": 2}]);
    client.patch("json", &format!("{DEFINITIONS}/{NAME}"), &patch).await.expect(200);
    let left = client.get(&fuses).await.expect(200)["items"].as_array().unwrap().len();
    assert!(left > 0, "the write waited for the end of the other definition");
    assert_eq!(watts(&client).await, 2);
}
