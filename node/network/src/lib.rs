//! The node's network: pods' links and addresses, services in eBPF, masquerade, DNS.

mod error;
mod types;

use std::collections::HashSet;
use std::path::Path;

pub use error::{AttachError, NetworkError};
pub use types::{
    Config, DnsConfig, DnsPolicy, Endpoint, PodAddress, PodRef, Protocol, Service, ServicePort, Stats,
};

/// The network of this node, running.
pub struct Network {
    config: Config,
}

impl Network {
    /// Brings the network up, taking over what an earlier process left in place.
    pub async fn start(config: Config) -> Result<Network, NetworkError> {
        let _ = Network { config };
        Err(NetworkError::Config("the network is not built yet".into()))
    }

    /// Gives the pod whose network namespace is at `netns` an address and a link. The same id gets the same address,
    /// also after a restart; calling again repairs what is missing.
    pub async fn attach(&self, pod: &PodRef, netns: &Path) -> Result<PodAddress, AttachError> {
        let _ = netns;
        Err(AttachError::BadId(pod.id.clone()))
    }

    /// Takes the pod's link away and frees its address. Succeeds if there is neither.
    pub async fn detach(&self, id: &str) -> Result<(), NetworkError> {
        Err(NetworkError::Config(id.into()))
    }

    /// Detaches every pod whose id is not in `ids`: what a crash may have left.
    pub async fn retain(&self, ids: &HashSet<String>) -> Result<(), NetworkError> {
        Err(NetworkError::Config(format!("{}", ids.len())))
    }

    /// Makes `services` the whole table of services. Writes only what differs from the current one.
    pub async fn set_services(&self, services: Vec<Service>) -> Result<(), NetworkError> {
        Err(NetworkError::Config(format!("{}", services.len())))
    }

    /// The content of a pod's `/etc/resolv.conf`.
    pub fn resolv_conf(&self, namespace: &str, policy: DnsPolicy, extra: &DnsConfig) -> String {
        let _ = (namespace, policy, extra, &self.config);
        String::new()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Stops answering DNS; everything else stays in place for the next start.
    pub async fn stop(&self) {}

    /// Removes everything the network made on this host: programs, links, routes, addresses, records. Idempotent.
    pub fn purge(config: &Config) -> Result<(), NetworkError> {
        Err(NetworkError::Config(config.cluster_domain.clone()))
    }
}
