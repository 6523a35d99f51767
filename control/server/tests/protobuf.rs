//! Answers in protobuf, and the OpenAPI document that older clients read. What messages look like is tested in the
//! module itself; here, that they are what is sent, under the right names.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Answer, Cluster, MAPS, map};
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG};
use serde_json::json;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const OPENAPI: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

fn content_type(answer: &Answer) -> &str {
    answer.headers[CONTENT_TYPE].to_str().unwrap()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn objects_and_lists_are_sent_as_messages() {
    let cluster = Cluster::start().await;
    let client = cluster.client().with("accept", &format!("{PROTOBUF},application/json"));
    let created = client.post(MAPS, &map("a", "some-text")).await;
    assert_eq!((created.code, content_type(&created)), (201, PROTOBUF));
    assert!(created.bytes.starts_with(b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap"));
    // What is sent can be sent back.
    let sender = client.with("content-type", PROTOBUF);
    let same = sender.send(Method::PUT, &format!("{MAPS}/a"), created.bytes.clone()).await;
    assert_eq!((same.code, &same.bytes), (200, &created.bytes));
    let list = client.get(MAPS).await;
    assert_eq!((list.code, content_type(&list)), (200, PROTOBUF));
    assert!(list.bytes.starts_with(b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dConfigMapList"));
    assert!(holds(&list.bytes, b"some-text"));
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = cluster.client().with("accept", &metadata).get(MAPS).await;
    assert_eq!((list.code, content_type(&list)), (200, PROTOBUF));
    assert!(holds(&list.bytes, b"PartialObjectMetadataList") && !holds(&list.bytes, b"some-text"));
    let status = client.delete(&format!("{MAPS}/a")).await;
    assert_eq!((status.code, content_type(&status)), (200, PROTOBUF));
    assert!(holds(&status.bytes, b"Success"));
    // Refusals are messages, too. What has none is JSON, and says so.
    let missing = client.get(&format!("{MAPS}/a")).await;
    assert_eq!((missing.code, content_type(&missing)), (404, PROTOBUF));
    assert!(
        missing.bytes.starts_with(b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Status")
            && holds(&missing.bytes, b"NotFound")
    );
    let groups = client.get("/apis").await;
    assert_eq!((groups.code, content_type(&groups)), (200, "application/json"));
}

#[tokio::test]
async fn definitions_of_custom_resources_are_sent_and_taken_as_messages() {
    let cluster = Cluster::start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "metadata": {"name": "tabs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "additionalProperties": {"type": "string"}}},
            }}}],
        },
    });
    let client = cluster.client().with("accept", PROTOBUF).with("content-type", PROTOBUF);
    let created =
        cluster.client().with("accept", PROTOBUF).post(&format!("{path}?dryRun=All"), &definition).await;
    assert_eq!((created.code, content_type(&created)), (201, PROTOBUF));
    let taken = client.send(Method::POST, path, created.bytes.clone()).await;
    assert_eq!((taken.code, content_type(&taken)), (201, PROTOBUF), "{}", taken.text());
    let stored = cluster.client().get(&format!("{path}/tabs.example.com")).await.expect(200);
    let schema = &stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(schema["properties"]["spec"]["additionalProperties"], json!({"type": "string"}));
    assert_eq!(
        (&stored["spec"]["names"]["singular"], &stored["spec"]["versions"][0]["storage"]),
        (&json!("tab"), &json!(true))
    );
    assert!(holds(&client.get(path).await.bytes, b"CustomResourceDefinitionList"));
}

#[tokio::test]
async fn a_watch_is_a_sequence_of_frames() {
    let cluster = Cluster::start().await;
    cluster.client().post(MAPS, &map("a", "some-text")).await.expect(201);
    let client = cluster.client().with("accept", PROTOBUF);
    let answer = client.get(&format!("{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1")).await;
    assert_eq!(
        (answer.code, content_type(&answer)),
        (200, "application/vnd.kubernetes.protobuf;stream=watch")
    );
    let mut rest = &answer.bytes[..];
    let mut kinds = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        assert_eq!(frame[0], 0x0a, "the type comes first");
        kinds.push(String::from_utf8(frame[2..2 + usize::from(frame[1])].to_vec()).unwrap());
        assert!(holds(frame, b"k8s\0"), "the object has an envelope of its own");
        rest = after;
    }
    // One bookmark says that the state is complete, one comes before the end.
    assert_eq!((rest.len(), kinds), (0, ["ADDED", "BOOKMARK", "BOOKMARK"].map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn openapi_v2_for_older_clients() {
    let cluster = Cluster::start().await;
    for asked in [OPENAPI, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"] {
        let client = cluster.client().with("accept", asked);
        let document = client.get("/openapi/v2").await;
        assert_eq!((document.code, content_type(&document)), (200, OPENAPI));
        assert!(document.bytes.starts_with(b"\x0a\x032.0"));
        assert!(holds(&document.bytes, b"io.k8s.api.apps.v1.Deployment"));
        let tag = document.headers[ETAG].to_str().unwrap().to_owned();
        let again = client.with("if-none-match", &tag).get("/openapi/v2").await;
        assert_eq!((again.code, again.bytes.len()), (304, 0));
        let json = cluster.client().get("/openapi/v2").await;
        assert_eq!((content_type(&json), &json.json()["swagger"]), ("application/json", &json!("2.0")));
        assert_ne!(json.headers[ETAG], tag.as_str());
        let packed = client.with("accept-encoding", "gzip").get("/openapi/v2").await;
        assert_eq!(packed.headers[CONTENT_ENCODING], "gzip");
        assert!(packed.bytes.len() < document.bytes.len() / 3);
    }
}
