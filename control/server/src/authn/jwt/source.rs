//! Where an issuer's keys come from: OpenID Connect discovery and the key set that it names, fetched in the background.
//!
//! Requests never wait for a fetch, but for one that was begun because a token names a key that is not known yet. When
//! the issuer cannot be reached, the keys that are known go on counting.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::config::Issuer;
use super::keys::KeySet;
use crate::outbound::{CallError, Outbound, Place as Where, Target, Trust};

/// How long a fetch may take; upstream's figure.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often keys are fetched anew when nothing calls for it, and after a failure; the latter is upstream's figure.
const EVERY: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(10);
/// Between two fetches lies at least this: tokens with invented key ids must not hammer the issuer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a changed configuration waits for keys; upstream's figure.
const FIRST: Duration = Duration::from_secs(60);
/// How long a token with an unknown key waits for the next fetch.
const PATIENCE: Duration = Duration::from_secs(5);

/// The keys of an issuer, kept current by a task that ends with this.
pub(super) struct Source {
    keys: watch::Receiver<Fetched>,
    wanted: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

/// What was fetched last, and how many fetches there were.
#[derive(Clone, Default)]
struct Fetched {
    keys: Option<Arc<KeySet>>,
    rounds: u64,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    /// Begins to fetch. Needs a runtime.
    pub(super) fn start(issuer: &Issuer) -> Result<Self, String> {
        let trust = Self::trust(issuer)?;
        let target = Target::new(Where::Url(issuer.url.clone()), trust);
        let (sender, keys) = watch::channel(Fetched::default());
        let wanted = Arc::new(Notify::new());
        let place = Place {
            url: issuer.url.clone(),
            discovery: issuer.discovery_url.clone().unwrap_or_else(|| {
                format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'))
            }),
        };
        let task = tokio::spawn(keep(target, place, sender, Arc::clone(&wanted)));
        Ok(Self { keys, wanted, task })
    }

    /// The authorities that the issuer's server is believed by.
    pub(super) fn trust(issuer: &Issuer) -> Result<Trust, String> {
        Trust::of_bundle(issuer.authority.as_deref().unwrap_or_default()).map_err(|error| error.to_string())
    }

    /// The keys as they are known; `None` before the first fetch.
    pub(super) fn known(&self) -> Option<Arc<KeySet>> {
        self.keys.borrow().keys.clone()
    }

    /// Waits for the first fetch that succeeds; whether there was one in time.
    pub(super) async fn ready(&self) -> bool {
        let mut keys = self.keys.clone();
        let there = keys.wait_for(|fetched| fetched.keys.is_some());
        matches!(tokio::time::timeout(FIRST, there).await, Ok(Ok(_)))
    }

    /// The keys after one more fetch, whether it succeeds or not; those that are known when it takes too long.
    pub(super) async fn newer(&self) -> Option<Arc<KeySet>> {
        let mut keys = self.keys.clone();
        let seen = keys.borrow_and_update().rounds;
        self.wanted.notify_one();
        let later = keys.wait_for(|fetched| fetched.rounds > seen);
        let _ = tokio::time::timeout(PATIENCE, later).await;
        self.known()
    }
}

struct Place {
    url: String,
    discovery: String,
}

/// Fetches, for as long as somebody looks.
async fn keep(target: Target, place: Place, keys: watch::Sender<Fetched>, wanted: Arc<Notify>) {
    let outbound = Outbound::of_urls();
    loop {
        let began = Instant::now();
        let found = fetch(&outbound, &target, &place).await;
        let wait = match &found {
            Ok(found) => {
                tracing::debug!(issuer = place.url, keys = found.len(), "fetched the issuer's keys");
                EVERY
            }
            Err(error) => {
                tracing::warn!(
                    issuer = place.url,
                    error,
                    "the issuer's keys cannot be fetched; trying again"
                );
                RETRY
            }
        };
        keys.send_modify(|fetched| {
            if let Ok(found) = found {
                fetched.keys = Some(Arc::new(found));
            }
            fetched.rounds += 1;
        });
        let _ = tokio::time::timeout(wait, wanted.notified()).await;
        tokio::time::sleep_until(began + PAUSE).await;
    }
}

/// The keys that the issuer publishes now.
async fn fetch(outbound: &Outbound, target: &Target, place: &Place) -> Result<KeySet, String> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let get = async |url: &str| {
        let answer =
            outbound.get(target, url, TIMEOUT).await.map_err(|error: CallError| error.to_string())?;
        answer.success().map(<[u8]>::to_vec).map_err(|why| format!("Get {url:?}: {why}"))
    };
    let document = get(&place.discovery).await?;
    let found: Discovery = serde_json::from_slice(&document)
        .map_err(|error| format!("oidc: failed to decode provider discovery object: {error}"))?;
    if found.issuer != place.url {
        return Err(format!(
            "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
            place.url, found.issuer
        ));
    }
    if !found.jwks_uri.starts_with("https://") {
        return Err(format!("the issuer's keys are at {:?}, which is not https", found.jwks_uri));
    }
    let set = get(&found.jwks_uri).await?;
    KeySet::parse(&set).map_err(|error| format!("oidc: failed to decode keys: {error}"))
}
