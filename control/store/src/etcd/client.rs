//! A small client of the maintenance calls, for `carrack ctl`. It works with etcd's own servers as well.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::proto::cluster::{
    Member, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MembersResponse,
};
use super::proto::kv::{DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RangeResponse};
use super::proto::maintenance::{SnapshotRequest, SnapshotResponse, StatusRequest};

use crate::kv::KeyRange;

/// How long a connection, and a call that is not a stream, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a member is reached.
#[derive(Clone, Debug)]
pub enum Address {
    /// `http://host:port` or `https://host:port`.
    Url(String),
    /// A socket of this host.
    Socket(PathBuf),
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("{address}: {why}")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        why: String,
    },
    /// The member's own words.
    #[error("{}", .0.message())]
    Refused(#[from] Status),
}

/// A connection to one member.
pub struct Client {
    channel: Channel,
}

/// A snapshot on its way here.
pub struct SnapshotStream {
    pieces: Streaming<SnapshotResponse>,
}

pub use super::proto::ResponseHeader;
pub use super::proto::cluster::Member as ListedMember;
pub use super::proto::maintenance::StatusResponse as MemberStatus;

impl Client {
    /// Connects; `tls` is for `https` addresses.
    pub async fn connect(address: &Address, tls: Option<Arc<ClientConfig>>) -> Result<Client, ClientError> {
        let (shown, url) = match address {
            Address::Url(url) => (url.clone(), url.clone()),
            // The name matters to nobody.
            Address::Socket(path) => (path.display().to_string(), "http://localhost".to_owned()),
        };
        let failed = |why: String| ClientError::Connect { address: shown.clone(), why };
        if url.starts_with("https:") && tls.is_none() {
            return Err(failed("needs a certificate: give --cert, --key and --cacert".to_owned()));
        }
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| failed(error.to_string()))?;
        let tls = tls.filter(|_| url.starts_with("https:")).map(TlsConnector::from);
        let address = address.clone();
        let connector = tower::service_fn(move |uri: Uri| dial(address.clone(), uri, tls.clone()));
        let channel = endpoint.connect_timeout(TIMEOUT).connect_with_connector(connector).await;
        Ok(Client { channel: channel.map_err(|error| failed(whole(&error)))? })
    }

    /// The member's condition.
    pub async fn status(&self) -> Result<MemberStatus, ClientError> {
        self.unary("/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }

    /// All members of the cluster.
    pub async fn members(&self) -> Result<Vec<Member>, ClientError> {
        let request = MemberListRequest { linearizable: false };
        let answer: MembersResponse = self.unary("/etcdserverpb.Cluster/MemberList", request).await?;
        Ok(answer.members)
    }

    /// Removes a member for good.
    pub async fn remove_member(&self, id: u64) -> Result<(), ClientError> {
        let answer: Result<MembersResponse, _> =
            self.unary("/etcdserverpb.Cluster/MemberRemove", MemberRemoveRequest { id }).await;
        answer.map(drop)
    }

    /// Gives a learner its vote.
    pub async fn promote_member(&self, id: u64) -> Result<(), ClientError> {
        let answer: Result<MembersResponse, _> =
            self.unary("/etcdserverpb.Cluster/MemberPromote", MemberPromoteRequest { id }).await;
        answer.map(drop)
    }

    /// Keys with a prefix and their values, as this member has them.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(Bytes, Bytes)>, ClientError> {
        let end = KeyRange::prefix(prefix.to_owned());
        let KeyRange::Span { start: key, end: range_end } = end else { return Ok(Vec::new()) };
        let request = RangeRequest { key, range_end, serializable: true, ..RangeRequest::default() };
        let answer: RangeResponse = self.unary("/etcdserverpb.KV/Range", request).await?;
        Ok(answer.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect())
    }

    /// Deletes a key, if it is there.
    pub async fn delete(&self, key: String) -> Result<(), ClientError> {
        let request = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
        let answer: Result<DeleteRangeResponse, _> =
            self.unary("/etcdserverpb.KV/DeleteRange", request).await;
        answer.map(drop)
    }

    /// A snapshot of all that the member has acknowledged.
    pub async fn snapshot(&self) -> Result<SnapshotStream, ClientError> {
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<SnapshotRequest, SnapshotResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
        let pieces = grpc.server_streaming(Request::new(SnapshotRequest {}), path, codec).await?;
        Ok(SnapshotStream { pieces: pieces.into_inner() })
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, ClientError> {
        let mut grpc = Grpc::new(self.channel.clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(whole(&error)))?;
        Ok(grpc)
    }

    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, ClientError>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let mut request = Request::new(request);
        request.set_timeout(TIMEOUT);
        let answer =
            grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    }
}

impl SnapshotStream {
    /// The next piece, and how many bytes follow; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<(Bytes, u64)>, ClientError> {
        let piece = self.pieces.message().await?;
        Ok(piece.map(|piece| (piece.blob, piece.remaining_bytes)))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn dial(address: Address, uri: Uri, tls: Option<TlsConnector>) -> io::Result<TokioIo<Box<dyn Stream>>> {
    if let Address::Socket(path) = address {
        return Ok(TokioIo::new(Box::new(UnixStream::connect(path).await?)));
    }
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} has no host and port"));
    let (host, port) = (uri.host().ok_or_else(bad)?, uri.port_u16().ok_or_else(bad)?);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(TokioIo::new(Box::new(stream))) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;
    Ok(TokioIo::new(Box::new(tls.connect(name, stream).await?)))
}

/// An error with its causes: tonic's own text says little.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
