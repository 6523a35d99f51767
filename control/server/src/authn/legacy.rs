//! Tokens that live in Secrets of type `kubernetes.io/service-account-token`: without an end, and good as long as the
//! Secret and its ServiceAccount are there.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::claims;
use super::judge::{Accepted, Refusal, TokenJudge, among};
use super::jws;
use super::notes::{Counts, UsedSecret, count, note};
use super::objects::{Objects, text};
use crate::UserInfo;
use crate::pki::{PkiError, ServiceAccountKeys};

/// The type of the Secrets.
pub(crate) const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// What such a Secret says of its account.
pub(crate) const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
pub(crate) const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// When the token was last used, and since when it is no longer good since it was not.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Upstream's words.
const GENERATED: &str = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of \
                         auto-generated secret-based tokens.";
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
    pub(super) counts: Arc<Counts>,
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
        note(|notes| notes.annotations.push(("authentication.k8s.io/legacy-token", claims.sub.clone())));
        count(&self.counts.legacy);
        let secret = self.check_secret(&claims, token).await?;
        let account = self.check_account(&claims).await?;
        self.track(&claims, &secret, &account, Timestamp::now())?;
        let mut user = UserInfo::new(claims.sub, []);
        user.groups.splice(0..0, claims::group_names(&claims.namespace));
        user.uid = claims.uid;
        Ok(Some(Accepted { user, audiences: among(audiences, &self.own_audiences)? }))
    }
}

impl LegacyTokens {
    async fn check_secret(&self, claims: &Claims, token: &str) -> Result<Arc<Value>, Refusal> {
        let secret = self.objects.get("", "secrets", &claims.namespace, &claims.secret).await?;
        let gone = || Refusal::Wrong("service account token has been invalidated".into());
        let secret = secret.ok_or_else(gone)?;
        if !text(&secret, "/metadata/deletionTimestamp").is_empty() {
            return Err(gone());
        }
        if super::bootstrap::data(&secret, "token").as_deref() != Some(token) {
            return Err("service account token does not match server's copy".to_owned().into());
        }
        Ok(secret)
    }

    /// Tells that the token is used, and refuses one that was marked as given up.
    fn track(&self, claims: &Claims, secret: &Value, account: &Value, now: Timestamp) -> Result<(), Refusal> {
        let (namespace, name) = (&claims.namespace, &claims.secret);
        if is_due(label(secret, LAST_USED), now) {
            let uid = text(secret, "/metadata/uid").to_owned();
            let used = UsedSecret { namespace: namespace.clone(), name: name.clone(), uid };
            note(|notes| notes.used = Some(used));
        }
        let annotate = |key, value| note(|notes| notes.annotations.push((key, value)));
        if !label(secret, INVALID_SINCE).is_empty() {
            annotate("authentication.k8s.io/legacy-token-invalidated", format!("{name}/{namespace}"));
            count(&self.counts.invalidated);
            return Err(format!(
                "the token in secret {namespace}/{name} for service account {namespace}/{} has been marked invalid. Use \
                 tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
                 '{INVALID_SINCE}' label from the secret to temporarily allow use of this token",
                claims.account
            )
            .into());
        }
        let listed = account.get("secrets").and_then(Value::as_array).into_iter().flatten();
        if listed.into_iter().any(|reference| text(reference, "/name") == name) {
            note(|notes| notes.warnings.push(GENERATED));
            annotate("authentication.k8s.io/legacy-token-autogenerated-secret", name.clone());
            count(&self.counts.generated);
        } else {
            annotate("authentication.k8s.io/legacy-token-manual-secret", name.clone());
            count(&self.counts.manual);
        }
        Ok(())
    }

    async fn check_account(&self, claims: &Claims) -> Result<Arc<Value>, Refusal> {
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
        Ok(account)
    }
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    let labels = object.pointer("/metadata/labels");
    labels.and_then(|all| all.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// The date of a time, as the labels have it.
pub(crate) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// Whether a Secret that says when it was used is to say that it is today. Another server's clock may be a little ahead.
fn is_due(said: &str, now: Timestamp) -> bool {
    let tomorrow = now.checked_add(SignedDuration::from_hours(24)).map(date);
    said != date(now) && tomorrow.is_ok_and(|tomorrow| said != tomorrow)
}
