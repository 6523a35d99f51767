//! The front proxy's keys: an authority of its own, by which aggregated API servers know that a request, and the user
//! that its headers name, comes from this server. It is not the cluster's, for whoever has one of the cluster's
//! certificates is a user and no more.

use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use time::OffsetDateTime;

use super::PkiError;
use super::issue::{Authority, LEAF_LIFETIME, LeafRequest, Usage};
use super::leaves::open_or_issue;
use super::tls::LiveKey;

/// The names of the files, without `.crt` or `.key`.
pub(super) const AUTHORITY: &str = "front-proxy-ca";
const CLIENT: &str = "front-proxy-client";

/// What this server shows to aggregated API servers, and what they need to believe it.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// The certificate it shows.
    pub identity: Arc<dyn ResolvesClientCert>,
    /// The authority that signed it, in PEM.
    pub authority_pem: String,
    /// The common name in it.
    pub name: &'static str,
    /// The authority of the cluster's own client certificates, in PEM, for clients that call such a server directly.
    pub client_ca_pem: String,
}

/// The keys, open for use.
pub(super) struct Keys {
    authority: Authority,
    live: Arc<LiveKey>,
}

impl Keys {
    pub(super) fn open(dir: &Path, authority: Authority, now: OffsetDateTime) -> Result<Self, PkiError> {
        let live = LiveKey::new(&open_or_issue(dir, CLIENT, &wanted(), &authority, now)?)?;
        Ok(Keys { authority, live })
    }

    pub(super) fn renew(&self, dir: &Path, now: OffsetDateTime) -> Result<(), PkiError> {
        self.live.replace(&open_or_issue(dir, CLIENT, &wanted(), &self.authority, now)?)
    }

    pub(super) fn shown(&self, client_ca_pem: &str) -> FrontProxy {
        FrontProxy {
            identity: self.live.clone(),
            authority_pem: self.authority.cert_pem.clone(),
            name: CLIENT,
            client_ca_pem: client_ca_pem.to_owned(),
        }
    }
}

fn wanted() -> LeafRequest {
    LeafRequest {
        common_name: CLIENT.into(),
        organizations: Vec::new(),
        usage: Usage::Client,
        names: Vec::new(),
        lifetime: LEAF_LIFETIME,
    }
}
