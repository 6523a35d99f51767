//! Judges a certificate found on disk: may it still be used, and if not, why.

use std::net::IpAddr;

use rcgen::{KeyPair, PublicKeyData};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::issue::{LeafRequest, Usage};
use super::pem;

/// A leaf with less than this left is renewed at start: a quarter of its life.
pub(super) const RENEW_BEFORE: Duration = Duration::days(91);

/// Why a leaf has to be made again; `None` when it is good.
///
/// `ca_der` is the authority that must have signed it.
pub(super) fn why_renew(
    cert_pem: &str,
    key_pem: &str,
    ca_der: &[u8],
    wanted: &LeafRequest,
    now: OffsetDateTime,
) -> Option<String> {
    let Some(der) = pem::first_certificate(cert_pem) else {
        return Some("its file holds no certificate".into());
    };
    let Ok((_, cert)) = X509Certificate::from_der(&der) else {
        return Some("its certificate cannot be read".into());
    };
    let Ok((_, ca)) = X509Certificate::from_der(ca_der) else {
        return Some("the authority's certificate cannot be read".into());
    };
    let reasons = [
        (!key_matches(&cert, key_pem)).then(|| "key and certificate do not match".into()),
        cert.verify_signature(Some(ca.public_key())).is_err().then(|| "another authority signed it".into()),
        validity_problem(&cert, now),
        (!subject_matches(&cert, wanted)).then(|| "it names somebody else".into()),
        (!usage_matches(&cert, wanted.usage)).then(|| "it is for another use".into()),
        missing_name(&cert, &wanted.names).map(|name| format!("it does not cover {name}")),
    ];
    reasons.into_iter().flatten().next()
}

/// When `cert_pem` ends; `None` when it cannot be read.
pub(super) fn not_after(cert_pem: &str) -> Option<OffsetDateTime> {
    let der = pem::first_certificate(cert_pem)?;
    let (_, cert) = X509Certificate::from_der(&der).ok()?;
    Some(cert.validity().not_after.to_datetime())
}

/// What is wrong with the cluster's authority; it is never replaced silently, since every client trusts it.
pub(super) fn authority_problem(der: &[u8], key_pem: &str, now: OffsetDateTime) -> Option<&'static str> {
    let Ok((_, cert)) = X509Certificate::from_der(der) else {
        return Some("it cannot be read as a certificate");
    };
    let validity = cert.validity();
    if !cert.is_ca() {
        Some("it is not an authority (CA:FALSE)")
    } else if !key_matches(&cert, key_pem) {
        Some("ca.key is not its key")
    } else if validity.not_after.to_datetime() <= now {
        Some("it has expired")
    } else if validity.not_before.to_datetime() > now {
        Some("it is not valid yet: is this host's clock right?")
    } else {
        None
    }
}

fn key_matches(cert: &X509Certificate<'_>, key_pem: &str) -> bool {
    KeyPair::from_pem(key_pem).is_ok_and(|key| key.subject_public_key_info() == cert.public_key().raw)
}

fn validity_problem(cert: &X509Certificate<'_>, now: OffsetDateTime) -> Option<String> {
    let left = cert.validity().not_after.to_datetime() - now;
    if cert.validity().not_before.to_datetime() > now {
        Some("it is not valid yet".into())
    } else if left <= Duration::ZERO {
        Some("it has expired".into())
    } else if left < RENEW_BEFORE {
        Some(format!("it ends in {} days", left.whole_days()))
    } else {
        None
    }
}

fn subject_matches(cert: &X509Certificate<'_>, wanted: &LeafRequest) -> bool {
    let subject = cert.subject();
    let names: Vec<_> = subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    let organizations: Vec<_> = subject.iter_organization().filter_map(|name| name.as_str().ok()).collect();
    names == [wanted.common_name.as_str()] && organizations == wanted.organizations
}

fn usage_matches(cert: &X509Certificate<'_>, usage: Usage) -> bool {
    match cert.extended_key_usage() {
        Ok(Some(extension)) => match usage {
            Usage::Server => extension.value.server_auth,
            Usage::Client => extension.value.client_auth,
            Usage::Both => extension.value.server_auth && extension.value.client_auth,
        },
        _ => false,
    }
}

/// The first of `wanted` that the certificate does not cover.
fn missing_name<'a>(cert: &X509Certificate<'_>, wanted: &'a [String]) -> Option<&'a str> {
    let (mut addresses, mut dns) = (Vec::new(), Vec::new());
    if let Ok(Some(extension)) = cert.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push(*name),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    let covered = |name: &str| match name.parse::<IpAddr>() {
        Ok(ip) => addresses.contains(&ip),
        Err(_) => dns.iter().any(|known| known.eq_ignore_ascii_case(name)),
    };
    wanted.iter().map(String::as_str).find(|name| !covered(name))
}

/// An address as certificates hold it.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
