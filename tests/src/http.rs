//! Just enough of an HTTP client: one request, one answer, a new connection each time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::patience;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);

pub async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
    let work = async {
        let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        drop(sender);
        driver.abort();
        Ok(Response::from_parts(head, body))
    };
    let limit = patience(LIMIT);
    tokio::time::timeout(limit, work)
        .await
        .with_context(|| format!("no answer from {to} within {limit:?}"))?
}

pub async fn get(to: SocketAddr, path: &str) -> Result<String> {
    let request = Request::get(path).header("host", to.to_string()).body(Full::default())?;
    let response = send(to, request).await?;
    if !response.status().is_success() {
        bail!("{to}{path} answered {}", response.status());
    }
    Ok(String::from_utf8_lossy(response.body()).into_owned())
}

/// What a load has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers by their first word: for `examples/web.yaml` that is the pod.
    pub answers: BTreeMap<String, usize>,
    /// What went wrong.
    pub failures: Vec<String>,
    /// The longest time an answer took.
    pub slowest: Duration,
}

impl Seen {
    pub fn total(&self) -> usize {
        self.answers.values().sum()
    }
}

/// Requests one after the other, each on a new connection, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

impl Load {
    pub fn start(to: SocketAddr, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                match get(to, "/").await {
                    Ok(text) => {
                        let who = text.split_whitespace().next().unwrap_or_default().to_owned();
                        *seen.answers.entry(who).or_default() += 1;
                        seen.slowest = seen.slowest.max(began.elapsed());
                    }
                    Err(error) => seen.failures.push(format!("{error:#}")),
                }
                tokio::time::sleep(pause).await;
            }
            seen
        });
        Self { stop, task }
    }

    pub async fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?)
    }
}
