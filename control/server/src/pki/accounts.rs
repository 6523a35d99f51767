//! The keys of ServiceAccount tokens: one signs, several may check.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{PkiError, files, issue, pem};

/// An uncompressed point on P-256: 0x04, x, y.
const POINT_BYTES: usize = 65;

/// A key that checks tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    /// Names the key in the head of a token: unpadded base64url of the SHA-256 of its SubjectPublicKeyInfo,
    /// as upstream.
    pub id: String,
    point: [u8; POINT_BYTES],
}

impl VerifyingKey {
    /// Whether `signature` (r and s, 32 bytes each) over `message` was made by the private half.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(message, signature).is_ok()
    }

    /// The affine coordinates, 32 bytes each.
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        self.point[1..].split_at(32)
    }

    fn from_spki(der: &[u8]) -> Result<Self, &'static str> {
        let (_, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| "it is not a public key")?;
        let point = <[u8; POINT_BYTES]>::try_from(spki.subject_public_key.data.as_ref())
            .ok()
            .filter(|point| point[0] == 4)
            .ok_or("only ECDSA P-256 keys are supported")?;
        Ok(Self { id: URL_SAFE_NO_PAD.encode(Sha256::digest(der)), point })
    }
}

/// Signs ServiceAccount tokens with the key in `sa.key`; checks them with every key in `sa.pub`.
///
/// To change the key: put the new public key in front of the old one in `sa.pub`, replace `sa.key`, restart,
/// and take the old one out once its tokens have run out.
pub struct ServiceAccountKeys {
    signing: EcdsaKeyPair,
    signing_id: String,
    verifying: Vec<VerifyingKey>,
    random: SystemRandom,
}

impl ServiceAccountKeys {
    pub(super) fn open_or_create(dir: &Path) -> Result<Self, PkiError> {
        let (key_path, public_path) = (dir.join("sa.key"), dir.join("sa.pub"));
        let key = match files::read_key(&key_path)? {
            Some(text) => {
                KeyPair::from_pem(&text).map_err(|error| PkiError::malformed(&key_path, error.to_string()))?
            }
            None => {
                let key = issue::new_key()?;
                files::write(&key_path, &key.serialize_pem())?;
                key
            }
        };
        let spki = key.subject_public_key_info();
        let own = VerifyingKey::from_spki(&spki).map_err(|why| PkiError::malformed(&key_path, why))?;

        let mut verifying = match files::read(&public_path)? {
            Some(text) => parse_public(&public_path, &text)?,
            None => Vec::new(),
        };
        if !verifying.contains(&own) {
            // Missing (first start), or the key was replaced by hand: its tokens must be accepted.
            let old = files::read(&public_path)?.unwrap_or_default();
            files::write(&public_path, &(key.public_key_pem() + &old))?;
            verifying.insert(0, own.clone());
        }
        Self::new(&key, own, verifying).map_err(|why| PkiError::malformed(&key_path, why))
    }

    fn new(key: &KeyPair, own: VerifyingKey, verifying: Vec<VerifyingKey>) -> Result<Self, String> {
        let random = SystemRandom::new();
        let signing =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der(), &random)
                .map_err(|error| error.to_string())?;
        Ok(Self { signing, signing_id: own.id, verifying, random })
    }

    /// Fresh keys that are on no disk, for tests and short-lived servers.
    pub fn ephemeral() -> Result<Self, PkiError> {
        let key = issue::new_key()?;
        let own = VerifyingKey::from_spki(&key.subject_public_key_info())
            .map_err(|why| PkiError::Sign(why.into()))?;
        Self::new(&key, own.clone(), vec![own]).map_err(PkiError::Sign)
    }

    /// The id of the key that signs.
    pub fn signing_id(&self) -> &str {
        &self.signing_id
    }

    /// The keys that check.
    pub fn verifying(&self) -> &[VerifyingKey] {
        &self.verifying
    }

    /// The signature of `message`: r and s, 32 bytes each (JWS's ES256, RFC 7518, 3.4).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        self.signing
            .sign(&self.random, message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| PkiError::Sign("the system's source of randomness failed".into()))
    }
}

impl std::fmt::Debug for ServiceAccountKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccountKeys").field("signing_id", &self.signing_id).finish_non_exhaustive()
    }
}

fn parse_public(path: &Path, text: &str) -> Result<Vec<VerifyingKey>, PkiError> {
    pem::public_keys(text)
        .ok_or_else(|| PkiError::malformed(path, "it holds no readable public key"))?
        .iter()
        .map(|spki| VerifyingKey::from_spki(spki).map_err(|why| PkiError::malformed(path, why)))
        .collect()
}
