//! Which API servers there are: each keeps a key of its own in the store, on a lease that it renews. One that dies is
//! forgotten when its lease ends; one that ends in order takes its key along. Upstream: the endpoint reconciler's
//! `masterleases`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

use carrack_store::{LeaseId, Op, Put, Range, Store, Txn, WriteError};
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::server::Inner;

/// Where the keys are; the member's id in hex follows.
pub const SERVERS: &str = "/carrack/apiservers/";
/// How long a server that says nothing is taken for alive. A new leader of the store counts from the start, so that one
/// that dies with the leader's host is forgotten some two seconds later: upstream's 15 s are kept.
const LIFETIME: Duration = Duration::from_secs(10);
/// How often it says that it lives.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Where an API server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// The key of a member's API server.
pub fn server_key(member: u64) -> String {
    format!("{SERVERS}{member:016x}")
}

/// All API servers that live, as of now.
pub(crate) async fn all(store: &Store) -> Result<BTreeSet<ListedServer>, ApiError> {
    let found = store.range(Range::prefix(SERVERS)).await?;
    // What another version wrote is no reason to have no endpoints.
    Ok(found.kvs.iter().filter_map(|kv| serde_json::from_slice(&kv.value).ok()).collect())
}

/// Says for the first time that this server lives.
pub(crate) async fn enter(inner: &Inner) -> Result<LeaseId, WriteError> {
    let store = inner.registry.store();
    let lease = store.lease_grant(LIFETIME.as_secs().cast_signed()).await?.id;
    let own = ListedServer { address: inner.config.advertise_address, port: inner.config.secure_port };
    let value = serde_json::to_vec(&own).map_err(|error| WriteError::Failed(error.to_string()))?;
    let key = server_key(store.member_id()).into();
    let put = Put { key, value: value.into(), lease, ..Put::default() };
    store.txn(Txn::of(vec![Op::Put(put)])).await?;
    Ok(lease)
}

/// Keeps the key until the server ends; then takes it away.
pub(crate) async fn keep(server: Weak<Inner>, store: Store, mut lease: LeaseId) {
    let Some(ending) = server.upgrade().map(|inner| inner.ending.clone()) else { return };
    let mut pause = RENEW_EVERY;
    loop {
        tokio::select! {
            () = ending.cancelled() => {
                // Without it the lease ends by itself.
                let _ = store.lease_revoke(lease).await;
                return;
            }
            () = tokio::time::sleep(pause) => {}
        }
        let renewed = match store.lease_keep_alive(lease).await {
            Err(WriteError::LeaseNotFound(_)) => {
                let Some(inner) = server.upgrade() else { return };
                enter(&inner).await.map(|fresh| lease = fresh)
            }
            other => other.map(drop),
        };
        pause = match renewed {
            Ok(()) => RENEW_EVERY,
            Err(WriteError::Stopped) => return,
            Err(error) => {
                tracing::debug!(%error, "cannot say that this API server lives");
                RETRY
            }
        };
    }
}
