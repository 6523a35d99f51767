//! The keys by which members of the store know each other: an authority of their own, since whoever has a certificate of the
//! cluster's is a user of the API and no more, while a member of the store may write everything.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use time::OffsetDateTime;

use super::issue::{Authority, LEAF_LIFETIME, LeafRequest, Usage};
use super::leaves::open_or_issue;
use super::tls::{LiveKey, provider, roots};
use super::{PkiError, PkiOptions};

/// The names of the files, without `.crt` or `.key`.
pub(super) const AUTHORITY: &str = "store-ca";
const MEMBER: &str = "store";

/// TLS between members of the store, and for its clients, who are members too: both sides show a certificate of the
/// store's authority. Renewed certificates are used by connections that come later.
#[derive(Clone, Debug)]
pub struct StoreTls {
    /// For connections to others.
    pub client: Arc<ClientConfig>,
    /// For connections from others.
    pub server: Arc<ServerConfig>,
}

/// The keys, open for use.
pub(super) struct Keys {
    authority: Authority,
    wanted: LeafRequest,
    live: Arc<LiveKey>,
}

impl Keys {
    pub(super) fn open(
        dir: &Path,
        authority: Authority,
        options: &PkiOptions,
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let wanted = wanted(options);
        let live = LiveKey::new(&open_or_issue(dir, MEMBER, &wanted, &authority, now)?)?;
        Ok(Keys { authority, wanted, live })
    }

    pub(super) fn renew(&self, dir: &Path, now: OffsetDateTime) -> Result<(), PkiError> {
        self.live.replace(&open_or_issue(dir, MEMBER, &self.wanted, &self.authority, now)?)
    }

    pub(super) fn tls(&self) -> Result<StoreTls, PkiError> {
        let roots = Arc::new(roots(&self.authority.cert_pem)?);
        let versions = [&rustls::version::TLS13];
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build();
        let verifier = verifier.map_err(|error| PkiError::Tls(error.to_string()))?;
        let server = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions);
        let mut server = server
            .map_err(PkiError::tls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.live) as _);
        let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&versions);
        let mut client = client
            .map_err(PkiError::tls)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&self.live) as _);
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(StoreTls { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// A member shows the same certificate in both directions.
fn wanted(options: &PkiOptions) -> LeafRequest {
    LeafRequest {
        common_name: options.node_name.clone(),
        organizations: Vec::new(),
        usage: Usage::Both,
        names: options.node_ips.iter().map(IpAddr::to_string).collect(),
        lifetime: LEAF_LIFETIME,
    }
}
