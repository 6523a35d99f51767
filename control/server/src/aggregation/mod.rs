//! Aggregation: groups and versions that another server answers for, as APIServices say.
//!
//! Requests for such a group and version are authenticated and authorized here, and handed on with the user in
//! headers that the other server believes, since they come with the front proxy's certificate. What it serves is in
//! this server's discovery.

mod available;
mod discovery;
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "whatever is wrong is to be seen")]
pub(crate) mod fuzzing;
mod index;
mod local;
mod openapi;
mod proxy;
mod registered;
mod remote;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_store::Store;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;

pub(crate) use local::register;
pub(crate) use registered::keep_registered;
pub(crate) use watch::keep_checked;

use crate::ApiError;
use crate::authz::feed;
use crate::authz::index::Indexed;
use crate::outbound::Outbound;
use crate::pki::FrontProxy;
use index::Services;
use remote::Remote;

/// The other servers.
pub(crate) struct Aggregation {
    store: Store,
    outbound: Outbound,
    front_proxy: Option<FrontProxy>,
    services: OnceCell<Arc<Indexed<Services>>>,
    /// What each remote group version said of itself when it was asked last, by the name of its APIService.
    known: Mutex<BTreeMap<String, Known>>,
    /// The OpenAPI v2 document that was asked for last.
    merged: Mutex<Option<Arc<openapi::Merged>>>,
}

/// What a remote group version said of itself.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its `APIResourceList`.
    resources: Arc<Value>,
    /// Where its OpenAPI v3 document is, with the hash.
    openapi: Option<String>,
    /// Its OpenAPI v2 document.
    openapi_v2: Option<Arc<openapi::Described>>,
}

impl Aggregation {
    pub(crate) fn new(store: Store, outbound: Outbound, front_proxy: Option<FrontProxy>) -> Self {
        Aggregation {
            store,
            outbound,
            front_proxy,
            services: OnceCell::new(),
            known: Mutex::default(),
            merged: Mutex::default(),
        }
    }

    /// What aggregated API servers need to believe this one.
    pub(crate) fn front_proxy(&self) -> Option<&FrontProxy> {
        self.front_proxy.as_ref()
    }

    async fn services(&self) -> Result<&Arc<Indexed<Services>>, ApiError> {
        let load = || feed::start::<Services>(self.store.clone());
        self.services.get_or_try_init(load).await.map_err(|why| {
            ApiError::unavailable(format!("not yet ready to handle request: {why}")).retry_after(1)
        })
    }

    /// Who answers for a group and version instead of this server.
    async fn remote(&self, group: &str, version: &str) -> Result<Option<Arc<Remote>>, ApiError> {
        if group.is_empty() {
            return Ok(None);
        }
        Ok(self.services().await?.read().remote(group, version))
    }

    /// All that other servers answer for.
    async fn remotes(&self) -> Result<Vec<Arc<Remote>>, ApiError> {
        Ok(self.services().await?.read().remotes())
    }
}
