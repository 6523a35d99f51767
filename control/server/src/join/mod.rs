//! How a control plane gets another member: the one that joins shows a token, and is given what members share.
//!
//! 1. `GET /carrack/v1/authority` gives the cluster's authority to anybody. The token holds a hash of its key, so that the
//!    joiner knows whether it is the right one; everything else it says over TLS under that authority.
//! 2. `POST /carrack/v1/join` with the token's secret adds the joiner to the store's members, and answers with the keys,
//!    the encryption of the store, and the settings that all members have in common.
//!
//! Tokens are Secrets in `kube-system` that hold a hash of the secret alone.

mod client;
mod serve;
mod token;

use serde::{Deserialize, Serialize};

use crate::pki::SharedKeys;

pub use client::{JoinError, join};
pub use serve::Joining;
pub(crate) use serve::{answer, is_about};
pub use token::{NAMESPACE, Role, SECRET_TYPE, Token, TokenError, authority_hash};

/// Where the authority is.
const AUTHORITY_PATH: &str = "/carrack/v1/authority";
/// Where members are added.
const JOIN_PATH: &str = "/carrack/v1/join";

/// What is the same on all members of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {
    /// Addresses of services.
    pub service_cidr: String,
    /// Addresses of pods.
    pub pod_cidr: String,
    /// The address of the cluster's DNS.
    pub cluster_dns: std::net::Ipv4Addr,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The port of the API servers: the `kubernetes` service has one for all.
    pub port: u16,
}

/// Who wants to join.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joiner {
    /// Its name, which no other member may have.
    pub name: String,
    /// Where other members of the store reach it.
    pub peer_urls: Vec<String>,
    /// Whether it stays without a vote.
    pub learner: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JoinRequest {
    /// Id and secret of the token.
    token: String,
    #[serde(flatten)]
    joiner: Joiner,
}

/// A member of the store that can be asked who the joiner is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownMember {
    /// Its name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
}

/// What a joiner is given. Private keys are in it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// What is the same everywhere.
    pub settings: ClusterSettings,
    /// Authorities and keys.
    pub keys: SharedKeys,
    /// The EncryptionConfiguration of the store.
    pub encryption: String,
    /// The members that are there.
    pub members: Vec<KnownMember>,
}
