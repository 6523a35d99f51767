//! Audit: who did what, told as `Event` objects of audit.k8s.io/v1 in a log, to a webhook, or both, as a policy says.
//! Without a policy a request costs nothing more than the look for one.
//!
//! Whatever works on a request may add to what is told of it: [`annotate`], from anywhere on the request's task.

mod event;
mod log;
mod mode;
mod policy;
mod webhook;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

pub(crate) use event::Trail;
use log::Log;
pub use log::LogOptions;
pub use mode::Mode;
use policy::{Level, Policy, Stage};
use webhook::Webhook;
pub use webhook::WebhookOptions;

use crate::authn::notes::Notes;
use crate::body::holding;
use crate::router::RequestInfo;
use crate::{ApiError, ResponseBody, UserInfo};

/// The header that names a request in the log, and in what clients report of it.
pub(crate) const ID: &str = "audit-id";
/// Longest name of a request that a client may choose; upstream's figure.
const LONGEST_ID: usize = 64;
/// Events that wait to be written; further ones are dropped and counted. Upstream's figure.
const BUFFER: usize = 10_000;
/// Most events that are written at once; upstream's figure.
const BATCH: usize = 400;

/// What is told of a request that nobody waits for any more: the code that proxies use for it.
const CLIENT_GONE: u16 = 499;

tokio::task_local! {
    static CURRENT: Arc<Trail>;
    /// Where the reason of a question goes that is not about the present request.
    static ASKED: Arc<Mutex<String>>;
}

/// Adds an annotation to what is told of the present request; nothing happens when nothing is. The first value of a
/// key stays. Keys are in upstream's form, such as `pod-security.kubernetes.io/enforce-policy`.
pub fn annotate(key: &str, value: &str) {
    let _ = CURRENT.try_with(|trail| trail.annotate(key, value));
}

/// Says why an authorizer decides as it does. `reason` is asked for only when it is told.
pub fn explain(reason: impl FnOnce() -> String) {
    match ASKED.try_with(Arc::clone) {
        Ok(asked) => *asked.lock() = reason(),
        Err(_) => {
            let _ = CURRENT.try_with(|trail| trail.set_reason(reason()));
        }
    }
}

/// Asks authorizers about something else than the present request, and gives what they [`explain`] beside the answer.
pub(crate) async fn explained<T>(question: impl Future<Output = T>) -> (T, String) {
    let reason = Arc::new(Mutex::new(String::new()));
    let answer = ASKED.scope(Arc::clone(&reason), question).await;
    let reason = std::mem::take(&mut *reason.lock());
    (answer, reason)
}

/// Why the audit cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy's file.
    #[error("the audit policy {path} cannot be used: {why}")]
    Policy {
        /// Its path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The log.
    #[error("the audit log {path} cannot be written: {source}")]
    Log {
        /// Its path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Tells of requests.
pub struct Audit {
    policy: Policy,
    log: Option<Way>,
    /// Whether a request is refused whose first event the log loses.
    is_log_strict: bool,
    webhook: Option<Webhook>,
    events: AtomicU64,
    levels: [AtomicU64; 4],
    /// Events that the log lost.
    failed: Arc<AtomicU64>,
}

/// Refuses a policy's file that [`Audit::open`] would refuse, without opening a log.
pub fn check_policy(path: &Path) -> Result<(), AuditError> {
    read_policy(path).map(drop)
}

fn read_policy(path: &Path) -> Result<Policy, AuditError> {
    let refuse = |why: String| AuditError::Policy { path: path.display().to_string(), why };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    Policy::parse(&text).map_err(refuse)
}

/// What the metrics tell.
pub(crate) struct Counts {
    /// Events that were made.
    pub(crate) events: u64,
    /// Events that were lost, by upstream's names of where.
    pub(crate) lost: Vec<(&'static str, u64)>,
    /// Requests by their level.
    pub(crate) levels: [(&'static str, u64); 4],
}

/// How events get into the log.
enum Way {
    /// The request waits.
    Direct(Mutex<Log>),
    /// A thread writes what waits here.
    Behind(mpsc::Sender<Bytes>),
}

impl Way {
    fn open(options: LogOptions, failed: &Arc<AtomicU64>) -> std::io::Result<Self> {
        let waits = options.mode.waits();
        let log = Log::open(options)?;
        if waits {
            return Ok(Way::Direct(Mutex::new(log)));
        }
        let (sender, receiver) = mpsc::channel(BUFFER);
        let failed = failed.clone();
        std::thread::spawn(move || write_behind(receiver, log, &failed));
        Ok(Way::Behind(sender))
    }

    fn write(&self, line: Bytes) -> Result<(), String> {
        match self {
            Way::Direct(log) => log.lock().write(&line).map_err(|e| e.to_string()),
            Way::Behind(sender) => sender.try_send(line).map_err(|e| e.to_string()),
        }
    }
}

impl Audit {
    /// Reads the policy, opens the log and begins to hand events to the webhook, which needs a runtime.
    pub fn open(
        policy: &Path,
        log: Option<LogOptions>,
        webhook: Option<WebhookOptions>,
    ) -> Result<Self, AuditError> {
        let policy = read_policy(policy)?;
        let failed: Arc<AtomicU64> = Arc::default();
        let open = |options: LogOptions| {
            let path = options.path.display().to_string();
            Way::open(options, &failed).map_err(|source| AuditError::Log { path, source })
        };
        Ok(Audit {
            policy,
            is_log_strict: log.as_ref().is_some_and(|log| log.mode.is_strict()),
            log: log.map(open).transpose()?,
            webhook: webhook.map(Webhook::start),
            events: AtomicU64::new(0),
            levels: Default::default(),
            failed,
        })
    }

    /// Begins to tell of a request, see [`Open::received`]; `None` when the policy does not want that.
    pub(crate) fn begin<B>(
        self: &Arc<Self>,
        user: &UserInfo,
        info: &RequestInfo,
        request: &Request<B>,
        id: &HeaderValue,
    ) -> Option<Open> {
        let trail = Arc::new(self.trail(user, info, request, id)?);
        Some(Open { audit: self.clone(), trail, is_told: false })
    }

    fn trail<B>(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        request: &Request<B>,
        id: &HeaderValue,
    ) -> Option<Trail> {
        let verdict = self.policy.judge(user, info);
        let level = verdict.as_ref().map_or(Level::None, |v| v.level);
        self.levels[level as usize].fetch_add(1, Ordering::Relaxed);
        let uri = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let agent = request.headers().get(http::header::USER_AGENT);
        Some(Trail {
            verdict: verdict?,
            id: String::from_utf8_lossy(id.as_bytes()).into_owned(),
            uri,
            user: user.clone(),
            sources: sources(request),
            agent: agent.map(|a| String::from_utf8_lossy(a.as_bytes()).into_owned()).unwrap_or_default(),
            info: info.clone(),
            received: Timestamp::now(),
            learned: Mutex::default(),
        })
    }

    /// Tells of a request whose sender is not known.
    pub(crate) fn refused<B>(
        &self,
        request: &Request<B>,
        info: &RequestInfo,
        id: &HeaderValue,
        error: &ApiError,
        learned: &Notes,
    ) {
        if let Some(trail) = self.trail(&UserInfo::default(), info, request, id) {
            trail.note(learned);
            self.tell(trail.event(Stage::ResponseStarted, Some((error.code, Some(error)))));
        }
    }

    /// Tells what nobody waits for.
    fn tell(&self, event: Option<Value>) {
        let Some(line) = self.line(event) else { return };
        if let Some(webhook) = &self.webhook {
            webhook.put(line.clone());
        }
        self.write(line);
    }

    /// Tells, and waits as the modes of the ways want it; says whether the request may go on.
    async fn tell_and_wait(&self, event: Option<Value>) -> bool {
        let Some(line) = self.line(event) else { return true };
        let is_written = self.write(line.clone()) || !self.is_log_strict;
        match &self.webhook {
            Some(webhook) => webhook.hand_over(line).await && is_written,
            None => is_written,
        }
    }

    fn line(&self, event: Option<Value>) -> Option<Bytes> {
        let mut line = event?.to_string().into_bytes();
        line.push(b'\n');
        self.events.fetch_add(1, Ordering::Relaxed);
        Some(Bytes::from(line))
    }

    /// Hands a line to the log, if there is one; false when it is lost.
    fn write(&self, line: Bytes) -> bool {
        let done = self.log.as_ref().map_or(Ok(()), |log| log.write(line));
        if let Err(error) = &done {
            // Once for each power of two: a full disk must not fill the other log as well.
            if self.failed.fetch_add(1, Ordering::Relaxed).wrapping_add(1).is_power_of_two() {
                tracing::error!(error, "audit events are lost");
            }
        }
        done.is_ok()
    }

    /// What was told, and what was lost on the way.
    pub(crate) fn counts(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let log = self.log.iter().map(|_| ("log", of(&self.failed)));
        let webhook = self.webhook.iter().flat_map(|webhook| {
            [("buffered", of(&webhook.lost.buffered)), ("webhook", of(&webhook.lost.refused))]
        });
        Counts {
            events: of(&self.events),
            lost: log.chain(webhook).collect(),
            levels: Level::ALL.map(|level| (level.name(), of(&self.levels[level as usize]))),
        }
    }
}

/// A request that is told of and has no answer yet. One that is given up, since its client has gone away, is told of,
/// too.
pub(crate) struct Open {
    audit: Arc<Audit>,
    pub(crate) trail: Arc<Trail>,
    is_told: bool,
}

impl Open {
    /// Tells that a request has come; an error when it may not go on, since that could not be told (in strict modes).
    pub(crate) async fn received(&mut self) -> Result<(), ApiError> {
        if self.audit.tell_and_wait(self.trail.event(Stage::RequestReceived, None)).await {
            return Ok(());
        }
        // As upstream: there is no more to tell of what was not done.
        self.is_told = true;
        Err(ApiError::internal("failed to store audit event"))
    }

    /// Tells how a request ended, or, if its answer goes on for long, that it began; the end follows with the body's.
    pub(crate) async fn end(
        mut self,
        response: Response<ResponseBody>,
        error: Option<&ApiError>,
    ) -> Response<ResponseBody> {
        if self.is_told {
            return response;
        }
        self.is_told = true;
        let code = response.status().as_u16();
        if error.is_none() && self.trail.info.is_long_running() {
            self.audit.tell_and_wait(self.trail.event(Stage::ResponseStarted, Some((code, None)))).await;
            let last = Last { audit: self.audit.clone(), trail: self.trail.clone(), code };
            return holding(response, last);
        }
        self.audit.tell_and_wait(self.trail.event(Stage::ResponseComplete, Some((code, error)))).await;
        response
    }

    /// Tells that the server made a mistake.
    pub(crate) fn panicked(mut self, error: &ApiError) {
        self.is_told = true;
        self.audit.tell(self.trail.event(Stage::Panic, Some((error.code, Some(error)))));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_told {
            let error = ApiError::new(CLIENT_GONE, "Unknown", "the client went away before it was answered");
            self.audit.tell(self.trail.event(Stage::ResponseComplete, Some((error.code, Some(&error)))));
        }
    }
}

/// Writes what waits, until nobody can send any more.
fn write_behind(mut events: mpsc::Receiver<Bytes>, mut log: Log, failed: &AtomicU64) {
    let mut batch = Vec::new();
    while events.blocking_recv_many(&mut batch, BATCH) > 0 {
        let count = batch.len() as u64;
        if let Err(error) = log.write(&batch.concat()) {
            failed.fetch_add(count, Ordering::Relaxed);
            tracing::error!(%error, "audit events are lost");
        }
        batch.clear();
    }
}

/// The address that a request came from, where it came over the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Where a request came from: what proxies say, then who is connected. Parts of this process are on this host.
fn sources<B>(request: &Request<B>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let headers = request.headers();
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
    let parts = forwarded.flat_map(|list| list.split(','));
    let real = headers.get("x-real-ip").and_then(|v| v.to_str().ok());
    for text in parts.chain(real) {
        if let Ok(ip) = text.trim().parse::<IpAddr>() {
            all.push(ip.to_string());
        }
    }
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or_else(|| "127.0.0.1".to_owned(), |Peer(ip)| ip.to_canonical().to_string());
    if all.last() != Some(&peer) {
        all.push(peer);
    }
    all.dedup();
    all
}

/// The name of a request: its sender's, or a new one.
pub(crate) fn id(headers: &HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(ID).filter(|v| !v.is_empty() && v.len() <= LONGEST_ID) {
        return given.clone();
    }
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Does the work of a request with its trail at hand.
pub(crate) async fn scope<F: Future>(trail: Option<Arc<Trail>>, work: F) -> F::Output {
    match trail {
        Some(trail) => CURRENT.scope(trail, work).await,
        None => work.await,
    }
}

/// Tells the end of an answer that goes on for long.
struct Last {
    audit: Arc<Audit>,
    trail: Arc<Trail>,
    code: u16,
}

impl Drop for Last {
    fn drop(&mut self) {
        self.audit.tell(self.trail.event(Stage::ResponseComplete, Some((self.code, None))));
    }
}
