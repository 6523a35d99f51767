//! Bearer tokens that another server judges: it is asked by TokenReview (`authentication.k8s.io/v1`), and what it says
//! is remembered for a while.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::judge::{Accepted, Refusal, TokenJudge, among};
use crate::UserInfo;
use crate::outbound::Remote;
use crate::ttl::TtlCache;

/// Answers remembered.
const REMEMBERED: usize = 4096;

/// How the webhook is asked.
#[derive(Clone)]
pub struct TokenWebhook {
    /// Where it is.
    pub target: Remote,
    /// `v1` or `v1beta1` of TokenReview.
    pub version: String,
    /// How long an answer is remembered.
    pub ttl: Duration,
}

pub(super) struct ReviewWebhook {
    options: TokenWebhook,
    own_audiences: Vec<String>,
    known: TtlCache<[u8; 32], Result<Option<Accepted>, String>>,
}

/// The `status` of an answer.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: Named,
    audiences: Option<Vec<String>>,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    username: String,
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

impl ReviewWebhook {
    pub(super) fn new(options: TokenWebhook, own_audiences: Vec<String>) -> Self {
        Self { options, own_audiences, known: TtlCache::new(REMEMBERED) }
    }

    async fn ask(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Result<Option<Accepted>, String>, Refusal> {
        let wanted = if audiences.is_empty() { &self.own_audiences } else { audiences };
        let review = json!({
            "apiVersion": format!("authentication.k8s.io/{}", self.options.version),
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token, "audiences": wanted},
        });
        let answer = self.options.target.post(&review).await.map_err(|error| {
            tracing::warn!(%error, "the authentication webhook did not answer");
            error.to_string()
        })?;
        Ok(judged(&answer, wanted, &self.own_audiences))
    }
}

/// What an answer means.
pub(super) fn judged(answer: &Value, wanted: &[String], own: &[String]) -> Result<Option<Accepted>, String> {
    let status = answer.get("status").cloned().unwrap_or_default();
    let status: Status = serde_json::from_value(status)
        .map_err(|error| format!("the webhook's answer cannot be read: {error}"))?;
    if !status.authenticated {
        return if status.error.is_empty() { Ok(None) } else { Err(status.error) };
    }
    let named = status.audiences.unwrap_or_default();
    // A webhook that knows nothing of audiences speaks for the API server alone.
    let valid_for = if named.is_empty() { own } else { &named };
    let audiences = among(wanted, valid_for).map_err(|error| error.to_string())?;
    let mut user = UserInfo {
        name: status.user.username,
        uid: status.user.uid,
        groups: status.user.groups.unwrap_or_default(),
        extra: status.user.extra.unwrap_or_default(),
    };
    if !user.in_group("system:authenticated") {
        user.groups.push("system:authenticated".into());
    }
    Ok(Some(Accepted { user, audiences }))
}

#[async_trait::async_trait]
impl TokenJudge for ReviewWebhook {
    async fn judge(&self, token: &str, audiences: &[String]) -> Result<Option<Accepted>, Refusal> {
        // Not the token itself: what is remembered must not be worth stealing.
        let key: [u8; 32] = Sha256::digest(json!([token, audiences]).to_string().as_bytes()).into();
        if let Some(known) = self.known.get(&key) {
            return known.map_err(Refusal::Wrong);
        }
        let answer = self.ask(token, audiences).await?;
        self.known.put(key, answer.clone(), self.options.ttl);
        answer.map_err(Refusal::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        let (api, vault) = (vec!["api".to_owned()], vec!["vault".to_owned()]);
        let said = |status: Value, wanted: &[String]| judged(&json!({ "status": status }), wanted, &api);
        let user = json!({"username": "jane", "uid": "7", "groups": ["dev"], "extra": {"k": ["v"]}});
        let found = said(json!({"authenticated": true, "user": user}), &api).unwrap().unwrap();
        assert_eq!(found.user.groups, ["dev", "system:authenticated"]);
        assert_eq!((found.user.extra["k"].as_slice(), found.audiences), (&["v".to_owned()][..], api.clone()));
        assert!(said(json!({"authenticated": true, "user": user}), &vault).is_err(), "not for the vault");
        let named = json!({"authenticated": true, "user": user, "audiences": ["vault", "x"]});
        assert_eq!(said(named.clone(), &vault).unwrap().unwrap().audiences, vault);
        assert!(said(named, &api).is_err(), "for the vault alone");
        assert_eq!(said(json!({"authenticated": false}), &api), Ok(None));
        assert_eq!(said(json!({"error": "stolen"}), &api), Err("stolen".into()));
        assert!(said(json!({"authenticated": "yes"}), &api).is_err());
    }
}
