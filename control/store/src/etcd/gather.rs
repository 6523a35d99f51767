//! A connection that gathers what many calls write into one system call.
//!
//! HTTP/2's connection is woken by each of its streams, and would write the answer of one before the next had its turn:
//! with a thousand watchers, a system call for each event. Here a flush first lets all that are ready have their turn.
//! That costs an idle connection one pass through the scheduler, which is less than a microsecond.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered; what comes in larger pieces is written as it is.
const GATHER_BYTES: usize = 64 << 10;

/// A connection.
pub(super) struct Gathering<S> {
    stream: S,
    gathered: BytesMut,
    /// Whether the others had their turn since the last flush.
    waited: bool,
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    pub(super) fn new(stream: S) -> Gathering<S> {
        Gathering { stream, gathered: BytesMut::new(), waited: false }
    }

    /// Hands all that was gathered to the system.
    fn poll_hand_over(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        self.waited = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_mut().poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.gathered.len() + bytes > GATHER_BYTES {
            ready!(self.poll_hand_over(context))?;
        }
        if bytes > GATHER_BYTES {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        slices.iter().for_each(|slice| self.gathered.extend_from_slice(slice));
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() && !self.waited {
            self.waited = true;
            // Goes to the end of the queue: a task that wakes itself does not run before those that wait.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_hand_over(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Counts writes.
    struct Counted(tokio::io::DuplexStream, Arc<AtomicUsize>);

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn small_writes_go_out_together_large_ones_as_they_are_and_all_in_order() {
        let writes = Arc::new(AtomicUsize::new(0));
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut gathering = Gathering::new(Counted(near, writes.clone()));
        let mut sent = Vec::new();
        for n in 0..100_u8 {
            gathering.write_all(&[n; 10]).await.unwrap();
            sent.extend([n; 10]);
        }
        assert_eq!(writes.load(Ordering::Relaxed), 0, "nothing goes out before the flush");
        gathering.flush().await.unwrap();
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        gathering.write_all(b"before").await.unwrap();
        gathering.write_all(&[7; 2 * GATHER_BYTES]).await.unwrap();
        sent.extend(b"before");
        sent.extend([7; 2 * GATHER_BYTES]);
        assert_eq!(writes.load(Ordering::Relaxed), 3, "what was gathered, then the large piece");
        gathering.write_all(b"last").await.unwrap();
        sent.extend(b"last");
        gathering.shutdown().await.unwrap();
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, sent);
    }
}
