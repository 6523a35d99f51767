//! rustls configurations on ring: the API server's front, and its client towards the nodes.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::issue::KeyMaterial;
use super::{PkiError, pem};

/// A certificate that can be exchanged while connections are served: those that come later get the new one.
#[derive(Debug)]
pub(super) struct LiveKey(RwLock<Arc<CertifiedKey>>);

impl LiveKey {
    pub(super) fn new(material: &KeyMaterial) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self(RwLock::new(certified(material)?))))
    }

    pub(super) fn replace(&self, material: &KeyMaterial) -> Result<(), PkiError> {
        *self.0.write() = certified(material)?;
        Ok(())
    }
}

impl ResolvesServerCert for LiveKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl ResolvesClientCert for LiveKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The one crypto provider, named explicitly so that no process-wide default has to be installed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// Checks client certificates against the authorities in `ca_pem`; a client without one is let in, for it may
/// bring a token.
pub(super) fn client_verifier(ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| PkiError::Tls(error.to_string()))
}

/// The API server's side of TLS: HTTP/2 and HTTP/1.1, client certificates optional.
pub(super) fn server(ca_pem: &str, key: Arc<LiveKey>) -> Result<Arc<ServerConfig>, PkiError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(PkiError::tls)?
        .with_client_cert_verifier(client_verifier(ca_pem)?)
        .with_cert_resolver(key);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Towards the nodes: HTTP/1.1 only, since upgrades (exec, attach, port-forward) need it.
pub(super) fn node_client(ca_pem: &str, key: Arc<LiveKey>) -> Result<Arc<ClientConfig>, PkiError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(PkiError::tls)?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_cert_resolver(key);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(super) fn roots(ca_pem: &str) -> Result<RootCertStore, PkiError> {
    let mut store = RootCertStore::empty();
    let certificates = pem::certificates(ca_pem)
        .ok_or_else(|| PkiError::Tls("the authority's file holds no certificate".into()))?;
    for certificate in certificates {
        store.add(certificate).map_err(PkiError::tls)?;
    }
    Ok(store)
}

fn certified(material: &KeyMaterial) -> Result<Arc<CertifiedKey>, PkiError> {
    let chain = pem::certificates(&material.cert_pem)
        .ok_or_else(|| PkiError::Tls("no certificate in PEM text".into()))?;
    let key = PrivateKeyDer::from_pem_slice(material.key_pem.as_bytes())
        .map_err(|error| PkiError::Tls(error.to_string()))?;
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(PkiError::tls)?;
    Ok(Arc::new(certified))
}
