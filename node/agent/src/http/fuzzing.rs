//! What clients of the node's API may send.

use futures::StreamExt;
use http::{Method, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) use super::logs::fuzzing::{log, logs};
use super::route::route;
pub(crate) use super::spdy::fuzzing::{
    connection as spdy, header_blocks as spdy_headers, header_seeds as spdy_header_seeds, seeds as spdy_seeds,
};
use super::streaming::{MAX_MESSAGE, Protocol, socket};

const REQUEST: &str =
    "/containerLogs/ns/pod/c?follow=true&tailLines=5&sinceTime=2025-03-04T05%3A06%3A07Z&limitBytes=9";
const EXEC: &str = "/exec/ns/pod/uid/c?command=sh&command=-c&input=1&output=1&tty=true";

pub(crate) fn requests() -> Vec<Vec<u8>> {
    [REQUEST, EXEC, "/portForward/ns/pod?port=80,81&port=82"].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Path and query.
pub(crate) fn request(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    for method in [Method::GET, Method::POST] {
        let _ = route(&method, &uri);
    }
}

/// Frames, masked by nothing: input, a new size, input in base64, a ping in the middle of a message, the end.
pub(crate) fn websockets() -> Vec<Vec<u8>> {
    let frame = |first: u8, data: &[u8]| [&[first, 0x80 | data.len() as u8, 0, 0, 0, 0], data].concat();
    let size = frame(0x82, b"\x04{\"Width\":80,\"Height\":24}");
    let pieces = [frame(0x02, b"\0a"), frame(0x89, b"p"), frame(0x80, b"b")].concat();
    vec![
        [&[0], frame(0x82, b"\0hi").as_slice(), &size, &pieces, &frame(0x82, b"\xff\0")].concat(),
        [&[2], frame(0x81, b"0aGk=").as_slice(), &frame(0x88, b"\x03\xe8")].concat(),
    ]
}

/// All that a client says over a WebSocket; the first byte chooses the protocol.
pub(crate) fn websocket(data: &[u8]) {
    let [which, said @ ..] = data else { return };
    let name = Protocol::NAMES[usize::from(*which) % Protocol::NAMES.len()];
    let Some(protocol) = Protocol::named(name) else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (mut answers, mut says) = tokio::io::split(client);
        let serve = async {
            let mut socket = socket(server).await;
            while let Some(Ok(message)) = socket.next().await {
                assert!(message.len() <= MAX_MESSAGE, "a message of {} bytes", message.len());
                if protocol.read(message).is_err() {
                    return;
                }
            }
        };
        let say = async {
            let _ = says.write_all(said).await;
            let _ = says.shutdown().await;
        };
        let mut heard = Vec::new();
        let _ = tokio::join!(serve, say, answers.read_to_end(&mut heard));
        assert!(heard.len() <= said.len() + 256, "{} bytes answered to {}", heard.len(), said.len());
    });
}
