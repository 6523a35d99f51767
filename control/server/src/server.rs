//! The API server as a value: what all requests share, and the services that lead into it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use carrack_store::Store;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admission::policy::Policies;
use crate::admission::webhook::Webhooks;
use crate::admission::{Steps, WebhookCredentials};
use crate::aggregation::Aggregation;
use crate::audit::Audit;
use crate::authn::notes::UsedSecret;
use crate::conversion::Converter;
use crate::event_leases::EventLeases;
use crate::flow::FlowControl;
use crate::health::Health;
use crate::interest::Interests;
use crate::join::Joining;
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::metrics_api::Scrapes;
use crate::outbound::Outbound;
use crate::pki::{CertificateSigner, FrontProxy};
use crate::quota::Turns;
use crate::registry::Registry;
use crate::reload::Reloads;
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
    pub(crate) kinds: Kinds,
    pub(crate) service_range: ServiceRange,
    pub(crate) event_leases: EventLeases,
    pub(crate) flow: FlowControl,
    /// Tells of requests, once it is set.
    pub(crate) audit: OnceLock<Arc<Audit>>,
    pub(crate) turns: Turns,
    /// Which steps of admission run, once it is said.
    steps: OnceLock<Steps>,
    pub(crate) metrics: Metrics,
    pub(crate) reloads: Reloads,
    /// Secrets that are just being marked as used.
    pub(crate) marking: Mutex<BTreeSet<UsedSecret>>,
    pub(crate) scrapes: Scrapes,
    pub(crate) health: Health,
    pub(crate) webhooks: Webhooks,
    pub(crate) policies: Policies,
    pub(crate) aggregation: Aggregation,
    pub(crate) converter: Converter,
    pub(crate) interests: Interests,
    /// The way to pods and services for `proxy`: its connections do not push out those to webhooks.
    pub(crate) proxied: Outbound,
    /// Ends watches and the server's own tasks, and makes `/readyz` fail.
    pub(crate) shutdown: CancellationToken,
    /// Makes `/readyz` fail, and takes this server out of the `kubernetes` service.
    pub(crate) ending: CancellationToken,
    /// Lets others join, once it is set.
    pub(crate) joining: OnceLock<Joining>,
    /// Signs requests for certificates, once it is set.
    pub(crate) signer: OnceLock<CertificateSigner>,
    /// Ends the server's own tasks with its last handle.
    _end: DropGuard,
}

impl ApiServer {
    /// Makes a server of these parts. It answers [`ApiServer::as_user`] at once; call [`ApiServer::start`] so that
    /// the objects that every cluster has are there.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with_front_proxy(config, None)
    }

    /// The same; `front_proxy` is what aggregated API servers know this one by.
    pub fn with_front_proxy(config: Config, front_proxy: Option<FrontProxy>) -> Result<Self, ConfigError> {
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
            kinds: Kinds::default(),
            interests: Interests::default(),
            service_range,
            event_leases: EventLeases::default(),
            flow: FlowControl::default(),
            audit: OnceLock::new(),
            turns: Turns::default(),
            steps: OnceLock::new(),
            metrics: Metrics::default(),
            reloads: Reloads::default(),
            marking: Mutex::default(),
            scrapes: Scrapes::default(),
            health: Health::default(),
            webhooks: Webhooks::new(config.store.clone(), outbound.clone()),
            converter: Converter::new(outbound.clone(), shutdown.clone()),
            proxied: Outbound::of_urls(),
            aggregation: Aggregation::new(config.store.clone(), outbound, front_proxy),
            policies: Policies::new(config.store.clone()),
            _end: shutdown.clone().drop_guard(),
            shutdown,
            ending: CancellationToken::new(),
            joining: OnceLock::new(),
            signer: OnceLock::new(),
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

    /// Tells of all requests from now on. To be called once, before serving.
    pub fn set_audit(&self, audit: Audit) {
        if self.inner.audit.set(Arc::new(audit)).is_err() {
            tracing::error!("the audit was set before; the first one stays");
        }
    }

    /// Signs approved CertificateSigningRequests from now on. To be called once, before [`ApiServer::start`].
    pub fn set_certificate_signer(&self, signer: CertificateSigner) {
        if self.inner.signer.set(signer).is_err() {
            tracing::error!("the signer of certificates was set before; the first one stays");
        }
    }

    /// Asks admission webhooks as these users from now on. To be called once, before serving.
    pub fn set_webhook_credentials(&self, credentials: WebhookCredentials) {
        if !self.inner.webhooks.set_users(credentials) {
            tracing::error!("the credentials for webhooks were set before; the first ones stay");
        }
    }

    /// Runs these steps of admission from now on, instead of all of them. To be called once, before serving.
    pub fn set_admission_steps(&self, steps: Steps) {
        if self.inner.steps.set(steps).is_err() {
            tracing::error!("the steps of admission were set before; the first ones stay");
        }
    }

    /// Tells `/readyz` and `/livez` how a part of the process is: `Err` with a reason makes `/readyz` fail, and
    /// the check appears there under `name`.
    pub fn report(&self, name: &str, state: Result<(), String>) {
        self.inner.health.report(name, state);
    }

    /// Asks this for each `/healthz` and `/readyz` from now on, as the check `name`; it must not wait.
    pub fn ask(&self, name: &str, state: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.inner.health.ask(name, Box::new(state));
    }

    /// Makes `/readyz` fail and takes this server out of the `kubernetes` service, so that nobody sends new clients here;
    /// everything else goes on.
    pub fn begin_ending(&self) {
        self.inner.ending.cancel();
    }

    /// Ends all watches and makes `/readyz` fail; requests are still answered. [`ApiServer::serve`] does this by
    /// itself when its own shutdown begins.
    pub fn begin_shutdown(&self) {
        self.inner.shutdown.cancel();
    }
}

impl Inner {
    /// The steps of admission; where nothing is said, all of them.
    pub(crate) fn admission_steps(&self) -> &Steps {
        self.steps.get_or_init(Steps::default)
    }
}
