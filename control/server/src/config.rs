//! What an API server is made of.

use std::net::IpAddr;
use std::sync::Arc;

use carrack_store::Store;

use crate::{Admission, Authenticator, Authorizer, NodeProxy, TokenIssuer};

/// What [`crate::ApiServer::new`] needs.
#[derive(Clone)]
pub struct Config {
    /// Where everything is kept.
    pub store: Store,
    /// The address under which clients and pods reach this server: what the endpoints of the
    /// `kubernetes` service say.
    pub advertise_address: IpAddr,
    /// The port of the TLS front.
    pub secure_port: u16,
    /// Where service addresses come from, for instance `10.96.0.0/16`; its first address is the
    /// `kubernetes` service.
    pub service_cidr: String,
    /// The address of the `kube-dns` service, inside `service_cidr`.
    pub dns_address: IpAddr,
    /// Says who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Say whether they may; asked in order until one allows or denies.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    /// Change and judge what is written; run in order.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Issues ServiceAccount tokens.
    pub tokens: Arc<dyn TokenIssuer>,
    /// Reaches the nodes.
    pub nodes: Arc<dyn NodeProxy>,
}

/// Why a [`Config`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The service range is no IPv4 range of at least four addresses.
    #[error("service range {0:?} is not an IPv4 range such as 10.96.0.0/16")]
    ServiceCidr(String),
    /// The DNS address is outside the service range.
    #[error("DNS address {0} is not inside the service range {1}")]
    DnsAddress(IpAddr, String),
}
