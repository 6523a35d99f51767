//! One client joined to one process, until either is gone.

use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::channel::{ERROR, Protocol, STDERR, STDOUT, Said};
use super::status::Outcome;
use crate::http::api::{ApiFailure, Attach, Reader, Streams, TerminalSize, Writer};

/// How much output is read and sent at a time.
pub(super) const PIECE: usize = 32 << 10;
/// Messages that may wait for the connection.
pub(super) const QUEUE: usize = 8;
/// How long output may be silent after its process has ended, before it counts as ended too.
const QUIET: Duration = Duration::from_secs(1);
/// How long a client may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(5);

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A client that has been upgraded.
pub(super) struct Session {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    protocol: Protocol,
    wanted: Attach,
}

impl Session {
    pub(super) fn new(socket: Socket, protocol: Protocol, wanted: Attach) -> Session {
        let (sink, stream) = socket.split();
        Session { sink, stream, protocol, wanted }
    }

    /// Connects, and carries bytes until the process ends, the client leaves, or the node shuts down.
    pub(super) async fn run(
        mut self,
        connect: impl Future<Output = Result<Streams, ApiFailure>>,
        shutdown: &CancellationToken,
    ) {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return self.say_goodbye(CloseCode::Away).await,
            outcome = self.carry(connect) => outcome,
        };
        let Some(outcome) = outcome else {
            // Answers the client's good-bye, if it said one; if it is just gone, there is nobody to tell.
            _ = tokio::time::timeout(FAREWELL, self.sink.close()).await;
            return;
        };
        let last = match self.protocol.has_status {
            true => Some(outcome.status().to_string()),
            false => outcome.text(),
        };
        if let Some(last) = last
            && self.sink.send(self.protocol.message(ERROR, last.as_bytes())).await.is_err()
        {
            return;
        }
        self.say_goodbye(CloseCode::Normal).await;
    }

    /// Gives how the process ended; `None` if the client left first.
    async fn carry(&mut self, connect: impl Future<Output = Result<Streams, ApiFailure>>) -> Option<Outcome> {
        let Streams { stdin, stdout, stderr, resize, exit } = match connect.await {
            Ok(streams) => streams,
            Err(failure) => return Some(Outcome::Failed(failure)),
        };
        let (queue, messages) = mpsc::channel(QUEUE);
        // Tells the client that it is connected, before there is any output.
        let first = match self.wanted {
            Attach { stdout: true, .. } => STDOUT,
            Attach { stderr: true, .. } => STDERR,
            _ => ERROR,
        };
        queue.try_send(self.protocol.message(first, b"")).ok();
        let (ended, has_ended) = watch::channel(false);
        let out = pump(stdout, STDOUT, self.protocol, queue.clone(), has_ended.clone());
        let err = pump(stderr, STDERR, self.protocol, queue, has_ended);
        let process = async {
            let wait = async {
                let status = exit.await;
                ended.send_replace(true);
                status
            };
            // The output ends with the process, so all of it is on its way when this is done.
            let (status, (), ()) = tokio::join!(wait, out, err);
            status
        };
        let write = write(&mut self.sink, messages);
        let read = read(&mut self.stream, self.protocol, stdin, resize);
        tokio::pin!(process, write, read);
        let status = tokio::select! {
            status = async {
                // Nothing is left to be written when the pumps have let go of the queue.
                let (status, written) = tokio::join!(&mut process, &mut write);
                written.map(|()| status)
            } => status.ok()?,
            () = &mut read => return None,
        };
        Some(match status {
            Ok(status) => Outcome::Exited(status),
            Err(reason) => Outcome::Failed(ApiFailure::Internal(reason)),
        })
    }

    async fn say_goodbye(self, code: CloseCode) {
        say_goodbye(self.sink, self.stream, code).await;
    }
}

/// Closes, and waits for the client to do the same, so that nothing that was sent is lost on the way. Our side of the
/// connection ends at once, as upstream's does: clients that wait for more bytes before they look at those that they have
/// (the Python client does) would wait as long as we.
pub(super) async fn say_goodbye(
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    code: CloseCode,
) {
    let Ok(mut socket) = sink.reunite(stream) else { return };
    let frame = CloseFrame { code, reason: "".into() };
    let farewell = async {
        socket.send(Message::Close(Some(frame))).await?;
        socket.get_mut().shutdown().await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    match tokio::time::timeout(FAREWELL, farewell).await {
        Ok(Ok(()) | Err(_)) => {}
        Err(_) => tracing::debug!("a client did not close its WebSocket"),
    }
}

/// Reads output and queues it, until its end. After the process has ended, output that somebody else holds open is
/// read until it falls silent: a daemon that an exec left behind must not keep it from ending.
async fn pump(
    reader: Option<Reader>,
    channel: u8,
    protocol: Protocol,
    queue: mpsc::Sender<Message>,
    mut ended: watch::Receiver<bool>,
) {
    let Some(mut reader) = reader else { return };
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
            () = silence => return,
        };
        match read {
            Ok(0) => return,
            Ok(count) => {
                if queue.send(protocol.message(channel, &buffer[..count])).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, channel, "a process's output could not be read");
                return;
            }
        }
    }
}

/// Sends what is queued; flushes whenever the queue is empty.
pub(super) async fn write(
    sink: &mut SplitSink<Socket, Message>,
    mut messages: mpsc::Receiver<Message>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    while let Some(message) = messages.recv().await {
        sink.feed(message).await?;
        while let Ok(message) = messages.try_recv() {
            sink.feed(message).await?;
        }
        sink.flush().await?;
    }
    Ok(())
}

/// Hands on what the client says, until it leaves. Pings are answered by the library while this reads.
async fn read(
    stream: &mut SplitStream<Socket>,
    protocol: Protocol,
    mut stdin: Option<Writer>,
    resize: Option<mpsc::Sender<TerminalSize>>,
) {
    while let Some(message) = stream.next().await {
        let said = match message {
            Ok(Message::Close(_)) | Err(_) => return,
            Ok(message) => protocol.read(message),
        };
        match said {
            Ok(Said::Input(data)) => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(&data).await.is_err() || writer.flush().await.is_err())
                {
                    // The process does not read any more; what else is typed is lost, as in a pipe.
                    stdin = None;
                }
            }
            Ok(Said::CloseInput) => close(stdin.take()).await,
            Ok(Said::Resize(width, height)) => {
                if let Some(resize) = &resize {
                    // Gone when the process is.
                    _ = resize.send(TerminalSize { width, height }).await;
                }
            }
            Ok(Said::Nothing) => {}
            Err(reason) => {
                tracing::debug!(reason, "a client broke the protocol");
                return;
            }
        }
    }
}

async fn close(writer: Option<Writer>) {
    if let Some(mut writer) = writer
        && let Err(error) = writer.shutdown().await
    {
        tracing::debug!(%error, "a process's input could not be closed");
    }
}
