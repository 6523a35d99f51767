//! Tokens that let a host join: `<id>.<secret>.<hash of the authority's key>`.

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rand::Rng;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authn::bootstrap::{data, is_expired};

/// The namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
/// Their type.
pub const SECRET_TYPE: &str = "carrack.dev/join-token";
/// What begins their names; the token's id follows.
const NAME_PREFIX: &str = "carrack-join-";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 6;
/// 36 to the 32nd: more than 160 bits.
const SECRET_LENGTH: usize = 32;

/// What a token lets a host become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A member of the control plane.
    Server,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
        }
    }
}

/// Why a text is no token, or no token can be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of one.
    #[error("this is no token; `carrack token create` prints one, with the command that takes it")]
    Form,
    /// The authority's certificate cannot be read.
    #[error("the cluster's authority is no certificate")]
    Authority,
}

/// A token as its bearer has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Names its Secret.
    pub id: String,
    secret: String,
    /// SHA-256 of the public key of the cluster's authority, in hex.
    pub authority: String,
}

impl Token {
    /// A new token for a cluster with this authority (DER).
    pub fn generate(authority: &[u8]) -> Result<Self, TokenError> {
        let authority = key_hash(authority)?;
        Ok(Self { id: random_text(ID_LENGTH), secret: random_text(SECRET_LENGTH), authority })
    }

    /// Id and secret: what the cluster is shown.
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The Secret that makes the cluster know the token until `expires`. It does not hold the token.
    pub fn to_secret(&self, role: Role, expires: Timestamp) -> Value {
        let encoded = |text: String| Value::from(STANDARD.encode(text));
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret_name(&self.id), "namespace": NAMESPACE},
            "type": SECRET_TYPE,
            "data": {
                "role": encoded(role.name().to_owned()),
                "secret-sha256": encoded(digest(self.secret.as_bytes())),
                "expiration": encoded(expires.to_string()),
            },
        })
    }
}

/// The name of a token's Secret.
pub(super) fn secret_name(id: &str) -> String {
    format!("{NAME_PREFIX}{id}")
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.authority)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (shown, authority) = text.trim().rsplit_once('.').ok_or(TokenError::Form)?;
        let (id, secret) = split(shown).ok_or(TokenError::Form)?;
        let is_hash = authority.len() == 64 && authority.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash {
            return Err(TokenError::Form);
        }
        Ok(Token { id: id.to_owned(), secret: secret.to_owned(), authority: authority.to_ascii_lowercase() })
    }
}

/// Id and secret of what a joiner shows.
pub(super) fn split(shown: &str) -> Option<(&str, &str)> {
    let (id, secret) = shown.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| LETTERS.contains(&b));
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret))
        .then_some((id, secret))
}

/// Whether this Secret is that of a token with this secret, for this role, and its time is not over.
pub(super) fn admits(stored: &Value, secret: &str, role: Role, now: Timestamp) -> bool {
    let usable = stored["type"] == SECRET_TYPE && stored["metadata"]["deletionTimestamp"].is_null();
    // Digests are compared, so that the time that it takes says nothing of the secret.
    let same = data(stored, "secret-sha256").is_some_and(|kept| kept == digest(secret.as_bytes()));
    usable && same && data(stored, "role").as_deref() == Some(role.name()) && !is_expired(stored, now)
}

/// SHA-256 of the public key (SubjectPublicKeyInfo) of an authority in PEM, in hex; kubeadm's way of naming one.
pub fn authority_hash(pem: &str) -> Result<String, TokenError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| TokenError::Authority)?;
    key_hash(&der)
}

fn key_hash(der: &[u8]) -> Result<String, TokenError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| TokenError::Authority)?;
    Ok(digest(certificate.public_key().raw))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn random_text(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn token() -> Token {
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        Token::generate(authority.der()).unwrap()
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = token();
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        let text = token.to_string();
        for wrong in ["", "a.b.c", &text[1..], &text[..text.len() - 1], &text.replace('.', ":")] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_admits_its_token_alone_and_for_its_time() {
        let (token, other, now) = (token(), token(), Timestamp::now());
        let stored = token.to_secret(Role::Server, now + Duration::from_secs(60));
        assert!(!stored.to_string().contains(&token.secret), "the token itself is not kept");
        assert!(admits(&stored, &token.secret, Role::Server, now));
        assert!(!admits(&stored, &other.secret, Role::Server, now));
        assert!(!admits(&stored, &token.secret, Role::Server, now + Duration::from_secs(60)));
        for (pointer, value) in [
            ("/type", json!("Opaque")),
            ("/data/role", json!(STANDARD.encode("node"))),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ] {
            let mut changed = stored.clone();
            changed["metadata"]["deletionTimestamp"] = Value::Null;
            *changed.pointer_mut(pointer).unwrap() = value;
            assert!(!admits(&changed, &token.secret, Role::Server, now), "{pointer}");
        }
    }
}
