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

/// Every call there is, and whether it goes on until the client ends it: waiting for a lock, watching.
const METHODS: [(&str, bool); 31] = [
    ("etcdserverpb.KV/Range", false),
    ("etcdserverpb.KV/Put", false),
    ("etcdserverpb.KV/DeleteRange", false),
    ("etcdserverpb.KV/Txn", false),
    ("etcdserverpb.KV/Compact", false),
    ("etcdserverpb.Watch/Watch", true),
    ("etcdserverpb.Lease/LeaseGrant", false),
    ("etcdserverpb.Lease/LeaseRevoke", false),
    ("etcdserverpb.Lease/LeaseKeepAlive", true),
    ("etcdserverpb.Lease/LeaseTimeToLive", false),
    ("etcdserverpb.Lease/LeaseLeases", false),
    ("etcdserverpb.Cluster/MemberAdd", false),
    ("etcdserverpb.Cluster/MemberRemove", false),
    ("etcdserverpb.Cluster/MemberUpdate", false),
    ("etcdserverpb.Cluster/MemberList", false),
    ("etcdserverpb.Cluster/MemberPromote", false),
    ("etcdserverpb.Maintenance/Alarm", false),
    ("etcdserverpb.Maintenance/Status", false),
    ("etcdserverpb.Maintenance/Hash", false),
    ("etcdserverpb.Maintenance/HashKV", false),
    ("etcdserverpb.Maintenance/Snapshot", false),
    ("etcdserverpb.Maintenance/MoveLeader", false),
    ("etcdserverpb.Auth/AuthStatus", false),
    ("v3lockpb.Lock/Lock", true),
    ("v3lockpb.Lock/Unlock", false),
    ("v3electionpb.Election/Campaign", true),
    ("v3electionpb.Election/Proclaim", false),
    ("v3electionpb.Election/Leader", false),
    ("v3electionpb.Election/Observe", true),
    ("v3electionpb.Election/Resign", false),
    ("grpc.health.v1.Health/Check", false),
];

/// How long a call may take that does not wait for anything.
const ANSWER: Duration = Duration::from_secs(20);

/// How long one is listened to that goes on.
const LISTEN: Duration = Duration::from_millis(20);

/// Memory that may be taken while random requests come in: what they put is kept, each of them is small.
const GROWTH: usize = 48 << 20;

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
    tokio::time::timeout(ANSWER, answer).await.expect("in time")
}

/// Bytes of memory that this process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
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

/// What is wrong with a request in other places than its fields: bytes are changed, left out, doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (message(), prop::collection::vec(damage, 0..4)).prop_map(|(mut bytes, damages)| {
        for (at, value, kind) in damages.into_iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] ^= value,
                1 => bytes.truncate(at),
                2 => bytes.extend_from_within(at..),
                _ => bytes.insert(at, value),
            }
        }
        bytes
    })
}

#[test]
fn random_requests_get_an_answer() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ours = runtime.block_on(servers::ours());
    let sender = runtime.block_on(connect(&ours.endpoint));
    let codes = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let rounds = |cases| {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let run = TestRunner::new(config).run(&(0..METHODS.len(), damaged()), |(method, message)| {
            let mut sender = sender.clone();
            let (method, goes_on) = METHODS[method];
            let answer = call(&mut sender, method, framed(&message));
            let code = match goes_on {
                true => runtime.block_on(async { tokio::time::timeout(LISTEN, answer).await.ok() }),
                false => Some(runtime.block_on(answer)),
            };
            codes.borrow_mut().extend(code);
            prop_assert_eq!(&ours.store.status().failed, &None);
            Ok(())
        });
        run.expect("every request has an answer");
    };
    rounds(300);
    let before = resident();
    rounds(900);
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more after 900 small requests");
    assert!(codes.borrow().contains("0") && codes.borrow().contains("3"), "some make sense: {codes:?}");
    // Nobody is left waiting: what goes on ended with its client.
    runtime.block_on(async {
        let mut sender = connect(&ours.endpoint).await;
        assert_eq!(call(&mut sender, "etcdserverpb.Maintenance/Status", framed(b"")).await, "0");
        for _ in 0..100 {
            if ours.store.status().watchers == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("watches of clients that are gone: {}", ours.store.status().watchers);
    });
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
