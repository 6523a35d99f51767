//! A whole connection of a client that says anything, and header blocks.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::headers::HeaderReader;
use super::{frame, run};

/// A header block that names three headers.
const BLOCK: [u8; 50] = [
    120, 249, 227, 198, 167, 194, 2, 37, 58, 112, 58, 43, 41, 74, 77, 204, 133, 22, 37, 172, 169, 160, 128,
    134, 20, 203, 69, 160, 36, 204, 100, 97, 0, 36, 57, 139, 32, 145, 152, 9, 74, 220, 140, 6, 0, 0, 0, 0,
    255, 255,
];

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    vec![[&[u8::try_from(BLOCK.len()).unwrap_or_default()], BLOCK.as_slice()].concat()]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut out = BytesMut::new();
    out.put_slice(&[0x80, 3, 0, 1, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    out.put_slice(&BLOCK);
    frame::data(&mut out, 1, b"data", true);
    frame::pong(&mut out, 9);
    frame::reset(&mut out, 1, 3);
    frame::go_away(&mut out, 1);
    vec![out.to_vec()]
}

/// Blocks, each behind its length, are read one after the other.
pub(crate) fn header_blocks(mut data: &[u8]) {
    let mut reader = HeaderReader::new();
    while let [length, rest @ ..] = data {
        let (block, behind) = rest.split_at(rest.len().min(usize::from(*length)));
        if reader.read(block).is_err() {
            return;
        }
        data = behind;
    }
}

/// The client says `data` and goes; whoever serves takes what comes and answers with the same.
pub(crate) fn connection(data: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (mut answers, mut says) = tokio::io::split(client);
        let serve = run(server, async |mut streams| {
            while let Some(mut stream) = streams.recv().await {
                let _ = stream.header("streamtype").len();
                tokio::spawn(async move {
                    while let Some(piece) = stream.input.recv().await {
                        if stream.output.send(Bytes::copy_from_slice(&piece)).await.is_err() {
                            return;
                        }
                    }
                    let _ = stream.output.finish().await;
                });
            }
        });
        let say = async {
            let _ = says.write_all(data).await;
            let _ = says.shutdown().await;
        };
        let mut heard = Vec::new();
        let (_, _, _) = tokio::join!(serve, say, answers.read_to_end(&mut heard));
        assert!(heard.len() <= data.len() * 40 + 4096, "{} bytes answered to {}", heard.len(), data.len());
    });
}
