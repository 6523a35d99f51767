//! Makes certificates: the cluster's own authority, and the leaves that it signs.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber, SigningKey,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::{PkiError, der, pem};

/// How long the authority lives. Replacing it means touching every client, so it outlives the hardware.
pub(super) const CA_LIFETIME: Duration = Duration::days(3650);
/// How long a leaf lives.
pub const LEAF_LIFETIME: Duration = Duration::days(365);
/// Certificates begin a little in the past, for hosts whose clock is behind.
pub(super) const BACKDATE: Duration = Duration::minutes(5);
/// Bytes of a random serial number; RFC 5280 allows 20, the top bit stays clear.
const SERIAL_BYTES: usize = 16;

/// What a leaf may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The server side of a TLS connection.
    Server,
    /// The client side.
    Client,
    /// Both sides.
    Both,
}

/// What is asked of the authority.
#[derive(Debug, Clone)]
pub(super) struct LeafRequest {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) usage: Usage,
    /// DNS names and IP addresses, as text.
    pub(super) names: Vec<String>,
    pub(super) lifetime: Duration,
}

/// A certificate and its key, both in PEM.
#[derive(Clone)]
pub struct KeyMaterial {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyMaterial").finish_non_exhaustive()
    }
}

/// The cluster's certificate authority.
pub(super) struct Authority {
    pub(super) cert_pem: String,
    pub(super) cert_der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// A fresh ECDSA P-256 key.
pub(super) fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::sign)
}

/// A self-signed authority for `key`, in PEM.
pub(super) fn self_signed_authority(
    common_name: &str,
    key: &KeyPair,
    now: OffsetDateTime,
) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = now - BACKDATE;
    params.not_after = now + CA_LIFETIME;
    Ok(params.self_signed(key).map_err(PkiError::sign)?.pem())
}

impl Authority {
    /// Takes up an authority from PEM. The two must belong together; the caller has checked that.
    pub(super) fn new(cert_pem: String, key: KeyPair) -> Result<Self, PkiError> {
        let cert_der = pem::first_certificate(&cert_pem)
            .ok_or_else(|| PkiError::Sign("the authority's file holds no certificate".into()))?;
        let issuer = Issuer::from_ca_cert_der(&cert_der, key).map_err(PkiError::sign)?;
        Ok(Self { cert_pem, cert_der, issuer })
    }

    /// Makes a key and a certificate for it.
    pub(super) fn issue(&self, request: &LeafRequest, now: OffsetDateTime) -> Result<KeyMaterial, PkiError> {
        let key = new_key()?;
        let mut params = CertificateParams::new(request.names.clone())
            .map_err(|source| PkiError::BadName { names: request.names.join(", "), source })?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages = match request.usage {
            Usage::Server => vec![server],
            Usage::Client => vec![client],
            Usage::Both => vec![server, client],
        };
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = now - BACKDATE;
        params.not_after = now + request.lifetime;

        let draft = params.signed_by(&key, &self.issuer).map_err(PkiError::sign)?;
        let subject = der::subject(&request.common_name, &request.organizations);
        let signed = der::with_subject(draft.der(), &subject, |tbs| {
            self.issuer.key().sign(tbs).map_err(PkiError::sign)
        })?;
        Ok(KeyMaterial { cert_pem: pem::certificate(&signed), key_pem: key.serialize_pem() })
    }
}

/// A random serial number.
pub(super) fn serial() -> SerialNumber {
    let mut bytes: [u8; SERIAL_BYTES] = rand::random();
    // A serial number is a positive integer without leading zeros.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}
