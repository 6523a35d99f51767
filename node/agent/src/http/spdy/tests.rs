//! Whole sessions, with a client that writes frames by hand.

use bytes::BufMut;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::headers::samples;
use super::*;
use crate::http::room::MAX_WAITING;

/// A client that writes frames by hand.
struct Client {
    io: DuplexStream,
}

impl Client {
    async fn open(&mut self, id: u32, block: &[u8]) {
        let mut out = BytesMut::new();
        out.put_slice(&[0x80, 3, 0, 1, 0]);
        out.put_slice(&(10 + block.len() as u32).to_be_bytes()[1..]);
        out.put_u32(id);
        out.put_slice(&[0; 6]);
        out.put_slice(block);
        self.io.write_all(&out).await.unwrap();
    }

    async fn say(&mut self, id: u32, data: &[u8], last: bool) {
        let mut out = BytesMut::new();
        frame::data(&mut out, id, data, last);
        self.io.write_all(&out).await.unwrap();
    }

    /// The next frame: its first eight bytes and its body.
    async fn next(&mut self) -> Option<([u8; 8], Vec<u8>)> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await.ok()?;
        let mut body = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
        self.io.read_exact(&mut body).await.unwrap();
        Some((head, body))
    }

    async fn expect_data(&mut self, id: u32, data: &[u8], last: bool) {
        let (head, body) = self.next().await.unwrap();
        assert_eq!((&head[..4], head[4], body.as_slice()), (&id.to_be_bytes()[..], u8::from(last), data));
    }
}

/// Takes up one stream and sends back what it says, in upper case.
async fn shout(mut streams: mpsc::Receiver<Stream>) {
    let Some(mut stream) = streams.recv().await else { return };
    assert_eq!((stream.header("streamtype"), stream.header("port")), ("error", "80"));
    while let Some(data) = stream.input.recv().await {
        stream.output.send(data.to_ascii_uppercase().into()).await.unwrap();
    }
    stream.output.finish().await.unwrap();
}

#[tokio::test]
async fn a_stream_from_its_opening_to_its_end() {
    let (io, server) = duplex(1 << 16);
    let server = tokio::spawn(run(server, shout));
    let mut client = Client { io };
    client.open(1, &samples::FIRST).await;
    let (head, body) = client.next().await.unwrap();
    assert_eq!((&head[..4], &body[..4]), (&[0x80, 3, 0, 2][..], &[0, 0, 0, 1][..]), "a reply");
    client.say(1, b"hello", false).await;
    client.expect_data(1, b"HELLO", false).await;
    let mut ping = BytesMut::new();
    frame::pong(&mut ping, 5);
    client.io.write_all(&ping).await.unwrap();
    assert_eq!(client.next().await.unwrap().1, [0, 0, 0, 5], "a ping comes back");
    client.say(1, b"bye", true).await;
    client.expect_data(1, b"BYE", false).await;
    client.expect_data(1, b"", true).await;
    assert_eq!(client.next().await.unwrap().0[..4], [0x80, 3, 0, 7], "the server goes away");
    assert!(client.next().await.is_none());
    assert_eq!(server.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_client_that_leaves_or_errs_ends_the_session() {
    for garbage in [&b""[..], b"\x80\x02\0\x01\0\0\0\0"] {
        let (mut io, server) = duplex(1 << 16);
        let session = run(server, |mut streams| async move {
            assert!(streams.recv().await.is_none(), "there was no stream");
            std::future::pending::<()>().await;
        });
        let session = tokio::spawn(session);
        io.write_all(garbage).await.unwrap();
        drop(io);
        assert_eq!(session.await.unwrap().is_ok(), garbage.is_empty());
    }
}

#[tokio::test]
async fn streams_are_bounded() {
    let (io, server) = duplex(1 << 20);
    let session = tokio::spawn(run(server, |mut streams| async move {
        let mut kept = Vec::new();
        while let Some(stream) = streams.recv().await {
            kept.push(stream);
        }
    }));
    let mut client = Client { io };
    client.open(1, &samples::FIRST).await;
    // An empty stored block after the first: no names.
    let empty = headers::HeaderWriter::default().empty();
    for at in 1..=MAX_STREAMS as u32 {
        client.open(2 * at + 1, &empty[2..]).await;
    }
    for _ in 0..MAX_STREAMS {
        assert_eq!(client.next().await.unwrap().0[3], 2, "a reply");
    }
    assert_eq!(client.next().await.unwrap().0[3], 3, "a refusal");
    drop(client);
    assert_eq!(session.await.unwrap(), Ok(()));
}

/// Sends the largest frames on `streams` streams, one on each, as long as they are taken; the number of those that were.
async fn fill(client: &mut Client, streams: u32) -> u32 {
    let frame = vec![0; frame::MAX_FRAME];
    for sent in 0..streams {
        // Time stands still while anybody has anything to do.
        if timeout(Duration::from_secs(60), client.say(2 * sent + 1, &frame, false)).await.is_err() {
            return sent;
        }
    }
    streams
}

#[tokio::test(start_paused = true)]
async fn what_waits_on_all_streams_together_is_bounded() {
    const STREAMS: u32 = 32;
    let (io, server) = duplex(1 << 16);
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let session = tokio::spawn(run(server, |mut streams| async move {
        let mut kept = Vec::new();
        while kept.len() < STREAMS as usize
            && let Some(stream) = streams.recv().await
        {
            kept.push(stream);
        }
        left.await.unwrap();
        drop(kept);
        while streams.recv().await.is_some() {}
    }));
    let mut client = Client { io };
    client.open(1, &samples::FIRST).await;
    let empty = headers::HeaderWriter::default().empty();
    for at in 1..STREAMS {
        client.open(2 * at + 1, &empty[2..]).await;
    }
    let most = MAX_WAITING / frame::MAX_FRAME as u32;
    let taken = fill(&mut client, STREAMS).await;
    assert!((1..=most + 1).contains(&taken), "{taken} frames were taken that nobody read");
    // The rest of the frame that was not taken; with the streams goes what waited on them.
    leave.send(()).unwrap();
    drop(client);
    session.await.unwrap().unwrap_err();
}
