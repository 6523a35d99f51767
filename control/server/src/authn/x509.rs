//! Client certificates: the common name is the user, each organisation a group.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use crate::UserInfo;

/// Certificates remembered as verified. Beyond that all are forgotten and verified again: the limit only bounds
/// memory (about 1 KiB each), and clusters have far fewer clients.
const REMEMBERED: usize = 4096;

/// Why a client certificate proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not signed by the cluster's authority, expired, not valid yet, or for another use.
    #[error("x509: {0}")]
    Untrusted(rustls::Error),
    /// The certificate cannot be read.
    #[error("x509: the certificate is malformed")]
    Malformed,
    /// No common name, or several.
    #[error("x509: the certificate must have exactly one common name, which is the user")]
    CommonName,
}

/// Judges client certificates.
pub struct X509 {
    verifier: Arc<dyn ClientCertVerifier>,
    /// By the SHA-256 of the leaf. TLS resends the certificate with each connection, not with each request, and
    /// a signature check costs more than most requests.
    known: Mutex<HashMap<[u8; 32], Known>>,
}

#[derive(Clone)]
pub(super) struct Known {
    user: Arc<UserInfo>,
    /// Seconds since the epoch between which the certificate holds.
    valid: std::ops::RangeInclusive<i64>,
}

impl X509 {
    /// `verifier` knows the authority; see [`crate::pki::Pki::client_verifier`].
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self { verifier, known: Mutex::new(HashMap::new()) }
    }

    /// The user that `chain` (leaf first) proves at `now`.
    pub fn identify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<UserInfo>, CertificateError> {
        let (leaf, intermediates) = chain.split_first().ok_or(CertificateError::Malformed)?;
        let fingerprint: [u8; 32] = Sha256::digest(leaf).into();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if let Some(known) = self.known.lock().get(&fingerprint)
            && known.valid.contains(&seconds)
        {
            return Ok(Arc::clone(&known.user));
        }
        self.verifier.verify_client_cert(leaf, intermediates, now).map_err(CertificateError::Untrusted)?;
        let known = read(leaf, &fingerprint)?;
        let user = Arc::clone(&known.user);
        let mut remembered = self.known.lock();
        // One that was verified through an intermediate may outlive it: only what the leaf alone decides is kept.
        if intermediates.is_empty() {
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert(fingerprint, known);
        }
        Ok(user)
    }
}

pub(super) fn read(leaf: &[u8], fingerprint: &[u8]) -> Result<Known, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::Malformed)?;
    let subject = certificate.subject();
    let mut names = texts(subject.iter_common_name())?;
    let groups = texts(subject.iter_organization())?;
    let name = names.pop().filter(|name| !name.is_empty() && names.is_empty());
    let mut user = UserInfo::new(
        name.ok_or(CertificateError::CommonName)?,
        groups.iter().map(String::as_str).filter(|group| !group.is_empty()),
    );
    // Tells in audits which of a user's certificates it was, as upstream does.
    let id = fingerprint.iter().fold("X509SHA256=".to_owned(), |id, byte| id + &format!("{byte:02x}"));
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
    let validity = certificate.validity();
    Ok(Known {
        user: Arc::new(user),
        valid: validity.not_before.timestamp()..=validity.not_after.timestamp(),
    })
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<Vec<String>, CertificateError> {
    attributes
        .map(|attribute| attribute.as_str().map(str::to_owned).map_err(|_| CertificateError::Malformed))
        .collect()
}
