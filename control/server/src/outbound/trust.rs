//! How the other side's certificate is judged, and what this side shows: the TLS configuration of a target.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::target::TargetError;
use crate::pki::provider;

/// A client certificate that is shown, and may be exchanged while connections last.
pub(crate) type Identity = Arc<dyn ResolvesClientCert>;

/// What is believed of the other side, and what it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    roots: Roots,
    identity: Option<Identity>,
    /// The name in the certificate, where it is not that of the URL.
    name: Option<ServerName<'static>>,
    /// Whether HTTP/1.1 alone is spoken.
    http1: bool,
}

/// What is shown, from a chain and a key in PEM.
pub(super) fn identity(chain: &str, key: &str) -> Result<Identity, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|why| format!("the client certificate is not PEM: {why}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|why| format!("the client key is not PEM: {why}"))?;
    let both = CertifiedKey::from_der(chain, key, &provider());
    let both = both.map_err(|why| format!("the client certificate and its key cannot be used: {why}"))?;
    Ok(Arc::new(SingleCertAndKey::from(both)))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Roots {
    /// The authorities of the host.
    Host,
    /// These certificates: authorities, or the very certificate that is shown.
    Bundle(Vec<CertificateDer<'static>>),
    /// Whatever is shown (`insecureSkipTLSVerify`).
    Anything,
}

impl Trust {
    /// Trusts the certificates of a PEM text, or the host's authorities when it is empty.
    pub(crate) fn of_bundle(pem: &str) -> Result<Self, TargetError> {
        if pem.trim().is_empty() {
            return Ok(Trust::in_roots(Roots::Host));
        }
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let all = all.ok().filter(|all| !all.is_empty()).ok_or(TargetError::Bundle)?;
        Ok(Trust::in_roots(Roots::Bundle(all)))
    }

    /// Takes whatever certificate is shown.
    pub(crate) fn anything() -> Self {
        Trust::in_roots(Roots::Anything)
    }

    fn in_roots(roots: Roots) -> Self {
        Trust { roots, identity: None, name: None, http1: false }
    }

    /// Wants this name in the certificate, where there is one.
    pub(super) fn named(self, name: Option<&str>) -> Result<Self, TargetError> {
        let name = name.map(|name| {
            ServerName::try_from(name.to_owned()).map_err(|_| TargetError::Name(name.to_owned()))
        });
        Ok(Trust { name: name.transpose()?, ..self })
    }

    /// Speaks HTTP/1.1 alone, whose `Host` may be another than who is called.
    #[must_use]
    pub(crate) fn over_http1(self) -> Self {
        Trust { http1: true, ..self }
    }

    /// The name that the certificate has to have, where it is not that of the URL.
    pub(super) fn name(&self) -> Option<&ServerName<'static>> {
        self.name.as_ref()
    }

    /// Whether HTTP/1.1 alone is spoken.
    pub(super) fn is_http1(&self) -> bool {
        self.http1
    }

    /// Shows this certificate.
    #[must_use]
    pub(crate) fn showing(self, identity: Option<Identity>) -> Self {
        Trust { identity, ..self }
    }

    /// Says the same of two that may share connections. Identities are compared by where they are.
    pub(super) fn same(&self, other: &Trust) -> bool {
        let identity = match (&self.identity, &other.identity) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        };
        identity && self.http1 == other.http1 && self.name == other.name && self.roots == other.roots
    }

    /// The configuration, without ALPN.
    pub(super) fn config(&self) -> Result<ClientConfig, Error> {
        let verifier: Arc<dyn ServerCertVerifier> = match &self.roots {
            Roots::Host => webpki(host_roots())?,
            Roots::Bundle(bundle) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(bundle.iter().cloned());
                Arc::new(Bundled { chain: webpki(Arc::new(roots))?, bundle: bundle.clone() })
            }
            Roots::Anything => Arc::new(Unchecked),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::clone(identity)),
            None => builder.with_no_client_auth(),
        })
    }
}

fn webpki(roots: Arc<RootCertStore>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// The host's authorities, read once.
fn host_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}

/// Believes chains that end in the bundle, and certificates that are in the bundle themselves: people make one
/// certificate that is its own authority, which upstream takes and webpki does not.
#[derive(Debug)]
struct Bundled {
    chain: Arc<WebPkiServerVerifier>,
    bundle: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Bundled {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.bundle.iter().any(|known| known == leaf) {
            return self.chain.verify_server_cert(leaf, intermediates, name, stapled, now);
        }
        check_time(leaf, now)?;
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn check_time(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Believes everybody, for who asked for it with `insecureSkipTLSVerify`, or compares what comes with a hash it has.
/// That the other side has the key of the certificate it shows is checked all the same.
#[derive(Debug)]
pub(crate) struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
