//! port-forward: a pair of streams for each connection, one for its bytes and one for what goes wrong.
//!
//! As in Kubernetes' `portforward` package. The streams are those of SPDY, by itself or inside of WebSocket messages
//! (`SPDY/3.1+portforward.k8s.io`, kubectl from 1.30 on).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::http::api::NodeApi;
use crate::http::spdy::Stream;

/// The protocol inside of SPDY.
pub(super) const PROTOCOL: &str = "portforward.k8s.io";
/// SPDY inside of WebSocket messages.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// How much is read and sent at a time.
const PIECE: usize = 32 << 10;
/// Connections that wait for the other one of their streams.
const MAX_HALVES: usize = 64;

/// Whose ports are meant.
#[derive(Debug, Clone)]
pub(in crate::http) struct Pod {
    pub(in crate::http) namespace: String,
    pub(in crate::http) name: String,
    /// The ports that the request names; SPDY clients name theirs with each stream instead.
    pub(in crate::http) ports: Vec<u16>,
}

/// Serves connections until `streams` ends, which is when the client has left.
pub(super) async fn serve<A: NodeApi>(api: Arc<A>, pod: Pod, mut streams: mpsc::Receiver<Stream>) {
    let mut halves: HashMap<String, Stream> = HashMap::new();
    let mut connections = JoinSet::new();
    while let Some(stream) = streams.recv().await {
        while connections.try_join_next().is_some() {}
        let request = stream.header("requestid").to_owned();
        let Some(other) = halves.remove(&request) else {
            if halves.len() < MAX_HALVES {
                halves.insert(request, stream);
            }
            continue;
        };
        let (data, error) = match (stream.header("streamtype"), other.header("streamtype")) {
            ("data", "error") => (stream, other),
            ("error", "data") => (other, stream),
            _ => continue,
        };
        connections.spawn(forward(api.clone(), pod.clone(), data, error));
    }
}

/// One connection. What goes wrong is told on the error stream, whose end says that all is over.
async fn forward<A: NodeApi>(api: Arc<A>, pod: Pod, data: Stream, error: Stream) {
    let connected = match data.header("port").parse::<u16>() {
        Ok(port) if port > 0 => api
            .port_forward(&pod.namespace, &pod.name, port)
            .await
            .map_err(|why| format!("error forwarding port {port} to pod {}: {why}", pod.name)),
        _ => Err(format!("{:?} is not a port", data.header("port"))),
    };
    let outcome = match connected {
        Ok(tcp) => carry(tcp, data).await,
        Err(why) => {
            // The client waits for the end of both streams.
            _ = data.output.finish().await;
            Err(why)
        }
    };
    if let Err(why) = outcome {
        _ = error.output.send(Bytes::from(why)).await;
    }
    _ = error.output.finish().await;
}

/// Copies both ways, until the pod's side is done.
async fn carry(tcp: TcpStream, data: Stream) -> Result<(), String> {
    let (mut from, mut to) = tcp.into_split();
    let Stream { mut input, output, .. } = data;
    let up = async {
        while let Some(piece) = input.recv().await {
            if to.write_all(&piece).await.is_err() {
                // The other direction tells what happened to the connection.
                return;
            }
        }
        _ = to.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        let outcome = loop {
            match from.read(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if output.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                        return Ok(());
                    }
                }
                Err(error) => break Err(format!("error copying from the pod: {error}")),
            }
        };
        _ = output.finish().await;
        outcome
    };
    tokio::pin!(up, down);
    tokio::select! {
        outcome = &mut down => outcome,
        () = &mut up => down.await,
    }
}

/// The bytes inside of the messages of a WebSocket, as one stream; ends with either side.
pub(super) async fn tunnel(socket: WebSocketStream<TokioIo<Upgraded>>, inner: DuplexStream) {
    let (mut sink, mut messages) = socket.split();
    let (mut from, mut to) = tokio::io::split(inner);
    let up = async {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(data) if to.write_all(&data).await.is_err() => break,
                Message::Close(_) => break,
                _ => {}
            }
        }
        _ = to.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(count) = from.read(&mut buffer).await {
            if count == 0 || sink.send(Message::binary(buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
        _ = sink.close().await;
    };
    tokio::pin!(up, down);
    tokio::select! {
        () = &mut up => {}
        () = &mut down => {}
    }
}
