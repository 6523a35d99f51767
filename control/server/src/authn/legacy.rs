//! Tokens that live in Secrets of type `kubernetes.io/service-account-token`: without an end, and good as long as the
//! Secret and its ServiceAccount are there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claims;
use super::judge::{Accepted, Refusal, TokenJudge, among};
use super::jws;
use super::objects::{Objects, text};
use crate::UserInfo;
use crate::pki::{PkiError, ServiceAccountKeys};

/// The type of the Secrets.
pub(crate) const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// What such a Secret says of its account.
pub(crate) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The issuer of these tokens.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

/// The token of the account (name and UID) for the Secret called `secret`.
pub(super) fn token(
    keys: &ServiceAccountKeys,
    namespace: &str,
    (account, uid): (&str, &str),
    secret: &str,
) -> Result<String, PkiError> {
    let claims = Claims {
        iss: ISSUER.into(),
        namespace: namespace.into(),
        secret: secret.into(),
        account: account.into(),
        uid: uid.into(),
        sub: claims::user_name(namespace, account),
    };
    let payload = serde_json::to_vec(&claims).map_err(|error| PkiError::Sign(error.to_string()))?;
    jws::sign(keys, &payload)
}

pub(super) struct LegacyTokens {
    pub(super) keys: Arc<ServiceAccountKeys>,
    pub(super) objects: Arc<dyn Objects>,
    pub(super) own_audiences: Vec<String>,
}

#[async_trait::async_trait]
impl TokenJudge for LegacyTokens {
    async fn judge(&self, token: &str, audiences: &[String]) -> Result<Option<Accepted>, Refusal> {
        if jws::untrusted_issuer(token).as_deref() != Some(ISSUER) {
            return Ok(None);
        }
        let payload = jws::verify(&self.keys, token).map_err(|error| error.to_string())?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
        if claims.sub != claims::user_name(&claims.namespace, &claims.account) {
            return Err("sub claim is invalid".to_owned().into());
        }
        self.check_secret(&claims, token).await?;
        self.check_account(&claims).await?;
        let mut user = UserInfo::new(claims.sub, []);
        user.groups.splice(0..0, claims::group_names(&claims.namespace));
        user.uid = claims.uid;
        Ok(Some(Accepted { user, audiences: among(audiences, &self.own_audiences)? }))
    }
}

impl LegacyTokens {
    async fn check_secret(&self, claims: &Claims, token: &str) -> Result<(), Refusal> {
        let secret = self.objects.get("", "secrets", &claims.namespace, &claims.secret).await?;
        let gone = || Refusal::Wrong("service account token has been invalidated".into());
        let secret = secret.ok_or_else(gone)?;
        if !text(&secret, "/metadata/deletionTimestamp").is_empty() {
            return Err(gone());
        }
        if super::bootstrap::data(&secret, "token").as_deref() != Some(token) {
            return Err("service account token does not match server's copy".to_owned().into());
        }
        Ok(())
    }

    async fn check_account(&self, claims: &Claims) -> Result<(), Refusal> {
        let account = self.objects.get("", "serviceaccounts", &claims.namespace, &claims.account).await?;
        let Some(account) = account else {
            let (namespace, name) = (&claims.namespace, &claims.account);
            return Err(format!("service account {namespace}/{name} has been deleted").into());
        };
        if !text(&account, "/metadata/deletionTimestamp").is_empty() {
            return Err("service account has been deleted".to_owned().into());
        }
        if text(&account, "/metadata/uid") != claims.uid {
            let (has, wanted) = (text(&account, "/metadata/uid"), &claims.uid);
            return Err(format!("service account UID ({has}) does not match claim ({wanted})").into());
        }
        Ok(())
    }
}
