//! OpenID Connect discovery: how others find the keys that check ServiceAccount tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::pki::ServiceAccountKeys;

/// `/.well-known/openid-configuration`. `server` is the URL under which the keys can be fetched.
pub(super) fn configuration(issuer: &str, server: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{}/openid/v1/jwks", server.trim_end_matches('/')),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// `/openid/v1/jwks`: the public keys (RFC 7517; RFC 7518, 6.2.1).
pub(super) fn key_set(keys: &ServiceAccountKeys) -> Value {
    let keys: Vec<Value> = keys
        .verifying()
        .iter()
        .map(|key| {
            let (x, y) = key.coordinates();
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
            })
        })
        .collect();
    json!({ "keys": keys })
}
