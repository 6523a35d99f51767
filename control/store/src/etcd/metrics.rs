//! What is counted about calls, in the form of go-grpc-prometheus, which etcd uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use tonic::{Code, Status};

use super::Face;
use super::calls::CALLS;
use crate::metrics::{Histogram, Latency};

/// gRPC's codes are 0 to 16.
pub(crate) const CODES: usize = 17;

/// Counters of one call.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) started: AtomicU64,
    pub(crate) handled: [AtomicU64; CODES],
    pub(crate) sent: AtomicU64,
    took: Histogram,
}

impl Counted {
    /// Those that did not end yet.
    pub(crate) fn under_way(&self) -> u64 {
        let handled: u64 = self.handled.iter().map(|handled| handled.load(Relaxed)).sum();
        self.started.load(Relaxed).saturating_sub(handled)
    }

    pub(crate) fn took(&self) -> Latency {
        self.took.snapshot()
    }
}

/// Counters of all calls, and of connections.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) calls: Vec<Counted>,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) connections: AtomicI64,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            calls: CALLS.iter().map(|_| Counted::default()).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            connections: AtomicI64::new(0),
        }
    }

    pub(crate) fn started(&self, call: usize) {
        self.calls[call].started.fetch_add(1, Relaxed);
    }

    pub(crate) fn handled(&self, call: usize, error: Option<Code>, took: Duration) {
        let code = error.unwrap_or(Code::Ok) as usize;
        let counted = &self.calls[call];
        if let Some(handled) = counted.handled.get(code) {
            handled.fetch_add(1, Relaxed);
        }
        counted.took.record(took);
    }
}

/// Counts what goes through a stream, and its end; or that there is none.
pub(crate) fn counted<A: Send + 'static>(
    face: Arc<Face>,
    call: usize,
    answer: Result<impl Stream<Item = Result<A, Status>> + Send + 'static, Status>,
) -> Result<impl Stream<Item = Result<A, Status>> + Send + 'static, Status> {
    let mut end = End { face, call, began: Instant::now(), code: Code::Cancelled };
    let stream = answer.inspect_err(|status| end.is(status.code()))?;
    Ok(futures::stream::unfold((Box::pin(stream), end), |(mut stream, mut end)| async {
        let Some(item) = stream.next().await else {
            end.is(Code::Ok);
            return None;
        };
        match &item {
            Ok(_) => drop(end.face.counters.calls[end.call].sent.fetch_add(1, Relaxed)),
            Err(status) => end.is(status.code()),
        }
        Some((item, (stream, end)))
    }))
}

/// Counts the end of a stream, however it comes.
struct End {
    face: Arc<Face>,
    call: usize,
    began: Instant,
    code: Code,
}

impl End {
    fn is(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let code = Some(self.code).filter(|code| *code != Code::Ok);
        self.face.counters.handled(self.call, code, self.began.elapsed());
    }
}
