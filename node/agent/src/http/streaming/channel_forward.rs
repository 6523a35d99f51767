//! port-forward over the channels of a WebSocket, as client libraries speak it that know no SPDY (Python, JavaScript, kube-rs).
//!
//! As in the kubelet's `portforward/websocket.go`: the request names the ports, and the port at place n has two channels, 2n
//! for its bytes and 2n + 1 for what goes wrong. The first message on each is the port, as two bytes, the lower first. All
//! ports are connected to at once, and the session ends with the last of these connections.

use futures::StreamExt;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::channel::Protocol;
use super::forward::Pod;
use super::session::{PIECE, QUEUE, Socket, say_goodbye, write};
use crate::http::api::NodeApi;
use crate::http::room::{Piece, Room};

/// As many ports as a byte numbers pairs of channels, less the number that closes one.
const MAX_PORTS: u8 = 127;

/// The two channels of a port.
struct Pair {
    protocol: Protocol,
    queue: mpsc::Sender<Message>,
    data: u8,
}

impl Pair {
    /// Sends on a channel; false when the client is gone.
    async fn send(&self, channel: u8, bytes: &[u8]) -> bool {
        self.queue.send(self.protocol.message(channel, bytes)).await.is_ok()
    }

    async fn complain(&self, why: &str) {
        self.send(self.data + 1, why.as_bytes()).await;
    }
}

/// Serves the ports until all connections are over, or the client has left.
pub(super) async fn serve<A: NodeApi>(api: &A, pod: &Pod, socket: Socket, protocol: Protocol) {
    let (mut sink, mut messages) = socket.split();
    let (queue, queued) = mpsc::channel(QUEUE);
    let mut inputs = Vec::new();
    let room = Room::new();
    let mut connections = Vec::new();
    for (place, port) in (0..MAX_PORTS).zip(&pod.ports) {
        let (input, from_client) = mpsc::channel(QUEUE);
        inputs.push(input);
        let pair = Pair { protocol, queue: queue.clone(), data: 2 * place };
        connections.push(forward(api, pod, *port, pair, from_client));
    }
    drop(queue);
    let read = async {
        while let Some(Ok(message)) = messages.next().await {
            let (channel, data) = match (message.is_close(), protocol.parts(message)) {
                (true, _) | (_, Err(_)) => return,
                (_, Ok(None)) => continue,
                (_, Ok(Some(parts))) => parts,
            };
            if let Some(input) = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0)
                && let Some(piece) = room.take(data).await
            {
                // An error means that this connection is over, which the client has been told.
                _ = input.send(piece).await;
            }
        }
    };
    tokio::select! {
        () = read => {}
        _ = async { tokio::join!(join_all(connections), write(&mut sink, queued)) } => {}
    }
    say_goodbye(sink, messages, CloseCode::Normal).await;
}

/// One connection.
async fn forward<A: NodeApi>(api: &A, pod: &Pod, port: u16, pair: Pair, input: mpsc::Receiver<Piece>) {
    for channel in [pair.data, pair.data + 1] {
        if !pair.send(channel, &port.to_le_bytes()).await {
            return;
        }
    }
    match api.port_forward(&pod.namespace, &pod.name, port).await {
        Ok(tcp) => carry(tcp, &pair, input).await,
        Err(why) => {
            pair.complain(&format!("error forwarding port {port} to pod {}: {why}", pod.name)).await;
        }
    }
}

/// Copies both ways, until the pod's side is done.
async fn carry(tcp: TcpStream, pair: &Pair, mut input: mpsc::Receiver<Piece>) {
    let (mut from, mut to) = tcp.into_split();
    let up = async {
        while let Some(piece) = input.recv().await {
            if to.write_all(&piece).await.is_err() {
                // The other direction tells what happened to the connection.
                break;
            }
        }
        // No end of the client's bytes is known but that of the session.
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => return,
                Ok(count) => {
                    if !pair.send(pair.data, &buffer[..count]).await {
                        return;
                    }
                }
                Err(error) => {
                    return pair.complain(&format!("error copying from the pod: {error}")).await;
                }
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
