//! The API server as a value: what all requests share, and the services that lead into it.

use std::sync::Arc;

use carrack_store::Store;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admission::policy::Policies;
use crate::admission::webhook::Webhooks;
use crate::event_leases::EventLeases;
use crate::health::Health;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::registry::Registry;
use crate::service::UserService;
use crate::service_range::ServiceRange;
use crate::{Config, ConfigError, StoreObjects, UserInfo};

/// The API server. Clones are handles to the same one.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

/// What all requests share.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) service_range: ServiceRange,
    pub(crate) event_leases: EventLeases,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) webhooks: Webhooks,
    pub(crate) policies: Policies,
    /// Ends watches and makes `/readyz` fail.
    pub(crate) shutdown: CancellationToken,
    /// Ends the server's own tasks with its last handle.
    _end: DropGuard,
}

impl ApiServer {
    /// Makes a server of these parts. It answers [`ApiServer::as_user`] at once; call [`ApiServer::start`] so that
    /// the objects that every cluster has are there.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let service_range = ServiceRange::parse(&config.service_cidr)
            .ok_or_else(|| ConfigError::ServiceCidr(config.service_cidr.clone()))?;
        let dns_fits = matches!(config.dns_address, std::net::IpAddr::V4(ip) if service_range.contains(ip));
        if !dns_fits {
            return Err(ConfigError::DnsAddress(config.dns_address, config.service_cidr));
        }
        let shutdown = CancellationToken::new();
        let outbound = Outbound::new(Arc::new(StoreObjects::new(config.store.clone())));
        let inner = Inner {
            registry: Registry::new(config.store.clone()),
            service_range,
            event_leases: EventLeases::default(),
            limits: Limits::default(),
            metrics: Metrics::default(),
            health: Health::default(),
            webhooks: Webhooks::new(config.store.clone(), outbound),
            policies: Policies::new(config.store.clone()),
            _end: shutdown.clone().drop_guard(),
            shutdown,
            config,
        };
        Ok(ApiServer { inner: Arc::new(inner) })
    }

    /// A tower service that acts as `user`, for parts in the same process: the same rules as for everybody else,
    /// without a socket. Fit for `kube::Client::new`.
    pub fn as_user(&self, user: UserInfo) -> UserService {
        UserService::new(self.inner.clone(), user)
    }

    /// The store behind the server.
    pub fn store(&self) -> &Store {
        self.inner.registry.store()
    }

    /// Tells `/readyz` and `/livez` how a part of the process is: `Err` with a reason makes `/readyz` fail, and
    /// the check appears there under `name`.
    pub fn report(&self, name: &str, state: Result<(), String>) {
        self.inner.health.report(name, state);
    }

    /// Ends all watches and makes `/readyz` fail; requests are still answered. [`ApiServer::serve`] does this by
    /// itself when its own shutdown begins.
    pub fn begin_shutdown(&self) {
        self.inner.shutdown.cancel();
    }
}
