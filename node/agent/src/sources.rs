//! Fetches what a pod's volumes and environment are made of: ConfigMaps, Secrets, ServiceAccount tokens.

use carrack_volumes::{Sources, TokenKey, Volumes};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use crate::objects::Following;
use crate::shared::Shared;

/// At least so long lies between two renewals of a pod's tokens, whatever its clock and theirs say.
const RENEW_APART: SignedDuration = SignedDuration::from_secs(10);

/// All that the pod names, as it is now. Tokens of `before` are kept until four fifths of their life have passed.
pub(crate) async fn gather(
    shared: &Shared,
    pod: &Pod,
    following: &mut Following,
    before: &Sources,
) -> Result<Sources, String> {
    let needs = Volumes::needs(pod);
    following.set(&shared.objects, pod.metadata.namespace.as_deref().unwrap_or_default(), &needs);
    let tokens = try_join_all(needs.tokens.iter().map(|key| token(shared, pod, key, before)));
    let ((config_maps, secrets), tokens) = tokio::try_join!(following.known(), tokens)?;
    Ok(Sources {
        config_maps,
        secrets,
        tokens: tokens.into_iter().collect(),
        allocatable: shared.machine.allocatable().clone(),
    })
}

/// When the tokens have to be asked for again; none if there are no tokens.
pub(crate) fn renew_at(sources: &Sources, now: Timestamp) -> Option<Timestamp> {
    let soonest = sources.tokens.values().map(|token| stale_at(token).unwrap_or(now)).min()?;
    Some(soonest.max(now + RENEW_APART))
}

async fn token(
    shared: &Shared,
    pod: &Pod,
    key: &TokenKey,
    before: &Sources,
) -> Result<(TokenKey, String), String> {
    if let Some(token) = before.tokens.get(key).filter(|token| is_fresh(token, Timestamp::now())) {
        return Ok((key.clone(), token.clone()));
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: if key.audience.is_empty() { Vec::new() } else { vec![key.audience.clone()] },
            expiration_seconds: Some(key.expiration_seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let answer =
        api.create_token_request(account, &PostParams::default(), &request).await.map_err(|error| {
            format!("failed to fetch a token for service account {namespace}/{account}: {error}")
        })?;
    let token = answer.status.map(|s| s.token).filter(|t| !t.is_empty());
    let token = token.ok_or_else(|| "the API server's token request answer holds no token".to_owned())?;
    Ok((key.clone(), token))
}

/// Whether a token need not be asked for again yet.
fn is_fresh(token: &str, now: Timestamp) -> bool {
    stale_at(token).is_some_and(|at| now < at)
}

/// When four fifths of a token's life, or a day of it, have passed, as with the kubelet.
fn stale_at(token: &str) -> Option<Timestamp> {
    let (issued, expires) = life(token)?;
    let life = expires.duration_since(issued);
    issued.checked_add((life * 4 / 5).min(SignedDuration::from_hours(24))).ok()
}

/// When a JWT was issued and when it expires, as it says itself.
fn life(token: &str) -> Option<(Timestamp, Timestamp)> {
    use base64::Engine;
    let payload = token.split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&json).ok()?;
    let at = |name: &str| Timestamp::from_second(claims.get(name)?.as_i64()?).ok();
    Some((at("iat")?, at("exp")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    fn jwt(issued: i64, expires: i64) -> String {
        let claims = format!("{{\"iat\":{issued},\"exp\":{expires}}}");
        format!("e30.{}.sig", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_fresh(&jwt(1000, 4600), at(1000 + 2879)));
        assert!(!is_fresh(&jwt(1000, 4600), at(1000 + 2881)));
        assert!(!is_fresh(&jwt(1000, 10_000_000), at(1000 + 86_401)));
        assert!(!is_fresh("nonsense", at(0)));
        let tokens = |list: &[String]| {
            let key = |n: i64| TokenKey { audience: String::new(), expiration_seconds: n };
            let tokens = list.iter().zip(1..).map(|(token, n)| (key(n), token.clone())).collect();
            Sources { tokens, ..Sources::default() }
        };
        assert_eq!(renew_at(&tokens(&[jwt(0, 1000), jwt(0, 500)]), at(7)), Some(at(400)));
        assert_eq!(renew_at(&tokens(&["nonsense".to_owned()]), at(7)), Some(at(17)));
        assert_eq!(renew_at(&tokens(&[]), at(7)), None);
    }
}
