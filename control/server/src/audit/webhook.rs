//! The webhook of the audit: events are handed over behind the requests' backs, as an `EventList` for each batch, with
//! the limits of upstream's batch mode. What does not fit into the buffer is dropped and counted, and so is what the
//! other side does not take. In the blocking modes requests wait until it took their events, each by itself; only what
//! nobody can wait for (a client that went away, the end of a watch) still goes behind their backs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::Mode;
use crate::outbound::{CallError, CallFailure, Remote};

/// Batches that are on their way at once; further ones wait in the buffer.
const AT_ONCE: usize = 8;
/// Events that are handed over at once while their requests wait; further requests wait for a place.
const DIRECT_AT_ONCE: usize = 256;
/// Most bytes of events that wait: those of requests and answers in full are large.
const MOST_BYTES: usize = 64 << 20;
/// A batch that has so many bytes does not wait for more; upstream's figure.
const LARGE: usize = 10 << 20;
/// How often a batch is sent at most, and how much longer each wait is than the one before; upstream's figures.
const ATTEMPTS: u32 = 5;
const GROWTH: f64 = 1.5;

/// Where events go and how many at once; the names, meaning and defaults of upstream's options.
#[derive(Clone)]
pub struct WebhookOptions {
    /// Who takes them.
    pub remote: Remote,
    /// Whether requests wait.
    pub mode: Mode,
    /// Events that wait at most.
    pub buffer_size: usize,
    /// Events of a batch at most.
    pub max_size: usize,
    /// How long an event waits for others.
    pub max_wait: Duration,
    /// Batches in a second, and how many at once after a while without any; `None`: as they come.
    pub throttle: Option<(f64, usize)>,
    /// How long to wait before a batch is sent for the second time.
    pub initial_backoff: Duration,
}

impl WebhookOptions {
    /// Upstream's defaults.
    pub fn new(remote: Remote) -> Self {
        WebhookOptions {
            remote,
            mode: Mode::Batch,
            buffer_size: 10_000,
            max_size: 400,
            max_wait: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
            initial_backoff: Duration::from_secs(10),
        }
    }
}

/// Events that were lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Since the buffer was full.
    pub(super) buffered: AtomicU64,
    /// Since the other side did not take them.
    pub(super) refused: AtomicU64,
}

/// The way to the webhook.
pub(super) struct Webhook {
    events: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    pub(super) lost: Arc<Lost>,
    /// For requests that wait; `None` where none does.
    direct: Option<Direct>,
}

/// What requests that wait hand their events over with.
struct Direct {
    options: WebhookOptions,
    places: Arc<Semaphore>,
}

impl Webhook {
    /// Begins to hand events over, until this value and what it took in are gone. Needs a runtime.
    pub(super) fn start(mut options: WebhookOptions) -> Self {
        let direct = options
            .mode
            .waits()
            .then(|| Direct { options: options.clone(), places: Arc::new(Semaphore::new(DIRECT_AT_ONCE)) });
        if direct.is_some() {
            // As few as there are by then, at once.
            (options.max_wait, options.throttle) = (Duration::ZERO, None);
        }
        let (sender, events) = mpsc::channel(options.buffer_size.max(1));
        let (waiting, lost): (Arc<AtomicUsize>, Arc<Lost>) = Default::default();
        let throttle = options.throttle.map(|(rate, burst)| Throttle::new(rate, burst, Instant::now()));
        let work = Work { options, events, waiting: waiting.clone(), lost: lost.clone() };
        tokio::spawn(work.run(throttle));
        Webhook { events: sender, waiting, lost, direct }
    }

    /// Takes the event of a request in, and waits until it was handed over where the mode wants that. Says whether the
    /// request may go on.
    pub(super) async fn hand_over(&self, event: Bytes) -> bool {
        let Some(direct) = &self.direct else {
            self.put(event);
            return true;
        };
        // It is never closed.
        let Ok(place) = direct.places.clone().acquire_owned().await else { return false };
        let (options, lost) = (direct.options.clone(), self.lost.clone());
        let is_strict = options.mode.is_strict();
        // In a task of its own: a client that goes away ends the wait alone.
        let delivery = tokio::spawn(async move {
            let _place = place;
            deliver(&options, &[event], &lost).await
        });
        delivery.await.unwrap_or(false) || !is_strict
    }

    /// Takes an event in.
    pub(super) fn put(&self, event: Bytes) {
        let length = event.len();
        let fits = self.waiting.fetch_add(length, Ordering::Relaxed) + length <= MOST_BYTES;
        if fits && self.events.try_send(event).is_ok() {
            return;
        }
        self.waiting.fetch_sub(length, Ordering::Relaxed);
        // Once for each power of two: it must not fill the other log.
        if self.lost.buffered.fetch_add(1, Ordering::Relaxed).wrapping_add(1).is_power_of_two() {
            tracing::error!("the buffer of the audit webhook is full: audit events are lost");
        }
    }
}

struct Work {
    options: WebhookOptions,
    events: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<Lost>,
}

impl Work {
    async fn run(mut self, mut throttle: Option<Throttle>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let batch = self.batch().await;
            if batch.is_empty() {
                return;
            }
            if let Some(throttle) = &mut throttle {
                sleep(throttle.take(Instant::now())).await;
            }
            // It is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            self.waiting.fetch_sub(batch.iter().map(Bytes::len).sum(), Ordering::Relaxed);
            let (options, lost) = (self.options.clone(), self.lost.clone());
            tokio::spawn(async move {
                let _place = place;
                deliver(&options, &batch, &lost).await;
            });
        }
    }

    /// The next batch; empty when there will be none.
    async fn batch(&mut self) -> Vec<Bytes> {
        let Some(first) = self.events.recv().await else { return Vec::new() };
        let until = Instant::now() + self.options.max_wait;
        let mut length = first.len();
        let mut batch = vec![first];
        while batch.len() < self.options.max_size && length < LARGE {
            let Ok(Some(event)) = timeout_at(until, self.events.recv()).await else { break };
            length += event.len();
            batch.push(event);
        }
        batch
    }
}

/// Sends a batch, several times if that may help; says whether it was taken. What was not is counted.
async fn deliver(options: &WebhookOptions, batch: &[Bytes], lost: &Lost) -> bool {
    let body = list(batch);
    let mut wait = options.initial_backoff;
    for attempt in 1..=ATTEMPTS {
        let error = match options.remote.tell(body.clone()).await {
            Ok(()) => return true,
            Err(error) => error,
        };
        if attempt == ATTEMPTS || !may_pass(&error) {
            lost.refused.fetch_add(batch.len() as u64, Ordering::Relaxed);
            tracing::error!(%error, events = batch.len(), "the audit webhook did not take events: they are lost");
            return false;
        }
        tracing::debug!(%error, "the audit webhook did not take events; trying again");
        // Some apart from each other, so that servers do not all come back at once.
        sleep(wait.mul_f64(1.0 + 0.2 * rand::random::<f64>())).await;
        wait = wait.mul_f64(GROWTH);
    }
    false
}

fn may_pass(error: &CallError) -> bool {
    error.is_passing() || matches!(error.why, CallFailure::Late)
}

/// The `EventList` of events, each of which is a line of JSON.
fn list(batch: &[Bytes]) -> Vec<u8> {
    let mut out = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (at, event) in batch.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event.trim_ascii_end());
    }
    out.extend_from_slice(b"]}");
    out
}

/// Lets so many pass in a second (a token bucket).
struct Throttle {
    rate: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Throttle {
    fn new(rate: f64, burst: usize, now: Instant) -> Self {
        // More than a few thousand are no limit.
        let burst = f64::from(u32::try_from(burst).unwrap_or(u32::MAX)).max(1.0);
        Throttle { rate: rate.max(0.001), burst, left: burst, at: now }
    }

    /// Takes one; how long it has to wait.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.rate).min(self.burst) - 1.0;
        self.at = now;
        if self.left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.left / self.rate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_pass_at_their_rate_after_the_burst() {
        let begin = Instant::now();
        let mut throttle = Throttle::new(10.0, 2, begin);
        assert_eq!([throttle.take(begin), throttle.take(begin)], [Duration::ZERO; 2]);
        assert_eq!(throttle.take(begin), Duration::from_millis(100));
        let mut later = begin + Duration::from_millis(100);
        assert_eq!(throttle.take(later), Duration::from_millis(100), "the wait before was its own");
        later += Duration::from_secs(60);
        assert_eq!([throttle.take(later), throttle.take(later)], [Duration::ZERO; 2]);
        assert!(throttle.take(later) > Duration::ZERO, "no more than the burst is saved up");
    }

    #[test]
    fn a_batch_is_a_list() {
        let text = list(&[Bytes::from_static(b"{\"a\":1}\n"), Bytes::from_static(b"{}\n")]);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            (&value["kind"], &value["items"]),
            (&"EventList".into(), &serde_json::json!([{"a": 1}, {}]))
        );
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let (events, mut receiver) = mpsc::channel(2);
        let webhook = Webhook { events, waiting: Arc::default(), lost: Arc::default(), direct: None };
        for _ in 0..5 {
            webhook.put(Bytes::from_static(b"{}\n"));
        }
        assert_eq!(webhook.lost.buffered.load(Ordering::Relaxed), 3);
        assert_eq!(webhook.waiting.load(Ordering::Relaxed), 6, "what was dropped does not wait");
        receiver.try_recv().unwrap();
        webhook.put(vec![b' '; MOST_BYTES].into());
        assert_eq!(webhook.lost.buffered.load(Ordering::Relaxed), 4, "one that is too large is dropped, too");
    }
}
