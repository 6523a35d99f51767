//! Watches: what is told, when, and that nothing is missed.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Client, Cluster, MAPS, PODS, map, pod};
use http::Method;
use serde_json::{Value, json};

fn labelled(name: &str, color: &str) -> Value {
    let mut one = map(name, color);
    one["metadata"]["labels"] = json!({"color": color});
    one
}

fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn changes_come_in_order_and_resume_from_anywhere() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let start = revision(&client.get(MAPS).await.expect(200));
    let mut live = client.watch(&format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    let made = client.post(MAPS, &map("a", "1")).await.expect(201);
    client.put(&format!("{MAPS}/a"), &map("a", "2")).await.expect(200);
    client.delete(&format!("{MAPS}/a")).await.expect(200);
    let added = live.next().await.unwrap();
    assert_eq!((added["type"].as_str(), &added["object"]), (Some("ADDED"), &made));
    assert_eq!(live.line().await, "MODIFIED a");
    let deleted = live.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_eq!(deleted["object"]["data"]["k"], "2", "the last state");
    let last = revision(&deleted["object"]);
    assert!(last.parse::<i64>().unwrap() > revision(&made).parse().unwrap());
    assert!(live.is_silent().await);
    let mut again = client.watch(&format!("{MAPS}?watch=true&resourceVersion={}", revision(&made))).await;
    assert_eq!(again.line().await, "MODIFIED a");
    assert_eq!(again.line().await, "DELETED a");
    // A deletion's own revision is a place to go on from.
    let mut after = client.watch(&format!("{MAPS}?watch=true&resourceVersion={last}")).await;
    client.post(MAPS, &map("b", "1")).await.expect(201);
    assert_eq!(after.line().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_the_state() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(MAPS, &map("a", "1")).await.expect(201);
    client.post(MAPS, &map("b", "1")).await.expect(201);
    for query in ["watch=1", "watch=1&resourceVersion=0"] {
        let mut watch = client.watch(&format!("{MAPS}?{query}")).await;
        assert_eq!(watch.line().await, "ADDED a");
        assert_eq!(watch.line().await, "ADDED b");
        assert!(watch.is_silent().await);
    }
    let mut single =
        client.watch(&format!("{MAPS}?watch=1&resourceVersion=0&fieldSelector=metadata.name%3Db")).await;
    assert_eq!(single.line().await, "ADDED b");
    client.put(&format!("{MAPS}/a"), &map("a", "2")).await.expect(200);
    client.put(&format!("{MAPS}/b"), &map("b", "2")).await.expect(200);
    assert_eq!(single.line().await, "MODIFIED b");
}

#[tokio::test]
async fn the_paths_of_old_watch_too() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(MAPS, &map("a", "1")).await.expect(201);
    client.post(MAPS, &map("b", "1")).await.expect(201);
    let of_namespace = "/api/v1/watch/namespaces/default/configmaps";
    let mut all = client.watch(of_namespace).await;
    assert_eq!((all.line().await, all.line().await), ("ADDED a".into(), "ADDED b".into()));
    let mut red = client.watch("/api/v1/watch/configmaps?fieldSelector=metadata.name%3Db").await;
    assert_eq!(red.line().await, "ADDED b");
    let mut one = client.watch(&format!("{of_namespace}/b")).await;
    assert_eq!(one.line().await, "ADDED b");
    client.put(&format!("{MAPS}/a"), &map("a", "2")).await.expect(200);
    client.put(&format!("{MAPS}/b"), &map("b", "2")).await.expect(200);
    assert_eq!(one.line().await, "MODIFIED b");
    let mut space = client.watch("/api/v1/watch/namespaces/default").await;
    assert_eq!(space.line().await, "ADDED default");

    let other = client.get(&format!("{of_namespace}/b?fieldSelector=metadata.name%3Da")).await;
    assert_eq!(
        (other.code, other.json()["message"].clone()),
        (400, json!("fieldSelector metadata.name doesn't match requested name"))
    );
    for path in ["/api/v1/watch/configmaps/b", "/api/v1/watch/namespaces/default/pods/p/status"] {
        client.get(path).await.expect(404);
    }
    client.post(of_namespace, &map("c", "1")).await.expect(405);
    let refused = cluster.client_as("nobody").get(of_namespace).await;
    assert!(
        refused.expect(403)["message"].as_str().unwrap().contains("cannot watch resource \"configmaps\"")
    );
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(MAPS, &map("a", "1")).await.expect(201);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = client.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.line().await, "ADDED a");
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    client.post(MAPS, &map("b", "1")).await.expect(201);
    assert_eq!(watch.line().await, "ADDED b");
    let mut from_mark =
        client.watch(&format!("{MAPS}?watch=1&resourceVersion={}", revision(&mark["object"]))).await;
    assert_eq!(from_mark.line().await, "ADDED b");
    assert_eq!(client.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.code, 422);
}

#[tokio::test]
async fn selectors_turn_edges_into_arrivals_and_departures() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(MAPS, &labelled("a", "red")).await.expect(201);
    let start = revision(&client.get(MAPS).await.expect(200));
    let mut red =
        client.watch(&format!("{MAPS}?watch=1&resourceVersion={start}&labelSelector=color%3Dred")).await;
    client.put(&format!("{MAPS}/a"), &labelled("a", "blue")).await.expect(200);
    let left = red.next().await.unwrap();
    assert_eq!((left["type"].as_str(), left["object"]["data"]["k"].as_str()), (Some("DELETED"), Some("red")));
    client.patch("merge", &format!("{MAPS}/a"), &json!({"data": {"x": "y"}})).await.expect(200);
    client.post(MAPS, &labelled("b", "blue")).await.expect(201);
    client.put(&format!("{MAPS}/b"), &labelled("b", "red")).await.expect(200);
    assert_eq!(red.line().await, "ADDED b");
    client.patch("merge", &format!("{MAPS}/b"), &json!({"data": {"x": "y"}})).await.expect(200);
    assert_eq!(red.line().await, "MODIFIED b");
    client.delete(&format!("{MAPS}/a")).await.expect(200);
    client.delete(&format!("{MAPS}/b")).await.expect(200);
    assert_eq!(red.line().await, "DELETED b");

    let start = revision(&client.get(PODS).await.expect(200));
    let on_node = format!("{PODS}?watch=1&resourceVersion={start}&fieldSelector=spec.nodeName%3Dn1");
    let mut node = client.watch(&on_node).await;
    client.post(PODS, &pod("p")).await.expect(201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    client.post(&format!("{PODS}/p/binding"), &binding).await.expect(201);
    assert_eq!(node.line().await, "ADDED p");
}

#[tokio::test]
async fn a_watch_from_forgotten_times_is_told_to_start_over() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let old = revision(&client.post(MAPS, &map("a", "1")).await.expect(201));
    client.put(&format!("{MAPS}/a"), &map("a", "2")).await.expect(200);
    client.put(&format!("{MAPS}/a"), &map("a", "3")).await.expect(200);
    cluster.store.compact(cluster.store.revision()).await.unwrap();
    // Who watches again and again by itself ends when the stream says so, and not when the answer does.
    let answer = client.send(Method::GET, &format!("{MAPS}?watch=1&resourceVersion={old}"), "").await;
    let event = answer.expect(200);
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ERROR"), &json!("Status")));
    assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&json!(410), &json!("Expired")));
    assert_eq!(client.get(&format!("{MAPS}?watch=1&resourceVersion=999999")).await.code, 504);
}

#[tokio::test]
async fn watches_end_in_time_and_at_shutdown() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let began = std::time::Instant::now();
    let mut short = client.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1")).await;
    // One when the state was told, one at the end.
    assert_eq!(short.line().await, "BOOKMARK ");
    assert_eq!(short.line().await, "BOOKMARK ");
    assert_eq!(short.line().await, "END");
    assert!(began.elapsed() >= std::time::Duration::from_millis(950));
    let mut open = client.watch(&format!("{MAPS}?watch=1")).await;
    cluster.api.begin_shutdown();
    assert_eq!(open.line().await, "END");
    assert_eq!(client.get("/readyz").await.code, 500);
}

#[tokio::test]
async fn tables_in_watches_tell_their_columns_once() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    client.post(PODS, &pod("a")).await.expect(201);
    client.post(PODS, &pod("b")).await.expect(201);
    let tables = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let mut watch = tables.watch(&format!("{PODS}?watch=1")).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(first["object"]["columnDefinitions"].as_array().is_some_and(|c| c.len() > 3));
    let second = watch.next().await.unwrap();
    assert!(second["object"]["columnDefinitions"].is_null());
    assert_eq!(second["object"]["rows"][0]["object"]["metadata"]["name"], "b");
}

/// Follows a watch until `done` appears, keeping what a list would show.
async fn follow(
    client: Client,
    path: String,
    mut state: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut watch = client.watch(&path).await;
    loop {
        let event = watch.next().await.expect("the watch ended early");
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "DELETED" => assert!(state.remove(&name).is_some(), "{name} was not there"),
            "ADDED" => assert!(state.insert(name.clone(), revision(object)).is_none(), "{name} was there"),
            "MODIFIED" => {
                assert!(state.insert(name.clone(), revision(object)).is_some(), "{name} was not there")
            }
            other => panic!("{other}: {event}"),
        }
        if name == "done" {
            return state;
        }
    }
}

fn state_of(list: &Value) -> BTreeMap<String, String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|i| (i["metadata"]["name"].as_str().unwrap().to_owned(), revision(i))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_watchers_rebuild_what_hundreds_of_writers_leave() {
    const WRITERS: usize = 100;
    const WATCHERS: usize = 200;
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut watchers = Vec::new();
    let mut writers = Vec::new();
    for i in 0..WRITERS {
        let writer = client.clone();
        writers.push(tokio::spawn(async move {
            // Few names for many writers, so that they meet.
            for step in 0..6 {
                let name = format!("n{}", (i * 7 + step) % 23);
                let path = format!("{MAPS}/{name}");
                match (i + step) % 3 {
                    0 => writer.post(MAPS, &map(&name, "x")).await,
                    1 => {
                        writer
                            .patch("merge", &path, &json!({"data": {format!("w{i}"): step.to_string()}}))
                            .await
                    }
                    _ => writer.delete(&path).await,
                };
            }
        }));
        // Watchers begin all along, each from a list of its own or from the state.
        for _ in 0..WATCHERS / WRITERS {
            let client = client.clone();
            watchers.push(tokio::spawn(async move {
                if i % 2 == 0 {
                    return follow(client, format!("{MAPS}?watch=1"), BTreeMap::new()).await;
                }
                let list = client.get(MAPS).await.expect(200);
                let path = format!("{MAPS}?watch=1&resourceVersion={}", revision(&list));
                follow(client, path, state_of(&list)).await
            }));
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    client.post(MAPS, &map("done", "")).await.expect(201);
    let expected = state_of(&client.get(MAPS).await.expect(200));
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), expected);
    }
}
