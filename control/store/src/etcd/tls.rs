//! TLS for clients of the store: they show a certificate of the given authority, or are turned away.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("cannot read the {what} as PEM: {source}")]
    Pem {
        /// Which one.
        what: &'static str,
        /// What is wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// The parts do not fit together.
    #[error("certificate, key and authority cannot be used: {0}")]
    Unusable(String),
}

/// TLS with the server's certificate chain and key, for clients with certificates that `client_authority` signed. All
/// in PEM.
pub fn tls_config(chain: &[u8], key: &[u8], client_authority: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |what| move |source| TlsError::Pem { what, source };
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let certificates = |bytes, what| -> Result<Vec<_>, TlsError> {
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(pem(what))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(client_authority, "clients' authority")? {
        roots.add(root).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("key"))?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let chain = certificates(chain, "certificate")?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
