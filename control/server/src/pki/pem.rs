//! PEM (RFC 7468): certificates and public keys between their text and their bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

/// Characters per line, as RFC 7468 has it.
const LINE: usize = 64;

/// A certificate as PEM.
pub(super) fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

/// The first certificate of a PEM text.
pub(super) fn first_certificate(text: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(text.as_bytes()).ok()
}

/// Every certificate of a PEM text; `None` when one is malformed or there is none.
pub(super) fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty())
}

/// Every public key (SubjectPublicKeyInfo) of a PEM text; `None` when one is malformed or there is none.
pub(super) fn public_keys(text: &str) -> Option<Vec<SubjectPublicKeyInfoDer<'static>>> {
    let all: Result<Vec<_>, _> = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty())
}

fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
