//! Bootstrap tokens: those whose time is over are removed (those that servers join with too), and `cluster-info` carries a signature by each that is for
//! signing, so that a machine that holds one can believe the cluster's address and authority before it knows anybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carrack_store::Event;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use super::{CareError, Job, list, mentions};
use crate::authn::bootstrap::{NAME_PREFIX, NAMESPACE, SECRET_TYPE, data, is_expired, split};
use crate::authn::text;
use crate::join;
use crate::server::ApiServer;

const PUBLIC_NAMESPACE: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

pub(super) struct BootstrapTokens;

#[async_trait::async_trait]
impl Job for BootstrapTokens {
    fn name(&self) -> &'static str {
        "bootstrap tokens"
    }

    fn watched(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "secrets"), ("", "configmaps")]
    }

    fn concerns(&self, event: &Event) -> bool {
        mentions(event, SECRET_TYPE)
            || mentions(event, join::SECRET_TYPE)
            || event.kv.key.ends_with(b"/kube-public/cluster-info")
    }

    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError> {
        let now = Timestamp::now();
        let mut tokens = list(api, "", "secrets", NAMESPACE).await?;
        tokens.retain(|secret| matches!(text(secret, "/type"), SECRET_TYPE | join::SECRET_TYPE));
        for secret in tokens.iter().filter(|secret| is_expired(secret, now)) {
            let name = text(secret, "/metadata/name");
            tracing::info!(name, "the token's time is over; it is removed");
            api.remove(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}"), secret).await?;
        }
        tokens.retain(|secret| !is_expired(secret, now));
        let next = tokens.iter().filter_map(|secret| ends_in(secret, now)).min();
        tokens.retain(|secret| text(secret, "/type") == SECRET_TYPE);
        sign(api, &tokens).await?;
        Ok(next)
    }
}

/// How long a token still has.
fn ends_in(secret: &Value, now: Timestamp) -> Option<Duration> {
    let until: Timestamp = data(secret, "expiration")?.parse().ok()?;
    until.duration_since(now).try_into().ok()
}

/// Brings the signatures in `cluster-info` up to date, where there is one.
async fn sign(api: &ApiServer, tokens: &[Arc<Value>]) -> Result<(), CareError> {
    let maps = list(api, "", "configmaps", PUBLIC_NAMESPACE).await?;
    let Some(info) = maps.iter().find(|map| text(map, "/metadata/name") == CLUSTER_INFO) else {
        return Ok(());
    };
    let Some(signed) = with_signatures(info, tokens) else { return Ok(()) };
    let path = format!("/api/v1/namespaces/{PUBLIC_NAMESPACE}/configmaps/{CLUSTER_INFO}");
    Ok(api.replace(&path, &signed).await?)
}

/// `cluster-info` with the signatures that it should have; `None` when it has them.
fn with_signatures(info: &Value, tokens: &[Arc<Value>]) -> Option<Value> {
    let kubeconfig = text(info, "/data/kubeconfig");
    let mut signatures = BTreeMap::new();
    for secret in tokens {
        let value = |key: &str| data(secret, key).unwrap_or_default();
        let (id, key) = (value("token-id"), value("token-secret"));
        let named = text(secret, "/metadata/name").strip_prefix(NAME_PREFIX) == Some(&id);
        let whole = split(&format!("{id}.{key}")).is_some();
        if named && whole && value("usage-bootstrap-signing") == "true" && !kubeconfig.is_empty() {
            signatures.insert(format!("{SIGNATURE_PREFIX}{id}"), detached(kubeconfig, &id, &key));
        }
    }
    let mut signed = info.clone();
    let fields = signed.get_mut("data")?.as_object_mut()?;
    fields.retain(|key, _| !key.starts_with(SIGNATURE_PREFIX) || signatures.contains_key(key));
    fields.extend(signatures.into_iter().map(|(key, value)| (key, json!(value))));
    (signed != *info).then_some(signed)
}

/// A JSON Web Signature by HMAC-SHA256 without its payload (RFC 7515, appendix F).
fn detached(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let payload = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn token(id: &str, signs: &str) -> Arc<Value> {
        let text = |text: &str| json!(STANDARD.encode(text));
        Arc::new(json!({
            "type": SECRET_TYPE, "metadata": {"name": format!("{NAME_PREFIX}{id}")},
            "data": {
                "token-id": text(id), "token-secret": text("0123456789abcdef"),
                "usage-bootstrap-signing": text(signs),
            },
        }))
    }

    #[test]
    fn the_signature_is_upstreams() {
        // The example of upstream's own documentation of the algorithm.
        let signature = detached("payload", "abcdef", "0123456789abcdef");
        let (header, rest) = signature.split_once("..").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), b"{\"alg\":\"HS256\",\"kid\":\"abcdef\"}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode("payload"));
        hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(rest).unwrap()).unwrap();
    }

    #[test]
    fn signatures_follow_the_tokens() {
        let info = json!({"data": {"kubeconfig": "k", "jws-kubeconfig-gone00": "x"}});
        let signed = with_signatures(&info, &[token("abcdef", "true"), token("ghijkl", "false")]).unwrap();
        let keys: Vec<&String> = signed["data"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", "kubeconfig"]);
        assert_eq!(with_signatures(&signed, &[token("abcdef", "true")]), None);
    }
}
