//! Key sets (RFC 7517) and the algorithms that tokens are signed with (RFC 7518, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// What tokens may be signed with.
pub(super) const ALGORITHMS: &[&str] =
    &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
/// Most keys of a set that are looked at.
const MOST_KEYS: usize = 128;

/// A key as its issuer publishes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Published {
    kty: String,
    kid: String,
    alg: String,
    r#use: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: String,
    /// The one algorithm that it is for, where the issuer says so.
    algorithm: String,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The keys of an issuer at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set. Keys that are for something else, or of a kind that is not known, are passed over.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let published = set.keys.into_iter().take(MOST_KEYS);
        let keys = published.filter_map(|key| Key::read(serde_json::from_value(key).ok()?));
        Ok(Self(keys.collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key of the set signed `message`. A token that names its key is checked with that one alone.
    pub(super) fn verifies(
        &self,
        id: Option<&str>,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.0
            .iter()
            .filter(|key| id.is_none_or(|id| id.is_empty() || key.id == id))
            .any(|key| key.verifies(algorithm, message, signature))
    }
}

impl Key {
    fn read(key: Published) -> Option<Self> {
        if !matches!(key.r#use.as_str(), "" | "sig") {
            return None;
        }
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty());
        let point = |size: usize| {
            let mut point = vec![4];
            for coordinate in [&key.x, &key.y] {
                let bytes = number(coordinate)?;
                point.resize(point.len() + size.checked_sub(bytes.len())?, 0);
                point.extend(bytes);
            }
            Some(point)
        };
        let material = match (key.kty.as_str(), key.crv.as_str()) {
            ("RSA", _) => Material::Rsa { n: number(&key.n)?, e: number(&key.e)? },
            ("EC", "P-256") => Material::P256(point(32)?),
            ("EC", "P-384") => Material::P384(point(48)?),
            ("EC", "P-521") => Material::P521(point(66)?),
            ("OKP", "Ed25519") => Material::Ed25519(number(&key.x)?),
            _ => return None,
        };
        Some(Self { id: key.kid, algorithm: key.alg, material })
    }

    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithm.is_empty() && self.algorithm != algorithm {
            return false;
        }
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, _) => {
                let Some(parameters) = rsa(algorithm) else { return false };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Material::P256(point), "ES256") => ecdsa(&ECDSA_P256_SHA256_FIXED, point, message, signature),
            (Material::P384(point), "ES384") => ecdsa(&ECDSA_P384_SHA384_FIXED, point, message, signature),
            (Material::P521(point), "ES512") => p521(point, message, signature),
            (Material::Ed25519(key), "EdDSA") => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// The parameters of an RSA algorithm; keys have 2048 bits at least.
fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn ecdsa(how: &'static EcdsaVerificationAlgorithm, point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(how, point).verify(message, signature).is_ok()
}

/// ring has no P-521.
fn p521(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    use p521::ecdsa::signature::Verifier;
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point);
    let signature = p521::ecdsa::Signature::from_slice(signature);
    match (key, signature) {
        (Ok(key), Ok(signature)) => key.verify(message, &signature).is_ok(),
        _ => false,
    }
}
