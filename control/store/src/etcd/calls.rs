//! The table of all calls, and how one gets from HTTP to its function.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use futures::Stream;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Face, auth, cluster, concurrency, health, kv, lease, maintenance, metrics, watch};

/// What a client may send beyond the largest request of the store: its fields other than keys and values.
const ENVELOPE_BYTES: usize = 512 << 10;

/// A call of the API.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// The kind, as in `grpc_type` of metrics.
    pub(crate) kind: &'static str,
}

macro_rules! calls {
    ($($service:literal $method:literal $kind:ident $function:path;)*) => {
        /// All calls.
        pub(crate) const CALLS: &[Call] = &[$(Call {
            service: $service,
            method: $method,
            path: concat!("/", $service, "/", $method),
            kind: stringify!($kind),
        }),*];

        /// Answers a request.
        pub(crate) async fn answer<B>(face: Arc<Face>, request: Request<B>) -> Response<Body>
        where
            B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
            B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        {
            let Some(index) = CALLS.iter().position(|call| call.path == request.uri().path()) else {
                return unknown(request.uri().path());
            };
            face.counters.started(index);
            match CALLS[index].path {
                // Each in an allocation of its own size, not all in one of the size of the largest.
                $(concat!("/", $service, "/", $method) => {
                    Box::pin($kind(face, index, request, $function)).await
                })*
                // The table is complete.
                path => unknown(path),
            }
        }
    };
}

calls! {
    "etcdserverpb.KV" "Range" unary kv::range;
    "etcdserverpb.KV" "Put" unary kv::put;
    "etcdserverpb.KV" "DeleteRange" unary kv::delete_range;
    "etcdserverpb.KV" "Txn" unary kv::txn;
    "etcdserverpb.KV" "Compact" unary kv::compact;
    "etcdserverpb.Watch" "Watch" bidi_stream watch::watch;
    "etcdserverpb.Lease" "LeaseGrant" unary lease::grant;
    "etcdserverpb.Lease" "LeaseRevoke" unary lease::revoke;
    "etcdserverpb.Lease" "LeaseKeepAlive" bidi_stream lease::keep_alive;
    "etcdserverpb.Lease" "LeaseTimeToLive" unary lease::time_to_live;
    "etcdserverpb.Lease" "LeaseLeases" unary lease::leases;
    "etcdserverpb.Cluster" "MemberAdd" unary cluster::add;
    "etcdserverpb.Cluster" "MemberRemove" unary cluster::remove;
    "etcdserverpb.Cluster" "MemberUpdate" unary cluster::update;
    "etcdserverpb.Cluster" "MemberList" unary cluster::list;
    "etcdserverpb.Cluster" "MemberPromote" unary cluster::promote;
    "etcdserverpb.Maintenance" "Alarm" unary maintenance::alarm;
    "etcdserverpb.Maintenance" "Status" unary maintenance::status;
    "etcdserverpb.Maintenance" "Defragment" unary maintenance::defragment;
    "etcdserverpb.Maintenance" "Hash" unary maintenance::hash;
    "etcdserverpb.Maintenance" "HashKV" unary maintenance::hash_kv;
    "etcdserverpb.Maintenance" "Snapshot" server_stream maintenance::snapshot;
    "etcdserverpb.Maintenance" "MoveLeader" unary maintenance::move_leader;
    "etcdserverpb.Auth" "AuthStatus" unary auth::status;
    "v3lockpb.Lock" "Lock" unary concurrency::lock;
    "v3lockpb.Lock" "Unlock" unary concurrency::unlock;
    "v3electionpb.Election" "Campaign" unary concurrency::campaign;
    "v3electionpb.Election" "Proclaim" unary concurrency::proclaim;
    "v3electionpb.Election" "Leader" unary concurrency::leader;
    "v3electionpb.Election" "Observe" server_stream concurrency::observe;
    "v3electionpb.Election" "Resign" unary concurrency::resign;
    "grpc.health.v1.Health" "Check" unary health::check;
    "grpc.health.v1.Health" "Watch" server_stream health::watch;
}

/// There is no such call.
fn unknown(path: &str) -> Response<Body> {
    let text = match path.trim_start_matches('/').split_once('/') {
        Some(("etcdserverpb.Auth", method)) => format!(
            "etcdserver: {method} is not implemented: users and roles are those of the API server, and clients of \
             the store are known by their certificates"
        ),
        Some((service, method)) if CALLS.iter().any(|call| call.service == service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Status::unimplemented(text).into_http()
}

fn grpc<Q, A>(face: &Face) -> Grpc<ProstCodec<A, Q>>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Send + Default + 'static,
{
    let most = face.store.max_request_bytes() + ENVELOPE_BYTES;
    Grpc::new(ProstCodec::default()).max_decoding_message_size(most)
}

/// One message each way.
async fn unary<Q, A, F, B>(
    face: Arc<Face>,
    index: usize,
    request: Request<B>,
    function: impl FnOnce(Arc<Face>, Q) -> F + Clone + Send,
) -> Response<Body>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    F: Future<Output = Result<A, Status>> + Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = grpc::<Q, A>(&face);
    let began = Instant::now();
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        let (face, function) = (Arc::clone(&face), function.clone());
        async move {
            let answer = function(Arc::clone(&face), request.into_inner()).await;
            face.counters.handled(index, answer.as_ref().err().map(Status::code), began.elapsed());
            answer.map(tonic::Response::new)
        }
    });
    grpc.unary(service, request).await
}

/// One message from the client, many to it.
async fn server_stream<Q, A, S, F, B>(
    face: Arc<Face>,
    index: usize,
    request: Request<B>,
    function: impl FnOnce(Arc<Face>, Q) -> F + Clone + Send,
) -> Response<Body>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: Future<Output = Result<S, Status>> + Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = grpc::<Q, A>(&face);
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        let (face, function) = (Arc::clone(&face), function.clone());
        async move {
            let answer = function(Arc::clone(&face), request.into_inner()).await;
            metrics::counted(face, index, answer).map(tonic::Response::new)
        }
    });
    grpc.server_streaming(service, request).await
}

/// Many messages each way.
async fn bidi_stream<Q, A, S, F, B>(
    face: Arc<Face>,
    index: usize,
    request: Request<B>,
    function: impl FnOnce(Arc<Face>, Streaming<Q>) -> F + Clone + Send,
) -> Response<Body>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
    F: Future<Output = Result<S, Status>> + Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = grpc::<Q, A>(&face);
    let service = tower::service_fn(move |request: tonic::Request<Streaming<Q>>| {
        let (face, function) = (Arc::clone(&face), function.clone());
        async move {
            let answer = function(Arc::clone(&face), request.into_inner()).await;
            metrics::counted(face, index, answer).map(tonic::Response::new)
        }
    });
    grpc.streaming(service, request).await
}
