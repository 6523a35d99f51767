//! Certificates for requests that others make (PKCS#10, RFC 2986), signed by the cluster's authority.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SigningKey as _,
    SubjectPublicKeyInfo,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::issue::{Authority, BACKDATE, serial};
use super::{PkiError, der, inspect, pem};

/// Signs requests. Whether one may be signed is decided elsewhere.
pub struct CertificateSigner(pub(super) Arc<Authority>);

/// What a request asks for.
#[derive(Debug, Default)]
pub struct Requested {
    /// The common name, empty without one.
    pub common_name: String,
    /// The organizations, which become groups.
    pub organizations: Vec<String>,
    /// Alternative names that are DNS names.
    pub dns: Vec<String>,
    /// Alternative names that are addresses.
    pub addresses: Vec<IpAddr>,
    /// Alternative names that are e-mail addresses.
    pub emails: Vec<String>,
    /// Alternative names that are URIs.
    pub uris: Vec<String>,
    /// The whole subject, in DER.
    pub(crate) subject: Vec<u8>,
    /// The public key (SubjectPublicKeyInfo), in DER.
    pub(crate) key: Vec<u8>,
}

impl Requested {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// When it is none, or is not signed with its own key.
    pub fn parse(pem: &[u8]) -> Result<Self, PkiError> {
        let unfit = |why: String| PkiError::Sign(format!("the request cannot be read: {why}"));
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|why| unfit(why.to_string()))?;
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|why| unfit(why.to_string()))?;
        request.verify_signature().map_err(|why| unfit(why.to_string()))?;
        let info = &request.certification_request_info;
        let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            name.as_str().map(str::to_owned).map_err(|why| unfit(why.to_string()))
        };
        let mut requested = Requested {
            common_name: info.subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default(),
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            subject: info.subject.as_raw().to_vec(),
            key: info.subject_pki.raw.to_vec(),
            ..Requested::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    requested.add(name)?;
                }
            }
        }
        Ok(requested)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), PkiError> {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match inspect::address(bytes) {
                Some(address) => self.addresses.push(address),
                None => return Err(PkiError::Sign("the request names an address that is none".into())),
            },
            // As upstream, which knows no others: they are left out.
            _ => {}
        }
        Ok(())
    }

    fn alternative_names(&self) -> Result<Vec<SanType>, PkiError> {
        type Make = fn(rcgen::string::Ia5String) -> SanType;
        let kinds: [(&[String], Make); 3] =
            [(&self.dns, SanType::DnsName), (&self.emails, SanType::Rfc822Name), (&self.uris, SanType::URI)];
        let mut names = Vec::new();
        for (texts, make) in kinds {
            for text in texts {
                names.push(make(text.as_str().try_into().map_err(PkiError::sign)?));
            }
        }
        names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        Ok(names)
    }
}

impl CertificateSigner {
    /// The certificate for a request, in PEM, for these usages (in the words of the API). It lives for `lifetime`, and not
    /// longer than the authority.
    ///
    /// # Errors
    /// For keys and usages that the server does not know.
    pub fn sign(
        &self,
        requested: &Requested,
        usages: &[&str],
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        self.sign_at(requested, usages, lifetime, OffsetDateTime::now_utc())
    }

    fn sign_at(
        &self,
        requested: &Requested,
        usages: &[&str],
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        for usage in usages {
            match *usage {
                "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                "server auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
                other => return Err(PkiError::Sign(format!("the usage {other:?} is not known here"))),
            }
        }
        params.subject_alt_names = requested.alternative_names()?;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        params.not_before = now - BACKDATE;
        let end = inspect::not_after(&self.0.cert_pem).unwrap_or(now);
        params.not_after = (now + lifetime).min(end);
        let key = SubjectPublicKeyInfo::from_der(&requested.key).map_err(PkiError::sign)?;
        let draft = params.signed_by(&key, &self.0.issuer).map_err(PkiError::sign)?;
        let signed = der::with_subject(draft.der(), &requested.subject, |tbs| {
            self.0.issuer.key().sign(tbs).map_err(PkiError::sign)
        })?;
        Ok(pem::certificate(&signed))
    }
}
