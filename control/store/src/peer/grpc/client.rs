//! The sending side: connections to peers, kept and made anew.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, Shared};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

use super::{APPEND, CALL, PeerTls, Plain};
use crate::peer::message::{self, Envelope, MAX_MESSAGE_BYTES, Refused, Request, Response};
use crate::peer::{Peer, Transport, TransportError};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How often an idle connection is probed, and how long the answer may take.
const PROBE: Duration = Duration::from_secs(2);

/// What may be on its way on a connection and on a stream of it: more than a fast network holds in a round trip.
const WINDOW: u32 = 8 << 20;

/// Each peer has a connection for each of these, so that bulk does not hold up signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    /// Elections and signs of life.
    Raft,
    /// Entries, and requests of clients.
    Data,
    /// Snapshots.
    Bulk,
}

fn lane(request: &Request) -> Lane {
    match request {
        Request::Append(_) | Request::Vote(_) | Request::PreVote(_) | Request::TransferLeader(_) => {
            Lane::Raft
        }
        Request::Snapshot(_) => Lane::Bulk,
        _ => Lane::Data,
    }
}

/// A connection that is there, or is being made, or could not be made.
type Connection = Shared<BoxFuture<'static, std::result::Result<Channel, String>>>;

/// Carries messages over gRPC. Connections are made when they are first needed.
pub struct GrpcTransport {
    tls: Option<PeerTls>,
    /// At most one for each address and lane; those of addresses that nobody uses any more are few.
    channels: Mutex<HashMap<(String, Lane), Connection>>,
}

type Result<T> = std::result::Result<T, TransportError>;

impl GrpcTransport {
    /// One that proves with `tls` who this member is. Without, members must be on one host, or trust their network:
    /// only `http` addresses work then.
    pub fn new(tls: Option<PeerTls>) -> GrpcTransport {
        GrpcTransport { tls, channels: Mutex::default() }
    }

    /// A connection to the first address that answers.
    async fn channel(&self, to: &Peer, lane: Lane, timeout: Duration) -> Result<(Channel, String)> {
        let mut last = "no address is known".to_owned();
        for url in &to.urls {
            match tokio::time::timeout(timeout, self.connection(url, lane)).await {
                Ok(Ok(open)) => return Ok((open, url.clone())),
                Ok(Err(why)) => {
                    self.forget(url, lane);
                    last = format!("{url}: {why}");
                }
                Err(_) => last = format!("{url}: no connection yet"),
            }
        }
        Err(TransportError::Undelivered(last))
    }

    /// The connection that is there, or is being made. It is made by a task of its own: who sends a sign of life
    /// has less time than a handshake may take on a busy machine.
    fn connection(&self, url: &str, lane: Lane) -> Connection {
        let mut channels = self.channels.lock();
        let made = channels.entry((url.to_owned(), lane)).or_insert_with(|| {
            let making =
                tokio::spawn(tokio::time::timeout(CONNECT, connect(url.to_owned(), self.tls.clone())));
            let made = making.map(|made| match made {
                Ok(Ok(made)) => made,
                Ok(Err(_)) => Err(format!("no connection within {CONNECT:?}")),
                Err(error) => Err(error.to_string()),
            });
            made.boxed().shared()
        });
        made.clone()
    }

    /// The next message makes a new connection.
    fn forget(&self, url: &str, lane: Lane) {
        self.channels.lock().remove(&(url.to_owned(), lane));
    }
}

async fn connect(url: String, tls: Option<PeerTls>) -> std::result::Result<Channel, String> {
    crate::peer::check_url(&url)?;
    let tls = match (url.starts_with("https:"), tls) {
        (false, None) => None,
        (true, Some(tls)) => Some(TlsConnector::from(Arc::clone(&tls.client))),
        (true, None) => return Err("the address wants TLS, but this member has none".to_owned()),
        (false, Some(_)) => return Err("the address is without TLS, which this member refuses".to_owned()),
    };
    let endpoint = Endpoint::from_shared(url).map_err(|error| whole(&error))?;
    let endpoint = endpoint
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
    let connector = tower::service_fn(move |uri: Uri| dial(uri, tls.clone()));
    endpoint.connect_with_connector(connector).await.map_err(|error| whole(&error))
}

/// An error with its causes: tonic's own text says little.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn dial(uri: Uri, tls: Option<TlsConnector>) -> io::Result<TokioIo<Box<dyn Stream>>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} is no peer address"));
    let (host, port) = (uri.host().ok_or_else(bad)?, uri.port_u16().ok_or_else(bad)?);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(TokioIo::new(Box::new(stream))) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;
    Ok(TokioIo::new(Box::new(tls.connect(name, stream).await?)))
}

fn grpc(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn decode(bytes: &Bytes) -> Result<Response> {
    let answer: std::result::Result<Response, Refused> =
        message::decode(bytes).map_err(|error| TransportError::NoAnswer(error.to_string()))?;
    Ok(answer?)
}

fn encode(envelope: &Envelope) -> Result<Bytes> {
    message::encode(envelope).map_err(|error| TransportError::Undelivered(error.to_string()))
}

#[async_trait]
impl Transport for GrpcTransport {
    async fn call(&self, to: &Peer, envelope: Envelope, timeout: Duration) -> Result<Response> {
        let lane = lane(&envelope.request);
        let bytes = encode(&envelope)?;
        let (channel, url) = self.channel(to, lane, timeout).await?;
        let mut grpc = grpc(channel);
        let call = async {
            grpc.ready().await.map_err(|error| whole(&error))?;
            let request = tonic::Request::new(bytes);
            let answer = grpc.unary(request, PathAndQuery::from_static(CALL), Plain).await;
            answer.map(tonic::Response::into_inner).map_err(|status| whole(&status))
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(answer)) => decode(&answer),
            Ok(Err(why)) => {
                self.forget(&url, lane);
                Err(TransportError::NoAnswer(why))
            }
            Err(_) => Err(TransportError::NoAnswer(format!("nothing within {timeout:?}"))),
        }
    }

    fn appends(
        self: Arc<Self>,
        to: Peer,
        messages: BoxStream<'static, Envelope>,
        timeout: Duration,
    ) -> BoxStream<'static, Result<Response>> {
        let answers = async move {
            match self.open_appends(&to, messages, timeout).await {
                Ok(answers) => answers,
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            }
        };
        futures::stream::once(answers).flatten().boxed()
    }
}

impl GrpcTransport {
    async fn open_appends(
        self: Arc<Self>,
        to: &Peer,
        messages: BoxStream<'static, Envelope>,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<Response>>> {
        // A stream is opened seldom, so it may take its time.
        let timeout = timeout.max(CONNECT);
        let (channel, url) = self.channel(to, Lane::Data, timeout).await?;
        let failed = |me: &GrpcTransport, url: &str, why: String| {
            me.forget(url, Lane::Data);
            TransportError::NoAnswer(why)
        };
        let mut grpc = grpc(channel);
        // A message that cannot be encoded ends the stream.
        let messages = messages.map(|envelope| encode(&envelope));
        let messages = messages.take_while(|bytes| futures::future::ready(bytes.is_ok()));
        let messages = messages.filter_map(|bytes| futures::future::ready(bytes.ok()));
        let open = async {
            grpc.ready().await.map_err(|error| whole(&error))?;
            let request = tonic::Request::new(messages);
            let answer = grpc.streaming(request, PathAndQuery::from_static(APPEND), Plain).await;
            answer.map(tonic::Response::into_inner).map_err(|status| whole(&status))
        };
        let answers = match tokio::time::timeout(timeout, open).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(why)) => return Err(failed(&self, &url, why)),
            Err(_) => return Err(TransportError::NoAnswer(format!("nothing within {timeout:?}"))),
        };
        let answers = answers.map(move |answer| match answer {
            Ok(bytes) => decode(&bytes),
            Err(status) => Err(failed(&self, &url, whole(&status))),
        });
        Ok(answers.boxed())
    }
}
