//! JSON Web Signatures (RFC 7515) in their compact form, with ES256 alone.
//!
//! There is one algorithm and one set of keys, so that a token's head decides nothing but which of them to try.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::pki::{PkiError, ServiceAccountKeys};

/// Largest token looked at. Ours have about 1 KiB; audiences and names that users choose may make it several.
pub(super) const MAX_TOKEN_BYTES: usize = 16 << 10;
const ALGORITHM: &str = "ES256";

/// Why a token was not signed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwsError {
    #[error("the token is not a JSON Web Token")]
    Malformed,
    #[error("the token is signed with an algorithm other than ES256")]
    Algorithm,
    #[error("the token is not signed by a key of this cluster")]
    Signature,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    /// Extensions that must be understood; none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// `payload` signed by the current key.
pub(super) fn sign(keys: &ServiceAccountKeys, payload: &[u8]) -> Result<String, PkiError> {
    let header = Header { alg: ALGORITHM.into(), kid: Some(keys.signing_id().into()), crit: None };
    let header = serde_json::to_vec(&header).map_err(|error| PkiError::Sign(error.to_string()))?;
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = keys.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// The payload of a token that one of `keys` signed.
pub(super) fn verify(keys: &ServiceAccountKeys, token: &str) -> Result<Vec<u8>, JwsError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwsError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwsError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(JwsError::Malformed)?;
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| JwsError::Malformed)?;
    if header.alg != ALGORITHM {
        return Err(JwsError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(JwsError::Malformed);
    }
    let signature = decode(signature)?;
    // A key id narrows the choice; a token without one may be any key's.
    keys.verifying()
        .iter()
        .filter(|key| header.kid.as_ref().is_none_or(|id| *id == key.id))
        .any(|key| key.verifies(signed.as_bytes(), &signature))
        .then_some(())
        .ok_or(JwsError::Signature)?;
    decode(payload)
}

/// The issuer that a token names. Nothing has been checked: it says only who is to judge the token.
pub(super) fn untrusted_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice::<Named>(&decode(payload).ok()?).ok().map(|named| named.iss)
}

fn decode(text: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwsError::Malformed)
}
