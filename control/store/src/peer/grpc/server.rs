//! The receiving side.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::{APPEND, CALL, PeerTls, Plain};
use crate::peer::PeerHandler;
use crate::peer::message::{self, Envelope, MAX_MESSAGE_BYTES, Refused};
use crate::shared::until;

/// Handshakes under way. There are few peers.
const HANDSHAKES: usize = 64;
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How long connections may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// What may be on its way on a connection and on a stream of it.
const WINDOW: u32 = 8 << 20;

/// A listening socket.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<PeerTls>,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr, tls: Option<PeerTls>) -> io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await?, tls })
    }
}

/// Serves peers until `stop`. The address is free again when the task ends that is given; connections may take a
/// moment longer.
pub(crate) fn serve(listener: Listener, handler: PeerHandler, stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let (ready, connections) = mpsc::channel(HANDSHAKES);
    tokio::spawn(answer(connections, handler, stop.clone()));
    let mut stop = stop;
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = until(&mut stop) => {}
            () = accept(listener, ready) => {}
        }
    })
}

async fn answer(
    mut connections: mpsc::Receiver<Connection>,
    handler: PeerHandler,
    mut stop: watch::Receiver<bool>,
) {
    let mut stopping = stop.clone();
    let incoming = futures::stream::poll_fn(move |context| connections.poll_recv(context));
    let server = tonic::transport::Server::builder()
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .serve_with_incoming_shutdown(
            Peers(handler),
            incoming.map(Ok::<_, Infallible>),
            until(&mut stopping),
        );
    let too_late = async {
        until(&mut stop).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        ended = server => {
            if let Err(error) = ended {
                tracing::error!(%error, "peers are not served any more");
            }
        }
        () = too_late => {}
    }
}

async fn accept(listener: Listener, ready: mpsc::Sender<Connection>) {
    let acceptor = listener.tls.map(|tls| TlsAcceptor::from(tls.server));
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            match tokio::time::timeout(HANDSHAKE_TIME, handshake(stream, acceptor)).await {
                Ok(Ok(connection)) => drop(ready.send(connection).await),
                Ok(Err(error)) => tracing::warn!(%error, "a peer's connection was refused"),
                Err(_) => tracing::warn!("a peer's handshake took too long"),
            }
        });
    }
}

async fn handshake(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    Ok(match acceptor {
        None => Connection(Box::new(stream)),
        Some(acceptor) => Connection(Box::new(acceptor.accept(stream).await?)),
    })
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, with or without TLS.
struct Connection(Box<dyn Duplex>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// The service.
#[derive(Clone)]
struct Peers(PeerHandler);

impl NamedService for Peers {
    const NAME: &'static str = "carrack.peer.v1.Peer";
}

impl Service<http::Request<Body>> for Peers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peers = self.clone();
        async move {
            let mut grpc = Grpc::new(Plain)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            Ok(match request.uri().path() {
                CALL => grpc.unary(peers, request).await,
                APPEND => grpc.streaming(peers, request).await,
                _ => Status::unimplemented("unknown call").into_http(),
            })
        }
        .boxed()
    }
}

fn encode(answer: Result<message::Response, Refused>) -> Result<Bytes, Status> {
    message::encode(&answer).map_err(|error| Status::internal(error.to_string()))
}

fn decode(bytes: &Bytes) -> Result<Envelope, Status> {
    message::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

impl UnaryService<Bytes> for Peers {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let handler = self.0.clone();
        async move { encode(handler.handle(decode(request.get_ref())?).await).map(Response::new) }.boxed()
    }
}

impl StreamingService<Bytes> for Peers {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        // What cannot be read ends the stream.
        let messages = request.into_inner().map(|bytes| decode(&bytes?));
        let messages = messages.take_while(|message| futures::future::ready(message.is_ok()));
        let messages = messages.filter_map(|message| futures::future::ready(message.ok()));
        let answers = self.0.handle_appends(messages.boxed()).map(encode).boxed();
        futures::future::ready(Ok(Response::new(answers))).boxed()
    }
}
