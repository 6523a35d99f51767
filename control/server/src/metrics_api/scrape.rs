//! Asks nodes what they use: each at most once in a while, however many want to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::summary::Summary;
use crate::authn::text;
use crate::{NodeProxy, ResponseBody, empty};

/// What is asked; a kubelet leaves out disks and networks, which take it longer.
const PATH: &str = "/stats/summary?only_cpu_and_memory=true";
/// How long an answer, or that there was none, is good for.
const FRESH: Duration = Duration::from_secs(10);
/// How long a node may take; metrics-server's figure.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nodes that are asked at once for one request.
const AT_ONCE: usize = 64;
/// The largest answer: about ten thousand containers.
const MOST_BYTES: usize = 8 << 20;
/// Nodes that nobody has wanted to know of for so long are forgotten.
const FORGET: Duration = Duration::from_secs(300);

/// What a node said last, and when; nothing if it did not answer. Locked while it is asked.
type Last = tokio::sync::Mutex<Option<(Instant, Option<Arc<Summary>>)>>;

/// A node.
struct Known {
    wanted: Instant,
    last: Arc<Last>,
}

/// What nodes said.
#[derive(Default)]
pub(crate) struct Scrapes(Mutex<HashMap<String, Known>>);

/// Why a node said nothing that can be used.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("{0}")]
    Call(String),
    #[error("it answered {0}")]
    Code(StatusCode),
    #[error("its answer did not come whole: {0}")]
    Body(String),
    #[error("its answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Late,
}

impl Scrapes {
    /// What these nodes (stored objects) say, by their names; those that do not answer are left out.
    pub(super) async fn of(&self, proxy: &dyn NodeProxy, nodes: &[Value]) -> HashMap<String, Arc<Summary>> {
        let asks: Vec<_> =
            self.wanted(nodes).into_iter().map(|(node, last)| latest(proxy, node, last)).collect();
        let said: Vec<_> = stream::iter(asks).buffer_unordered(AT_ONCE).collect().await;
        let named =
            |(node, said): (&Value, Option<_>)| Some((text(node, "/metadata/name").to_owned(), said?));
        said.into_iter().filter_map(named).collect()
    }

    /// The places of these nodes; others that have not been wanted for long are given up.
    fn wanted<'n>(&self, nodes: &'n [Value]) -> Vec<(&'n Value, Arc<Last>)> {
        let now = Instant::now();
        let mut known = self.0.lock();
        known.retain(|_, node| now.duration_since(node.wanted) < FORGET);
        let place = |node: &'n Value| {
            let name = text(node, "/metadata/name").to_owned();
            let found = known.entry(name).or_insert_with(|| Known { wanted: now, last: Arc::default() });
            found.wanted = now;
            (node, found.last.clone())
        };
        nodes.iter().map(place).collect()
    }
}

#[cfg(test)]
impl Scrapes {
    /// The names of nodes that are remembered.
    pub(super) fn known(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

/// A node with what it said a moment ago, or says now. Boxed, so that the types around it stay shallow enough for the
/// compiler.
fn latest<'n>(
    proxy: &'n dyn NodeProxy,
    node: &'n Value,
    last: Arc<Last>,
) -> BoxFuture<'n, (&'n Value, Option<Arc<Summary>>)> {
    Box::pin(async move {
        let mut last = last.lock().await;
        if let Some((at, said)) = &*last
            && at.elapsed() < FRESH
        {
            return (node, said.clone());
        }
        let asked = timeout(PATIENCE, ask(proxy, node)).await.unwrap_or(Err(ScrapeError::Late));
        let said = asked.map(Arc::new).map_err(|error| {
            tracing::debug!(node = text(node, "/metadata/name"), %error, "a node does not tell what it uses");
        });
        let said = said.ok();
        *last = Some((Instant::now(), said.clone()));
        (node, said)
    })
}

async fn ask(proxy: &dyn NodeProxy, node: &Value) -> Result<Summary, ScrapeError> {
    let answer = proxy.proxy(node, PATH, Request::new(empty())).await;
    let answer = answer.map_err(|error| ScrapeError::Call(error.message.clone()))?;
    if answer.status() != StatusCode::OK {
        return Err(ScrapeError::Code(answer.status()));
    }
    Ok(Summary::read(&read(answer.into_body()).await?)?)
}

async fn read(mut body: ResponseBody) -> Result<Vec<u8>, ScrapeError> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ScrapeError::Body(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if text.len() + data.len() > MOST_BYTES {
            return Err(ScrapeError::Body(format!("it is longer than {MOST_BYTES} bytes")));
        }
        text.extend_from_slice(&data);
    }
    Ok(text)
}
