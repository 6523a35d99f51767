//! Clients that ask and do not read: answers are made piece by piece as they are taken, so that such a client costs no
//! memory; but it keeps its connection and a stream for as long as it likes. A connection with an answer of which nothing
//! was taken for too long is ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::Response;
use http_body::Body;
use parking_lot::Mutex;

use crate::ResponseBody;
use crate::body::watched;

/// Answers up to this size, in bytes, fit into buffers.
const SMALL: u64 = 64 * 1024;

/// The answers of one connection that are being sent.
pub(crate) struct Stalls {
    began: Instant,
    /// How long nothing may be taken.
    patience: Duration,
    answers: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Stalls {
    pub(crate) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Stalls { began: Instant::now(), patience, answers: Mutex::default() })
    }

    /// Milliseconds since the connection began; never 0, which stands for an answer that waits for nobody.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The same answer, looked after if it is sent in pieces.
    pub(crate) fn look_after(self: &Arc<Self>, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if response.body().size_hint().upper().is_some_and(|length| length <= SMALL) {
            return response;
        }
        let handed = Arc::new(AtomicU64::new(0));
        self.answers.lock().push(Arc::downgrade(&handed));
        let stalls = self.clone();
        // Whoever asks for more has taken what there was.
        watched(response, move |is_piece| {
            handed.store(if is_piece { stalls.now() } else { 0 }, Ordering::Relaxed);
        })
    }

    /// Returns when an answer has stalled.
    pub(crate) async fn stalled(&self) {
        loop {
            tokio::time::sleep(self.patience / 4).await;
            let now = self.now();
            let mut answers = self.answers.lock();
            answers.retain(|answer| answer.strong_count() > 0);
            let patience = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
            let is_stalled = |handed: u64| handed > 0 && now.saturating_sub(handed) > patience;
            if answers.iter().filter_map(Weak::upgrade).any(|a| is_stalled(a.load(Ordering::Relaxed))) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};

    fn answer(pieces: usize) -> Response<ResponseBody> {
        let frames = (0..pieces).map(|_| Ok(Frame::data(Bytes::from_static(b"piece"))));
        let then = futures::StreamExt::chain(futures::stream::iter(frames), futures::stream::pending());
        Response::new(StreamBody::new(then).boxed_unsync())
    }

    #[tokio::test]
    async fn an_answer_that_has_nothing_to_say_is_not_stalled() {
        let stalls = Stalls::new(Duration::from_millis(40));
        let mut body = stalls.look_after(answer(2)).into_body();
        let reading = tokio::spawn(async move { while body.frame().await.is_some() {} });
        let ended = tokio::time::timeout(Duration::from_millis(400), stalls.stalled()).await;
        assert!(ended.is_err(), "it waits for something to say");
        reading.abort();
    }

    #[tokio::test]
    async fn an_answer_of_which_nothing_is_taken_is() {
        let stalls = Stalls::new(Duration::from_millis(40));
        let mut body = stalls.look_after(answer(9)).into_body();
        body.frame().await.unwrap().unwrap();
        tokio::time::timeout(Duration::from_secs(5), stalls.stalled()).await.expect("stalled");
        drop(body);
        let ended = tokio::time::timeout(Duration::from_millis(200), stalls.stalled()).await;
        assert!(ended.is_err(), "an answer that is gone is forgotten");
        assert!(stalls.answers.lock().is_empty());
    }
}
