//! Who calls: the subject of a client certificate that TLS has verified.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The name that the API server's client certificate bears.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
/// Members may do everything.
const MASTERS: &str = "system:masters";

/// The subject of a certificate: common name and organizations, which are user and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl Caller {
    /// Reads the caller out of the certificate that the client showed; `None` if it showed none, or one that
    /// names nobody.
    pub(super) fn from_certificates(certificates: Option<&[CertificateDer<'_>]>) -> Option<Caller> {
        let (_, certificate) = X509Certificate::from_der(certificates?.first()?).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned);
        Some(Caller { name, groups: groups.collect() })
    }

    /// Whether the caller may use this API.
    pub(super) fn is_allowed(&self) -> bool {
        self.name == API_SERVER || self.groups.iter().any(|group| group == MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_api_server_and_masters_are_allowed() {
        let caller = |name: &str, groups: &[&str]| Caller {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        assert!(caller("kube-apiserver-kubelet-client", &[]).is_allowed());
        assert!(caller("kubernetes-admin", &["x", "system:masters"]).is_allowed());
        assert!(!caller("system:node:a", &["system:nodes"]).is_allowed());
        assert!(!caller("system:masters", &["system:authenticated"]).is_allowed());
    }
}
