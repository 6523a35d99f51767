//! Who asks: client certificates, an authenticating proxy, ServiceAccount tokens, bootstrap tokens, tokens of other
//! issuers and those that a webhook judges; and acting as somebody else.
//!
//! Nobody is believed without proof: a request without credentials is anonymous, and anonymous requests are
//! answered 401 but for the few paths of [`anonymous_path`]. Credentials that are there and wrong are 401 even
//! when others would do.

pub(crate) mod bootstrap;
mod claims;
mod discovery;
#[cfg(any(test, fuzzing))]
#[allow(clippy::expect_used, reason = "whatever is wrong is to be seen")]
pub(crate) mod fuzzing;
mod impersonate;
mod judge;
mod jws;
mod jwt;
pub(crate) mod legacy;
pub(crate) mod notes;
mod objects;
mod proxy;
mod review_webhook;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod x509;

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;

pub use impersonate::{Impersonation, impersonation};
pub use jwt::{
    Anonymous, AuthenticationSettings, Condition, Expressions, Issuer, IssuerError, Mapping, Rule,
    read as read_authentication,
};
pub use objects::Objects;
pub(crate) use objects::text;
pub use proxy::ProxyOptions;
pub use review_webhook::TokenWebhook;
pub use x509::{CertificateError, X509};

use crate::pki::{Pki, PkiError};
use crate::{ApiError, Authenticator, Credentials, ReloadError, TokenIssuer, UserInfo};
use bootstrap::BootstrapTokens;
use judge::{Accepted, Refusal, TokenJudge};
use jwt::Jwt;
use legacy::LegacyTokens;
use notes::Counts;
use proxy::FrontProxy;
use review_webhook::ReviewWebhook;
use token::{TokenError, Tokens};

/// Whether a request without credentials may ask for `path`: health and version, which load balancers and
/// clients look at before they have an identity. RBAC still has to allow it.
pub fn anonymous_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz" | "version")
}

/// The user of a request without credentials.
pub fn anonymous() -> UserInfo {
    UserInfo {
        name: "system:anonymous".into(),
        groups: vec!["system:unauthenticated".into()],
        ..UserInfo::default()
    }
}

/// The issuer of ServiceAccount tokens in a cluster of this DNS domain.
pub fn issuer(cluster_domain: &str) -> String {
    format!("https://kubernetes.default.svc.{cluster_domain}")
}

/// How identities are established beside the cluster's own certificates and ServiceAccount tokens.
#[derive(Clone, Default)]
pub struct AuthnOptions {
    /// The audiences of tokens that mean this API server; the issuer of ServiceAccount tokens by default.
    pub api_audiences: Vec<String>,
    /// Whom an authenticating proxy may speak for.
    pub proxy: Option<ProxyOptions>,
    /// Whether bootstrap tokens count.
    pub bootstrap_tokens: bool,
    /// Other issuers of tokens.
    pub issuers: Vec<Issuer>,
    /// A server that judges tokens which nobody else knows.
    pub webhook: Option<TokenWebhook>,
    /// Who may come without credentials; for the paths of [`anonymous_path`] alone by default.
    pub anonymous: Option<Anonymous>,
    /// Whether tokens that are mounted into every pod last as long as they say, and not a year.
    pub exact_lifetimes: bool,
}

impl AuthnOptions {
    /// Refuses what [`Authn::with`] would refuse, as far as the cluster's own keys are not needed for it: before there
    /// are any. `own` is the issuer of ServiceAccount tokens.
    pub fn check(&self, own: &str) -> Result<(), AuthnError> {
        for issuer in &self.issuers {
            jwt::check(issuer, own)?;
        }
        if let Some(proxy) = &self.proxy {
            crate::pki::verifier_of(&proxy.authority).map_err(AuthnError::Proxy)?;
        }
        Ok(())
    }
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum AuthnError {
    #[error("the authority of the authenticating proxy: {0}")]
    Proxy(PkiError),
    #[error(
        "the authority of the authenticating proxy is also the cluster's: name the proxies (--requestheader-allowed-names), \
         so that not every client with a certificate can speak for everybody"
    )]
    Overlap,
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// Whether two PEM texts have a certificate in common.
fn overlap(some: &str, others: &str) -> bool {
    let certificates = |text: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect()
    };
    let others = certificates(others);
    certificates(some).iter().any(|certificate| others.contains(certificate))
}

/// Judges credentials and issues ServiceAccount tokens.
pub struct Authn {
    certificates: X509,
    tokens: Tokens,
    proxy: Option<FrontProxy>,
    /// Judge tokens of Secrets, which are asked about first.
    judges: Vec<Box<dyn TokenJudge>>,
    /// Judge those of other issuers, which can change.
    issuers: RwLock<Arc<[Jwt]>>,
    /// Is asked last.
    webhook: Option<ReviewWebhook>,
    anonymous: Option<Anonymous>,
    /// The authority's certificate, for Secrets of ServiceAccounts.
    authority: String,
    counts: Arc<Counts>,
}

impl Authn {
    /// Takes keys and authority from `pki`; reads what tokens are bound to from `objects`.
    pub fn new(pki: &Pki, issuer: &str, objects: Arc<dyn Objects>) -> Result<Self, PkiError> {
        let keys = pki.service_account_keys();
        let own_audiences = vec![issuer.to_owned()];
        let counts = Arc::<Counts>::default();
        let legacy = LegacyTokens {
            keys: keys.clone(),
            objects: objects.clone(),
            own_audiences: own_audiences.clone(),
            counts: counts.clone(),
        };
        let tokens = Tokens {
            issuer: issuer.into(),
            audiences: own_audiences,
            keys,
            objects,
            extends: true,
            counts: counts.clone(),
        };
        Ok(Self {
            certificates: X509::new(pki.client_verifier()?),
            tokens,
            proxy: None,
            judges: vec![Box::new(legacy)],
            issuers: RwLock::new(Arc::new([])),
            webhook: None,
            anonymous: None,
            authority: pki.ca_pem().to_owned(),
            counts,
        })
    }

    /// The same with further ways of establishing an identity. Begins to fetch the issuers' keys: needs a runtime.
    pub fn with(mut self, options: AuthnOptions) -> Result<Self, AuthnError> {
        if !options.api_audiences.is_empty() {
            self.tokens.audiences = options.api_audiences;
        }
        let own_audiences = self.tokens.audiences.clone();
        let (keys, objects) = (self.tokens.keys.clone(), self.tokens.objects.clone());
        self.tokens.extends = !options.exact_lifetimes;
        let legacy = LegacyTokens {
            keys,
            objects: objects.clone(),
            own_audiences: own_audiences.clone(),
            counts: self.counts.clone(),
        };
        self.judges = vec![Box::new(legacy)];
        if options.bootstrap_tokens {
            let own_audiences = own_audiences.clone();
            self.judges.push(Box::new(BootstrapTokens { objects, own_audiences }));
        }
        self.issuers = RwLock::new(self.start_issuers(options.issuers)?);
        self.webhook = options.webhook.map(|webhook| ReviewWebhook::new(webhook, own_audiences));
        if let Some(proxy) = options.proxy {
            if proxy.allowed_names.is_empty() && overlap(&proxy.authority, &self.authority) {
                return Err(AuthnError::Overlap);
            }
            let verifier = crate::pki::verifier_of(&proxy.authority).map_err(AuthnError::Proxy)?;
            self.proxy = Some(FrontProxy::new(verifier, proxy));
        }
        self.anonymous = options.anonymous;
        Ok(self)
    }

    fn start_issuers(&self, issuers: Vec<Issuer>) -> Result<Arc<[Jwt]>, IssuerError> {
        let own = &self.tokens;
        issuers.into_iter().map(|issuer| Jwt::start(issuer, &own.issuer, own.audiences.clone())).collect()
    }

    /// Believes these issuers in place of those before, once the keys of all of them are there.
    pub async fn adopt(&self, issuers: Vec<Issuer>) -> Result<(), ReloadError> {
        let issuers = self.start_issuers(issuers).map_err(|why| ReloadError::Wrong(why.to_string()))?;
        for issuer in &*issuers {
            issuer.ready().await.map_err(ReloadError::Later)?;
        }
        *self.issuers.write() = issuers;
        Ok(())
    }

    /// The user behind a bearer token, and which of `audiences` it is for.
    async fn judge(&self, token: &str, audiences: &[String]) -> Result<Accepted, Refusal> {
        if jws::untrusted_issuer(token).as_deref() == Some(self.tokens.issuer.as_str()) {
            return match self.tokens.judge(token, audiences, Timestamp::now()).await {
                Ok((user, audiences)) => Ok(Accepted { user, audiences }),
                Err(TokenError::Lookup(error)) => Err(error.into()),
                Err(error) => Err(format!("[invalid bearer token, {error}]").into()),
            };
        }
        let mut reasons = Vec::new();
        let issuers = self.issuers.read().clone();
        let first = self.judges.iter().map(|judge| &**judge);
        let others = issuers.iter().map(|issuer| issuer as &dyn TokenJudge);
        let last = self.webhook.iter().map(|webhook| webhook as &dyn TokenJudge);
        for judge in first.chain(others).chain(last) {
            match judge.judge(token, audiences).await {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err(Refusal::Wrong(why)) => reasons.push(why),
                Err(error) => return Err(error),
            }
        }
        Err(match reasons.as_slice() {
            [] => "invalid bearer token".to_owned(),
            reasons => format!("[invalid bearer token, {}]", reasons.join(", ")),
        }
        .into())
    }
}

#[async_trait::async_trait]
impl Authenticator for Authn {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, ApiError> {
        if !credentials.certificates.is_empty() {
            let now = UnixTime::now();
            if let Some(user) = self.proxy.as_ref().and_then(|proxy| proxy.identify(credentials, now)) {
                return Ok(Some(user));
            }
            match self.certificates.identify(&credentials.certificates, now) {
                Ok(user) => return Ok(Some(UserInfo::clone(&user))),
                // A proxy that speaks for nobody in particular passes on its clients' tokens.
                Err(_) if self.proxy.is_some() && credentials.bearer.is_some() => {}
                Err(error) => {
                    tracing::debug!(%error, "client certificate refused");
                    return Err(ApiError::unauthorized());
                }
            }
        }
        let Some(token) = &credentials.bearer else { return Ok(None) };
        match self.judge(token, &[]).await {
            Ok(accepted) => Ok(Some(accepted.user)),
            Err(Refusal::Server(error)) => Err(error),
            Err(error) => {
                // The client learns nothing about what was wrong; the operator does.
                tracing::debug!(%error, "bearer token refused");
                Err(ApiError::unauthorized())
            }
        }
    }

    fn allows_anonymous(&self, path: &str) -> bool {
        let Some(anonymous) = &self.anonymous else { return anonymous_path(path) };
        let named = || anonymous.conditions.iter().any(|condition| condition.path == path);
        anonymous.enabled && (anonymous.conditions.is_empty() || named())
    }

    fn credential_headers(&self, name: &http::HeaderName) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.speaks_in(name))
    }

    fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.counts.all()
    }

    async fn review_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), ApiError> {
        match self.judge(token, audiences).await {
            Ok(accepted) => Ok((accepted.user, accepted.audiences)),
            Err(Refusal::Server(error)) => Err(error),
            Err(Refusal::Wrong(why)) => Err(ApiError::new(401, "Unauthorized", why)),
        }
    }
}

#[async_trait::async_trait]
impl TokenIssuer for Authn {
    async fn issue(&self, account: &Value, request: Value, bound: Option<&Value>) -> Result<Value, ApiError> {
        self.tokens.issue(account, request, bound, Timestamp::now()).await
    }

    fn secret_data(
        &self,
        account: &Value,
        secret: &str,
    ) -> Option<Result<Vec<(&'static str, String)>, ApiError>> {
        let namespace = text(account, "/metadata/namespace");
        let named = (text(account, "/metadata/name"), text(account, "/metadata/uid"));
        let token = legacy::token(&self.tokens.keys, namespace, named, secret).map_err(ApiError::internal);
        Some(token.map(|token| {
            vec![("token", token), ("namespace", namespace.to_owned()), ("ca.crt", self.authority.clone())]
        }))
    }

    fn openid_configuration(&self, server: &str) -> Option<Value> {
        Some(discovery::configuration(&self.tokens.issuer, server))
    }

    fn openid_keys(&self) -> Option<Value> {
        Some(discovery::key_set(&self.tokens.keys))
    }
}
