//! TLS between members: each proves with a certificate of the cluster's peer authority who it is.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The configurations of both directions. Members speak TLS 1.3.
#[derive(Clone, Debug)]
pub struct PeerTls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

impl PeerTls {
    /// From PEM: the authority that signs members' certificates, and this member's certificate and key. The
    /// certificate has to be good for both directions and to name the hosts of this member's peer addresses.
    pub fn from_pem(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<PeerTls, PeerTlsError> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority) {
            roots
                .add(root.map_err(|error| PeerTlsError("authority", error.to_string()))?)
                .map_err(refused)?;
        }
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| PeerTlsError("certificate", error.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| PeerTlsError("key", error.to_string()))?;
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|error| PeerTlsError("authority", error.to_string()))?;
        let versions = [&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(refused)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(refused)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(refused)?;
        let http2 = vec![b"h2".to_vec()];
        server.alpn_protocols.clone_from(&http2);
        client.alpn_protocols = http2;
        Ok(PeerTls::from_configs(Arc::new(client), Arc::new(server)))
    }

    /// From ready configurations. The server's has to demand a certificate, and both to agree on `h2`.
    pub fn from_configs(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> PeerTls {
        PeerTls { client, server }
    }
}

/// Something is wrong with keys or certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peers' TLS cannot be set up; the {0}: {1}")]
pub struct PeerTlsError(&'static str, String);

fn refused(error: rustls::Error) -> PeerTlsError {
    PeerTlsError("certificate, or its key", error.to_string())
}
