//! Lists: pages, consistency, selectors, representations.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Client, Cluster, MAPS, PODS, map, pod};
use http::Method;
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn fill(client: &Client, count: usize) {
    for i in 0..count {
        let mut one = map(&format!("m{i:03}"), "x");
        one["metadata"]["labels"] = json!({"third": (i % 3).to_string()});
        client.post(MAPS, &one).await.expect(201);
    }
}

#[tokio::test]
async fn pages_show_one_moment() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    fill(&client, 25).await;
    let mut page = client.get(&format!("{MAPS}?limit=10")).await.expect(200);
    assert_eq!(page["kind"], "ConfigMapList");
    assert_eq!(page["metadata"]["remainingItemCount"], 15);
    let revision = page["metadata"]["resourceVersion"].clone();
    let mut seen = names(&page);
    // What happens now is not part of the list.
    client.delete(&format!("{MAPS}/m020")).await.expect(200);
    client.post(MAPS, &map("m0155", "new")).await.expect(201);
    while let Some(token) = page["metadata"]["continue"].as_str() {
        page = client.get(&format!("{MAPS}?limit=10&continue={token}")).await.expect(200);
        assert_eq!(page["metadata"]["resourceVersion"], revision);
        seen.extend(names(&page));
    }
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    assert_eq!(seen, (0..25).map(|i| format!("m{i:03}")).collect::<Vec<_>>());
    let revision = revision.as_str().unwrap();
    let exact = client.get(&format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact")).await;
    assert_eq!(names(&exact.expect(200)), seen);
}

#[tokio::test]
async fn an_expired_token_comes_with_a_fresh_one() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    fill(&client, 9).await;
    let page = client.get(&format!("{MAPS}?limit=4")).await.expect(200);
    let token = page["metadata"]["continue"].as_str().unwrap();
    client.delete(&format!("{MAPS}/m006")).await.expect(200);
    cluster.store.compact(cluster.store.revision()).await.unwrap();
    let expired = client.get(&format!("{MAPS}?limit=4&continue={token}")).await.expect(410);
    assert_eq!(expired["reason"], "Expired");
    let fresh = expired["metadata"]["continue"].as_str().unwrap();
    let rest = client.get(&format!("{MAPS}?limit=10&continue={fresh}")).await.expect(200);
    assert_eq!(names(&rest), ["m004", "m005", "m007", "m008"]);
    let old = page["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = client.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(exact.code, 410);
    for wrong in ["continue=xyz", &format!("continue={token}&resourceVersion=5")] {
        assert_eq!(client.get(&format!("{MAPS}?limit=1&{wrong}")).await.code, 400, "{wrong}");
    }
    let elsewhere =
        client.get(&format!("/api/v1/namespaces/kube-system/configmaps?limit=4&continue={token}")).await;
    assert_eq!(elsewhere.code, 400);
}

#[tokio::test]
async fn a_future_revision_is_too_large() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let answer = client.get(&format!("{MAPS}?resourceVersion=999999")).await;
    assert_eq!(answer.code, 504);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn selectors_choose_and_pages_of_them_are_full() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    fill(&client, 30).await;
    let list = client.get(&format!("{MAPS}?labelSelector=third%3D1")).await.expect(200);
    assert_eq!(names(&list).len(), 10);
    let mut seen = Vec::new();
    let mut path = format!("{MAPS}?labelSelector=third%20in%20(0,2)&limit=6");
    loop {
        let page = client.get(&path).await.expect(200);
        assert_eq!(page["metadata"].get("remainingItemCount"), None);
        seen.extend(names(&page));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        assert_eq!(names(&page).len(), 6);
        path = format!("{MAPS}?labelSelector=third%20in%20(0,2)&limit=6&continue={token}");
    }
    assert_eq!(seen.len(), 20);
    let one = client.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm007")).await.expect(200);
    assert_eq!(names(&one), ["m007"]);
    let all = client.get("/api/v1/configmaps?fieldSelector=metadata.namespace!%3Ddefault").await.expect(200);
    assert!(names(&all).iter().all(|n| !n.starts_with("m0")), "{all}");
    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("n1");
    client.post(PODS, &bound).await.expect(201);
    client.post(PODS, &pod("free")).await.expect(201);
    let on_node = client.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.expect(200);
    assert_eq!(names(&on_node), ["bound"]);
    let nowhere = client.get("/api/v1/pods?fieldSelector=spec.nodeName%3D").await.expect(200);
    assert_eq!(names(&nowhere), ["free"]);
}

#[tokio::test]
async fn items_are_the_objects_without_their_kind() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut made = client.post(MAPS, &map("a", "1")).await.expect(201);
    let answer = client.get(MAPS).await;
    assert_eq!(answer.headers["content-length"], answer.bytes.len().to_string());
    let list = answer.json();
    made.as_object_mut().unwrap().retain(|k, _| k != "kind" && k != "apiVersion");
    assert_eq!(list["items"], json!([made]));
    let empty = client.get("/api/v1/namespaces/kube-public/configmaps").await;
    assert_eq!(empty.json()["items"], json!([]));
}

#[tokio::test]
async fn tables_metadata_and_yaml() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    fill(&client, 3).await;
    let tables = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    let table = tables.get(MAPS).await.expect(200);
    assert_eq!(
        (table["kind"].as_str(), table["apiVersion"].as_str()),
        (Some("Table"), Some("meta.k8s.io/v1"))
    );
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"].as_array().unwrap().len(), 3);
    assert_eq!(table["rows"][0]["cells"][0], "m000");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = tables.get(&format!("{MAPS}?includeObject=Object")).await.expect(200);
    assert_eq!(whole["rows"][0]["object"]["kind"], "ConfigMap");
    let none = tables.get(&format!("{MAPS}?includeObject=None")).await.expect(200);
    assert_eq!(none["rows"][0].get("object"), None);
    assert_eq!(tables.get(&format!("{MAPS}?includeObject=Some")).await.code, 400);
    let single = tables.get(&format!("{MAPS}/m001")).await.expect(200);
    assert_eq!(single["rows"].as_array().unwrap().len(), 1);
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let only_tables = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(only_tables.post(reviews, &review).await.code, 406, "reviews have no table");
    assert_eq!(tables.post(reviews, &review).await.expect(201)["status"]["allowed"], true);
    let older = client.with("accept", "application/json;as=Table;v=v1beta1;g=meta.k8s.io");
    assert_eq!(older.get(MAPS).await.expect(200)["apiVersion"], "meta.k8s.io/v1beta1");

    let partial = client.with("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let list = partial.get(MAPS).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][2]["metadata"]["name"], "m002");
    assert_eq!(list["items"][2].get("data"), None);
    let yaml = client.with("accept", "application/yaml").get(&format!("{MAPS}/m001")).await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(yaml.text().contains("name: m001"), "{}", yaml.text());
    assert_eq!(client.with("accept", "text/html").get(MAPS).await.code, 406);
    let pretty = client.get(&format!("{MAPS}/m001?pretty=true")).await;
    assert!(pretty.text().contains("\n  \"metadata\": {\n"), "{}", pretty.text());
}

#[tokio::test]
async fn large_lists_are_compressed_for_those_who_take_it() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for i in 0..4 {
        client.post(MAPS, &map(&format!("m{i}"), &"y".repeat(60_000))).await.expect(201);
    }
    // Both lists are of the same revision.
    cluster.settled().await;
    let plain = client.get(MAPS).await;
    assert_eq!(plain.headers.get("content-encoding"), None);
    let packed = client.with("accept-encoding", "gzip").get(MAPS).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.bytes.len() * 10 < plain.bytes.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.bytes[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.bytes);
    let small = client.with("accept-encoding", "gzip").get(&format!("{MAPS}/none")).await;
    assert_eq!(small.headers.get("content-encoding"), None);
}

#[tokio::test]
async fn discovery_openapi_version_health_and_metrics() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    assert_eq!(client.get("/api").await.expect(200)["versions"], json!(["v1"]));
    let core = client.get("/api/v1").await.expect(200);
    let pods = core["resources"].as_array().unwrap().iter().find(|r| r["name"] == "pods").unwrap().clone();
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert!(client.get("/apis").await.expect(200)["groups"].as_array().unwrap().len() >= 4);
    assert_eq!(client.get("/apis/apps").await.expect(200)["kind"], "APIGroup");
    assert_eq!(client.get("/apis/apps/v1").await.expect(200)["groupVersion"], "apps/v1");
    assert_eq!(client.get("/apis/none").await.code, 404);
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all = client.with("accept", v2).get("/apis").await;
    assert_eq!(
        all.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    assert_eq!(all.json()["kind"], "APIGroupDiscoveryList");
    let version = client.get("/version").await.expect(200);
    assert_eq!(version["gitVersion"], "v1.35.0+carrack");

    let v2 = client.get("/openapi/v2").await;
    assert_eq!(v2.json()["swagger"], "2.0");
    let tag = v2.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(client.with("if-none-match", &tag).get("/openapi/v2").await.code, 304);
    let index = client.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(client.get(url).await.expect(200)["paths"].is_object());
    assert_eq!(client.get("/openapi/v3/apis/none/v1").await.code, 404);

    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(client.get(path).await.text(), "ok", "{path}");
    }
    assert!(client.get("/readyz?verbose").await.text().contains("[+]etcd ok\n"));
    assert_eq!(client.get("/readyz/etcd").await.text(), "ok");
    assert_eq!(client.get("/readyz/nothing").await.code, 404);
    cluster.api.report("scheduler", Err("it fell".into()));
    let failing = client.get("/readyz").await;
    assert_eq!(failing.code, 500);
    assert!(failing.text().contains("[-]scheduler failed: reason withheld"), "{}", failing.text());
    assert!(client.get("/readyz?verbose").await.text().contains("[-]scheduler failed: it fell\n"));
    assert_eq!(client.get("/readyz?exclude=scheduler").await.code, 200);
    assert_eq!(client.get("/livez").await.code, 200);
    cluster.api.report("scheduler", Ok(()));
    assert_eq!(client.get("/readyz").await.code, 200);

    client.get(&format!("{MAPS}/none")).await.expect(404);
    let metrics = client.get("/metrics").await.text();
    let line = "apiserver_request_total{code=\"404\",component=\"apiserver\",dry_run=\"\",group=\"\",\
                resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    let slis = client.get("/metrics/slis").await.text();
    assert!(slis.contains("kubernetes_healthcheck{name=\"scheduler\",type=\"readyz\"} 1\n"), "{slis}");
    assert!(
        slis.contains(
            "kubernetes_healthchecks_total{name=\"scheduler\",status=\"error\",type=\"readyz\"} 2\n"
        )
    );
    let head = client.send(Method::HEAD, "/version", "").await;
    assert_eq!((head.code, head.bytes.len()), (200, 0));
}
