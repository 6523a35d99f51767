//! The authenticating proxy in front of the API server: it shows a certificate of its own authority and says in
//! headers whom it speaks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::UnixTime;

use super::X509;
use super::impersonate::percent_decoded;
use crate::{Credentials, UserInfo};

/// Which proxies are believed, and which headers they use.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The authority of the proxies' certificates, PEM.
    pub authority: String,
    /// The common names that they may have; any when there are none.
    pub allowed_names: Vec<String>,
    /// Headers that may hold the user's name; the first that is there counts.
    pub username_headers: Vec<HeaderName>,
    /// Headers that may hold the user's UID.
    pub uid_headers: Vec<HeaderName>,
    /// Headers that hold groups.
    pub group_headers: Vec<HeaderName>,
    /// What begins the headers that hold extras; the rest of a header's name is the extra's key. In lower case.
    pub extra_prefixes: Vec<String>,
}

pub(super) struct FrontProxy {
    certificates: X509,
    options: ProxyOptions,
}

impl FrontProxy {
    /// `verifier` knows the authority of the options.
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>, options: ProxyOptions) -> Self {
        Self { certificates: X509::new(verifier), options }
    }

    /// The user that a proxy speaks for; `None` when nobody does, or somebody who is not believed.
    pub(super) fn identify(&self, credentials: &Credentials, now: UnixTime) -> Option<UserInfo> {
        let user = self.user(&credentials.headers)?;
        let proxy = match self.certificates.identify(&credentials.certificates, now) {
            Ok(proxy) => proxy,
            Err(error) => {
                tracing::debug!(%error, "a client that speaks for others is no known proxy");
                return None;
            }
        };
        let names = &self.options.allowed_names;
        if !names.is_empty() && !names.contains(&proxy.name) {
            tracing::debug!(name = proxy.name, "x509: subject with this cn is not in the allowed list");
            return None;
        }
        Some(user)
    }

    /// Whether a header is one of those that say who the user is.
    pub(super) fn speaks_in(&self, header: &HeaderName) -> bool {
        let options = &self.options;
        [&options.username_headers, &options.uid_headers, &options.group_headers]
            .iter()
            .any(|names| names.contains(header))
            || options.extra_prefixes.iter().any(|prefix| header.as_str().starts_with(prefix.as_str()))
    }

    /// The user that the headers name.
    fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let mut user =
            UserInfo { name: first(headers, &self.options.username_headers)?, ..UserInfo::default() };
        user.uid = first(headers, &self.options.uid_headers).unwrap_or_default();
        user.groups = self.options.group_headers.iter().flat_map(|header| values(headers, header)).collect();
        user.extra = self.extra(headers);
        if user.name != "system:anonymous" && !user.in_group("system:authenticated") {
            user.groups.push("system:authenticated".into());
        }
        Some(user)
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for header in headers.keys() {
            for prefix in &self.options.extra_prefixes {
                let Some(key) = header.as_str().strip_prefix(prefix.as_str()) else { continue };
                // One that cannot be decoded stands for itself, as upstream.
                let key = percent_decoded(key).unwrap_or_else(|| key.to_owned());
                extra.entry(key.to_lowercase()).or_default().extend(values(headers, header));
            }
        }
        extra
    }
}

fn values(headers: &HeaderMap, header: &HeaderName) -> Vec<String> {
    let texts = headers.get_all(header).iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// The first value of the first header that has one.
fn first(headers: &HeaderMap, names: &[HeaderName]) -> Option<String> {
    names.iter().find_map(|name| values(headers, name).into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Pki, tests::directory, tests::options};
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    fn credentials(pki: &Pki, name: &str, headers: &[(&'static str, &str)]) -> Credentials {
        let identity = pki.sign_client(name, &["system:masters".into()], time::Duration::hours(1)).unwrap();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.cert_pem.as_bytes()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Credentials { certificates: chain.unwrap().into(), bearer: None, headers: map }
    }

    #[test]
    fn only_a_proxy_of_the_authority_and_the_name_speaks_for_others() {
        let ((_keep, own), (_other_keep, other)) = (directory(), directory());
        let [front, elsewhere] = [own, other].map(|dir| Pki::open_or_create(&dir, &options()).unwrap());
        let name = |text: &'static str| vec![HeaderName::from_static(text)];
        let proxy = FrontProxy::new(
            front.client_verifier().unwrap(),
            ProxyOptions {
                authority: front.ca_pem().into(),
                allowed_names: vec!["front".into()],
                username_headers: name("x-remote-user"),
                uid_headers: name("x-remote-uid"),
                group_headers: name("x-remote-group"),
                extra_prefixes: vec!["x-remote-extra-".into()],
            },
        );
        let headers = [
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-acme.org%2fproject", "a"),
            ("x-remote-extra-acme.org%2fproject", "b"),
        ];
        let ask = |credentials| proxy.identify(&credentials, UnixTime::now());
        let jane = ask(credentials(&front, "front", &headers)).unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "7"));
        assert_eq!(
            jane.groups,
            ["dev", "ops", "system:authenticated"],
            "the proxy's own groups do not count"
        );
        assert_eq!(jane.extra["acme.org/project"], ["a", "b"]);
        assert_eq!(ask(credentials(&front, "front", &headers[1..])), None, "no name");
        assert_eq!(ask(credentials(&front, "stranger", &headers)), None, "another name");
        assert_eq!(ask(credentials(&elsewhere, "front", &headers)), None, "another authority");
        let bare = Credentials { certificates: [].into(), ..credentials(&front, "front", &headers) };
        assert_eq!(ask(bare), None, "no certificate");
        for (header, spoken) in [("x-remote-user", true), ("x-remote-extra-a", true), ("accept", false)] {
            assert_eq!(proxy.speaks_in(&HeaderName::from_static(header)), spoken, "{header}");
        }
    }
}
