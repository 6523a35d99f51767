//! Who asks: client certificates and ServiceAccount tokens, and acting as somebody else.
//!
//! Nobody is believed without proof: a request without credentials is anonymous, and anonymous requests are
//! answered 401 but for the few paths of [`anonymous_path`]. Credentials that are there and wrong are 401 even
//! when others would do.

mod claims;
mod discovery;
mod impersonate;
mod jws;
mod objects;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod x509;

use std::sync::Arc;

use jiff::Timestamp;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::UnixTime;
use serde_json::Value;

pub use impersonate::{Impersonation, impersonation};
pub use objects::Objects;
pub(crate) use objects::text;
pub use x509::{CertificateError, X509};

use crate::pki::{Pki, PkiError, ServiceAccountKeys};
use crate::{ApiError, Authenticator, Credentials, TokenIssuer, UserInfo};
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

/// Judges credentials and issues ServiceAccount tokens.
pub struct Authn {
    certificates: X509,
    tokens: Tokens,
}

impl Authn {
    /// Takes keys and authority from `pki`; reads what tokens are bound to from `objects`.
    pub fn new(pki: &Pki, issuer: &str, objects: Arc<dyn Objects>) -> Result<Self, PkiError> {
        Ok(Self::from_parts(pki.client_verifier()?, pki.service_account_keys(), issuer, objects))
    }

    fn from_parts(
        verifier: Arc<dyn ClientCertVerifier>,
        keys: Arc<ServiceAccountKeys>,
        issuer: &str,
        objects: Arc<dyn Objects>,
    ) -> Self {
        let tokens = Tokens { issuer: issuer.into(), audiences: vec![issuer.into()], keys, objects };
        Self { certificates: X509::new(verifier), tokens }
    }
}

#[async_trait::async_trait]
impl Authenticator for Authn {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, ApiError> {
        if !credentials.certificates.is_empty() {
            let user = self.certificates.identify(&credentials.certificates, UnixTime::now());
            return user.map(|user| Some(UserInfo::clone(&user))).map_err(|error| {
                tracing::debug!(%error, "client certificate refused");
                ApiError::unauthorized()
            });
        }
        let Some(token) = &credentials.bearer else { return Ok(None) };
        match self.tokens.judge(token, &[], Timestamp::now()).await {
            Ok((user, _)) => Ok(Some(user)),
            Err(TokenError::Lookup(error)) => Err(error),
            Err(error) => {
                // The client learns nothing about what was wrong; the operator does.
                tracing::debug!(%error, "bearer token refused");
                Err(ApiError::unauthorized())
            }
        }
    }

    async fn review_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), ApiError> {
        self.tokens.judge(token, audiences, Timestamp::now()).await.map_err(|error| match error {
            TokenError::Lookup(error) => error,
            error => ApiError::new(401, "Unauthorized", format!("[invalid bearer token, {error}]")),
        })
    }
}

#[async_trait::async_trait]
impl TokenIssuer for Authn {
    async fn issue(&self, account: &Value, request: Value, bound: Option<&Value>) -> Result<Value, ApiError> {
        self.tokens.issue(account, request, bound, Timestamp::now()).await
    }

    fn openid_configuration(&self, server: &str) -> Option<Value> {
        Some(discovery::configuration(&self.tokens.issuer, server))
    }

    fn openid_keys(&self) -> Option<Value> {
        Some(discovery::key_set(&self.tokens.keys))
    }
}
