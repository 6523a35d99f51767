//! Tokens, certificates and requests for them, of whoever claims to be somebody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};
use sha2::{Digest, Sha256};

pub(crate) use super::jwt::fuzzing::{claim_seeds, claims, key_seeds, keys};
use super::{bootstrap, jws, jwt, review_webhook, x509};
use crate::pki::Requested;

/// An issuer's token, and a bootstrap token.
const TOKENS: [&str; 2] = [
    "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSIsImF1ZCI6IngiLCJleHAiOjQwMDAwMDAwMDAsInN1YiI6InUifQ.AA",
    "abcdef.0123456789abcdef",
];

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    TOKENS.iter().map(|token| token.as_bytes().to_vec()).collect()
}

/// A bearer token, before anything in it is believed.
pub(crate) fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (jws::untrusted_issuer(text), bootstrap::split(text));
    jwt::fuzzing::token(text);
}

/// A certificate and a request for one, of a user with two groups.
pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    let made = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["a.example".to_owned()])?;
        let words =
            [(DnType::CommonName, "u"), (DnType::OrganizationName, "g"), (DnType::OrganizationName, "h")];
        words.into_iter().for_each(|(kind, word)| params.distinguished_name.push(kind, word));
        let request = params.serialize_request(&key)?.der().to_vec();
        Ok::<_, rcgen::Error>(vec![params.self_signed(&key)?.der().to_vec(), request])
    };
    made().expect("they can be made")
}

/// The DER of either.
pub(crate) fn certificate(data: &[u8]) {
    let _ = x509::read(data, &Sha256::digest(data));
    let marks = ["-----BEGIN CERTIFICATE REQUEST-----\n", "\n-----END CERTIFICATE REQUEST-----\n"];
    let _ = Requested::parse(marks.join(&STANDARD.encode(data)).as_bytes());
}

/// What a webhook answers that judges tokens.
pub(crate) fn reviewed(answer: &serde_json::Value) {
    let audiences = ["x".to_owned()];
    let _ = review_webhook::judged(answer, &audiences, &audiences);
}
