//! What comes over the wire may be anything: no request ends the server, and each gets an answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::net::TcpStream;

use crate::servers;

const METHODS: [&str; 12] = [
    "etcdserverpb.KV/Range",
    "etcdserverpb.KV/Put",
    "etcdserverpb.KV/DeleteRange",
    "etcdserverpb.KV/Txn",
    "etcdserverpb.KV/Compact",
    "etcdserverpb.Lease/LeaseGrant",
    "etcdserverpb.Lease/LeaseRevoke",
    "etcdserverpb.Watch/Watch",
    "etcdserverpb.Maintenance/Alarm",
    "etcdserverpb.Maintenance/HashKV",
    "etcdserverpb.Cluster/MemberAdd",
    "v3electionpb.Election/Resign",
];

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(endpoint: &str) -> Sender {
    let stream = TcpStream::connect(endpoint).await.expect("connects");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Sends bytes as the body of a call; gives the code of gRPC that it ended with.
async fn call(sender: &mut Sender, method: &str, body: Vec<u8>) -> String {
    let request = hyper::Request::post(format!("http://store/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from(body))
        .expect("a request");
    let answer = async {
        let response = sender.send_request(request).await.expect("an answer");
        let at_once = response.headers().get("grpc-status").cloned();
        let collected = response.into_body().collect().await.expect("a whole answer");
        let at_the_end = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        at_once.or(at_the_end).expect("a status").to_str().expect("text").to_owned()
    };
    tokio::time::timeout(Duration::from_secs(20), answer).await.expect("in time")
}

/// A message in gRPC's framing.
fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], len.as_slice(), message].concat()
}

/// Bytes that often mean something: fields with small numbers.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let varint = (0u8..14, any::<u8>()).prop_map(|(field, value)| vec![field << 3, value & 0x7f]);
    let negative = (0u8..14).prop_map(|field| [&[field << 3][..], &[0xff; 9], &[1]].concat());
    let leaf = prop_oneof![
        varint.clone(),
        negative,
        (0u8..14, prop::collection::vec(any::<u8>(), 0..8))
            .prop_map(|(field, bytes)| bytes_field(field, &bytes)),
    ];
    let fields = prop::collection::vec(leaf, 0..6).prop_map(|fields| fields.concat());
    let nested = fields.prop_recursive(4, 24, 4, |inner| {
        prop::collection::vec((0u8..12, inner), 1..4)
            .prop_map(|fields| fields.iter().flat_map(|(field, inner)| bytes_field(*field, inner)).collect())
    });
    prop_oneof![4 => nested, 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

fn bytes_field(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(bytes);
    out
}

#[test]
fn random_requests_get_an_answer() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ours = runtime.block_on(servers::ours());
    let sender = runtime.block_on(connect(&ours.endpoint));
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let codes = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let run = TestRunner::new(config).run(&(0..METHODS.len(), message()), |(method, message)| {
        let mut sender = sender.clone();
        let code = runtime.block_on(call(&mut sender, METHODS[method], framed(&message)));
        codes.borrow_mut().insert(code);
        prop_assert_eq!(&ours.store.status().failed, &None);
        Ok(())
    });
    run.expect("every request has an answer");
    assert!(codes.borrow().contains("0") && codes.borrow().contains("3"), "some make sense: {codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_exist_say_so() {
    let ours = servers::ours().await;
    let mut sender = connect(&ours.endpoint).await;
    for method in ["etcdserverpb.KV/Nothing", "nobody.Knows/This", "etcdserverpb.Auth/UserList"] {
        assert_eq!(call(&mut sender, method, framed(b"")).await, "12", "{method}");
    }
    assert_eq!(call(&mut sender, "grpc.health.v1.Health/Check", framed(b"")).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_answers_on_the_same_port() {
    let ours = servers::ours().await;
    let get = async |path: &str| {
        let stream = TcpStream::connect(&ours.endpoint).await.expect("connects");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "store").body(Full::<Bytes>::default());
        let response = sender.send_request(request.expect("a request")).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(get("/health").await, (200, "{\"health\":\"true\",\"reason\":\"\"}".to_owned()));
    assert!(get("/version").await.1.contains("\"etcdserver\":\"3.5."));
    assert_eq!(get("/nothing").await.0, 404);
    let mut sender = connect(&ours.endpoint).await;
    assert_eq!(call(&mut sender, "etcdserverpb.KV/Put", framed(b"\x0a\x01k\x12\x01v")).await, "0");
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "etcd_server_has_leader 1",
        "etcd_mvcc_put_total 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}
