//! What the node agent says to the network and hears from it: configuration, pods, services.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// How the network of this node is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Runtime directory of the network. A bpffs is mounted at `<run_dir>/bpf`; pins are below `v<abi>/` in it.
    pub run_dir: PathBuf,
    /// Durable directory of the network: which pod has which address, and which settings of the host to put back.
    pub state_dir: PathBuf,
    /// The addresses this node gives to its pods.
    pub pod_cidr: Ipv4Net,
    /// The node's own address: what pods' traffic to the outside is masqueraded to, and where node ports answer.
    pub node_ip: Ipv4Addr,
    /// The interface that leads to the outside. `None`: nothing is masqueraded and pods stay on this host.
    pub uplink: Option<String>,
    /// The cgroup v2 directory whose processes, and those below it, reach services.
    pub service_cgroup: PathBuf,
    /// The cluster's DNS address (the cluster IP of kube-system/kube-dns), answered on this node.
    pub dns_address: Ipv4Addr,
    /// The cluster's domain, `cluster.local` unless chosen otherwise.
    pub cluster_domain: String,
    /// Servers asked for names outside of the cluster domain, in order.
    pub upstream_dns: Vec<SocketAddr>,
    /// MTU of the pods' links; `None` takes the uplink's, or 1500 without one.
    pub mtu: Option<u32>,
}

/// The pod a link is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// The pod's UID, or any id that is the pod's own; at most 128 printable characters without white space.
    pub id: String,
    /// The pod's namespace; only for people who look at the link.
    pub namespace: String,
    /// The pod's name; only for people who look at the link.
    pub name: String,
}

/// What a pod got from [`Network::attach`](crate::Network::attach).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod's address, on `eth0` as /32.
    pub ip: Ipv4Addr,
    /// Name of the host's end of the link.
    pub host_link: String,
    /// Hardware address of the pod's end, `0a:58:…`.
    pub mac: String,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
}

/// A transport protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: has DNS records; its connections are not translated (SCTP sockets pass no cgroup hook).
    Sctp,
}

/// A service and where its connections go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The virtual addresses; empty for headless and ExternalName services.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`: DNS answers with the endpoints.
    pub headless: bool,
    /// Set for ExternalName services: the name DNS points to.
    pub external_name: Option<String>,
    /// Set for `sessionAffinity: ClientIP`: how long after its last connection a client keeps its back end.
    pub session_affinity_seconds: Option<u32>,
    /// `publishNotReadyAddresses`: endpoints count before they are ready.
    pub publish_not_ready: bool,
    /// Ports, each with its endpoints.
    pub ports: Vec<ServicePort>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port's name, which SRV records carry.
    pub name: Option<String>,
    /// Protocol.
    pub protocol: Protocol,
    /// The port on the cluster IPs. 0 marks the endpoints of a headless service without ports.
    pub port: u16,
    /// The port on every address of the node.
    pub node_port: Option<u16>,
    /// All endpoints, ready or not.
    pub endpoints: Vec<Endpoint>,
}

/// One back end of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Takes connections.
    pub ready: bool,
    /// Takes connections, even if it is terminating.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
    /// The name DNS gives it below a headless service.
    pub hostname: Option<String>,
    /// The node it runs on.
    pub node: Option<String>,
    /// Whether that is this node.
    pub local: bool,
}

/// A pod's `dnsPolicy`; ClusterFirstWithHostNet is ClusterFirst here, and ClusterFirst of a pod on the host's network is Default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The cluster's DNS and search domains.
    ClusterFirst,
    /// What the host uses.
    Default,
    /// Only what the pod's `dnsConfig` says.
    None,
}

/// A pod's `dnsConfig`, added to what its policy gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Name servers.
    pub nameservers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options with their values.
    pub options: Vec<(String, Option<String>)>,
}

/// Counters since the programs were first loaded; see [`Network::stats`](crate::Network::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What the kernel side counted, by name, summed over the processors.
    pub counters: Vec<(&'static str, u64)>,
    /// Addresses in use.
    pub addresses_used: usize,
    /// Addresses that could be given out.
    pub addresses_free: usize,
    /// Virtual addresses and ports that are translated.
    pub frontends: usize,
    /// Back ends behind them.
    pub backends: usize,
    /// DNS queries answered since start.
    pub dns_queries: u64,
}
