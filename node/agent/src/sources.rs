//! Fetches what a pod's volumes and environment are made of: ConfigMaps, Secrets, ServiceAccount tokens.

use carrack_volumes::{Needs, Sources, TokenKey};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;

use crate::shared::Shared;

/// All that `needs` names, as it is now. Tokens of `before` are kept until four fifths of their life have passed.
pub(crate) async fn gather(
    shared: &Shared,
    pod: &Pod,
    needs: &Needs,
    before: &Sources,
) -> Result<Sources, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(shared.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), namespace);
    let config_maps = try_join_all(needs.config_maps.iter().map(|name| fetch(&maps, name)));
    let secrets = try_join_all(needs.secrets.iter().map(|name| fetch(&secrets, name)));
    let tokens = try_join_all(needs.tokens.iter().map(|key| token(shared, pod, key, before)));
    let (config_maps, secrets, tokens) = tokio::try_join!(config_maps, secrets, tokens)?;
    Ok(Sources {
        config_maps: config_maps.into_iter().collect(),
        secrets: secrets.into_iter().collect(),
        tokens: tokens.into_iter().collect(),
        allocatable: shared.machine.allocatable().clone(),
    })
}

async fn fetch<K>(api: &Api<K>, name: &str) -> Result<(String, Option<K>), String>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let found = api.get_opt(name).await.map_err(|error| format!("failed to fetch \"{name}\": {error}"))?;
    Ok((name.to_owned(), found))
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

/// Whether less than four fifths of a token's life, and less than a day of it, have passed.
fn is_fresh(token: &str, now: Timestamp) -> bool {
    let Some((issued, expires)) = life(token) else { return false };
    let life = expires.duration_since(issued);
    let age = now.duration_since(issued);
    age < (life * 4 / 5).min(SignedDuration::from_hours(24))
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
    }
}
