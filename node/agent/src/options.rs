//! What the agent is told when it starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Where an agent keeps what is its own on a host.
#[derive(Clone, Debug)]
pub struct Place {
    /// What outlives a reboot: images, volumes, logs, records.
    pub data_dir: PathBuf,
    /// What does not: sockets, supervisors' records, eBPF pins.
    pub run_dir: PathBuf,
    /// The subtree of every cgroup hierarchy that belongs to the agent.
    pub cgroup_base: String,
}

impl Place {
    /// Volumes and records of pods, laid out as people know it from `/var/lib/kubelet`.
    pub fn kubelet_dir(&self) -> PathBuf {
        self.data_dir.join("kubelet")
    }

    /// Everything kept of one pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.kubelet_dir().join("pods").join(uid)
    }

    /// Images and their layers.
    pub fn image_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Addresses given to pods.
    pub fn network_dir(&self) -> PathBuf {
        self.data_dir.join("network")
    }

    /// The supervisor's directory of one pod.
    pub fn sandbox_dir(&self, uid: &str) -> PathBuf {
        self.run_dir.join("pods").join(uid)
    }

    /// The logs of one pod, named as in `/var/log/pods`.
    pub fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data_dir.join("logs").join("pods").join(format!("{namespace}_{name}_{uid}"))
    }
}

/// What the agent is told when it starts.
#[derive(Clone)]
pub struct Options {
    /// The name of the Node object.
    pub node_name: String,
    /// The address at which the API server reaches this node, and the node's own in the cluster.
    pub node_ip: Ipv4Addr,
    /// Where the agent keeps what is its own.
    pub place: Place,
    /// Whether the host's own processes reach services too, or pods alone.
    pub host_services: bool,
    /// The interface that leads out of the node; pods' traffic through it is masqueraded. None: no way out.
    pub uplink: Option<String>,
    /// The address of the cluster's DNS service.
    pub cluster_dns: Ipv4Addr,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Where names outside of the cluster are looked up.
    pub upstream_dns: Vec<SocketAddr>,
    /// Where the node's HTTPS API listens.
    pub listen: SocketAddr,
    /// TLS of that API: the node's serving certificate; clients show one of the cluster's CA.
    pub tls: Arc<rustls::ServerConfig>,
    /// From when on the node counts as short of memory, disk or process ids.
    pub eviction_hard: crate::pressure::Thresholds,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// Labels that the Node object gets when it is first made.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The binary that is started as supervisor, with the argument `supervisor`.
    pub supervisor: PathBuf,
    /// Registries that are spoken to over plain HTTP, `host:port`; loopback ones always are.
    pub insecure_registries: Vec<String>,
}

impl Options {
    /// The node's address, as any.
    pub fn host_ip(&self) -> IpAddr {
        IpAddr::V4(self.node_ip)
    }
}
