//! exec and attach over SPDY: a stream for each of the process's, one for how it ended, one for the terminal's size.
//!
//! As in Kubernetes' `remotecommand` package, version 4 of its protocol, which all clients of the last years speak.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::status::Outcome;
use crate::http::api::{ApiFailure, Attach, Reader, Streams, TerminalSize, Writer};
use crate::http::spdy::{Output, Stream};

/// The version of the protocol, as both sides name it.
pub(super) const PROTOCOL: &str = "v4.channel.k8s.io";
/// How long the client has to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// How long the client has to leave after the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long output may be silent after its process has ended, before it counts as ended too.
const QUIET: Duration = Duration::from_secs(1);
/// How much output is read and sent at a time.
const PIECE: usize = 32 << 10;

/// Connects, and carries bytes until the process ends or `streams` does, which is when the client has left.
pub(super) async fn carry(
    mut streams: mpsc::Receiver<Stream>,
    wanted: Attach,
    connect: impl Future<Output = Result<Streams, ApiFailure>>,
) {
    let opened = tokio::time::timeout(OPENING, collect(&mut streams, wanted)).await;
    let Ok(Some(mut opened)) = opened else {
        tracing::debug!("a client did not open the streams of its session");
        return;
    };
    let Some(error) = opened.remove("error") else { return };
    let outcome = match connect.await {
        Ok(process) => join(process, opened).await,
        Err(failure) => Outcome::Failed(failure),
    };
    let status = Bytes::from(outcome.status().to_string());
    if error.output.send(status).await.is_ok() && error.output.finish().await.is_ok() {
        // The client closes the connection; the streams end then.
        _ = tokio::time::timeout(FAREWELL, async { while streams.recv().await.is_some() {} }).await;
    }
}

/// The streams by their types, once all that are wanted are there; `None` if the client leaves.
async fn collect(streams: &mut mpsc::Receiver<Stream>, wanted: Attach) -> Option<HashMap<String, Stream>> {
    let flags = [
        (true, "error"),
        (wanted.stdin, "stdin"),
        (wanted.stdout, "stdout"),
        (wanted.stderr, "stderr"),
        (wanted.tty, "resize"),
    ];
    let count = flags.iter().filter(|(wanted, _)| *wanted).count();
    let mut found = HashMap::new();
    while found.len() < count {
        let stream = streams.recv().await?;
        let kind = stream.header("streamtype").to_owned();
        if flags.iter().any(|(wanted, name)| *wanted && *name == kind) {
            found.insert(kind, stream);
        }
    }
    Some(found)
}

/// Joins the process's streams and the client's, until the process has ended and all of its output is on its way.
async fn join(process: Streams, mut opened: HashMap<String, Stream>) -> Outcome {
    let Streams { stdin, stdout, stderr, resize, exit } = process;
    let (ended, has_ended) = watch::channel(false);
    let mut output = |name: &str| opened.remove(name).map(|stream| stream.output);
    let out = pump(stdout, output("stdout"), has_ended.clone());
    let err = pump(stderr, output("stderr"), has_ended);
    let input = feed(stdin, opened.remove("stdin"));
    let sizes = resizes(resize, opened.remove("resize"));
    let process = async {
        let wait = async {
            let status = exit.await;
            ended.send_replace(true);
            status
        };
        tokio::join!(wait, out, err).0
    };
    let forever = async {
        tokio::join!(input, sizes);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = process => match status {
            Ok(status) => Outcome::Exited(status),
            Err(reason) => Outcome::Failed(ApiFailure::Internal(reason)),
        },
        () = forever => Outcome::Failed(ApiFailure::Internal("the session ended".to_owned())),
    }
}

/// Sends output until its end. After the process has ended, output that somebody else holds open is read until it
/// falls silent.
async fn pump(reader: Option<Reader>, output: Option<Output>, mut ended: watch::Receiver<bool>) {
    let Some(output) = output else { return };
    if let Some(mut reader) = reader {
        let mut buffer = vec![0; PIECE];
        loop {
            let silence = async {
                // An error means that the session is over.
                _ = ended.wait_for(|ended| *ended).await;
                tokio::time::sleep(QUIET).await;
            };
            let read = tokio::select! {
                biased;
                read = reader.read(&mut buffer) => read,
                () = silence => break,
            };
            match read {
                Ok(count) if count > 0 => {
                    if output.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                        return;
                    }
                }
                _ => break,
            }
        }
    }
    // The connection being gone is noticed by the session.
    _ = output.finish().await;
}

/// Hands on what is typed, and its end. A process that does not read any more loses the rest, as in a pipe.
async fn feed(stdin: Option<Writer>, stream: Option<Stream>) {
    let (Some(mut stdin), Some(mut stream)) = (stdin, stream) else { return };
    while let Some(data) = stream.input.recv().await {
        if stdin.write_all(&data).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
    _ = stdin.shutdown().await;
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Hands on the terminal's sizes: JSON objects, one after the other.
async fn resizes(sizes: Option<mpsc::Sender<TerminalSize>>, stream: Option<Stream>) {
    let (Some(sizes), Some(mut stream)) = (sizes, stream) else { return };
    while let Some(data) = stream.input.recv().await {
        for size in serde_json::Deserializer::from_slice(&data).into_iter::<Size>() {
            let Ok(Size { width, height }) = size else { break };
            if sizes.send(TerminalSize { width, height }).await.is_err() {
                return;
            }
        }
    }
}
