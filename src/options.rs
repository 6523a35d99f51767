//! What servers and nodes can be told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use carrack_server::admission::{self, AdmissionConfig, Chosen};
use carrack_server::join::Token;
use clap::{Args, ValueEnum};

use crate::access::Access;
use crate::audit::AuditOptions;
use crate::backup::Backups;

/// Options of a member of the control plane.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    /// The name of this host in the cluster; this host's by default
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The address under which others reach this host; that of the default route's interface by default
    #[arg(long, value_name = "IP", value_parser = reachable)]
    pub(crate) node_ip: Option<Ipv4Addr>,
    /// Where the API server listens
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(crate) bind: IpAddr,
    #[command(flatten)]
    pub(crate) join: JoinOptions,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// Further names and addresses for the API server's certificate, such as those of a balancer
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
    /// What kubeconfigs name as the server, such as a balancer before all of them
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) control_plane_endpoint: Option<String>,
    /// An AdmissionConfiguration: what plugins of admission are told, such as pod security and limited resources
    #[arg(long, value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// Plugins of admission that run beside those that are on by default, by upstream's names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Plugins of admission that do not run although they are on by default
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// An EncryptionConfiguration that says what is encrypted in the store and how; by default Secrets are, with a key
    /// that is made at the first start (encryption.yaml in the data directory)
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) audit: AuditOptions,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) backups: Backups,
    /// How long the API server goes on before it ends, its /readyz failing, so that nobody sends new clients to it
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub(crate) shutdown_delay_duration: jiff::SignedDuration,
}

impl ServerOptions {
    /// What plugins of admission are told, and which of them run.
    pub(crate) fn admission(&self) -> Result<(AdmissionConfig, Chosen)> {
        let configured = match &self.admission_control_config_file {
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                let dir = file.parent().unwrap_or(Path::new(""));
                admission::read_config(&text, dir).with_context(|| format!("{}", file.display()))?
            }
            None => AdmissionConfig::default(),
        };
        let chosen = Chosen::new(&self.enable_admission_plugins, &self.disable_admission_plugins)?;
        Ok((configured, chosen))
    }
}

/// How a server belongs to others.
#[derive(Args, Clone, Debug)]
pub(crate) struct JoinOptions {
    /// Join the cluster of this API server, at the first start; without it, a new cluster is made
    #[arg(long, value_name = "URL", requires = "token")]
    pub(crate) join: Option<String>,
    /// What `carrack token create` printed
    #[arg(long, value_name = "TOKEN", requires = "join", env = "CARRACK_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Token>,
    /// Join without a vote: an API server for reads near its clients, with neither controllers nor scheduler
    #[arg(long)]
    pub(crate) learner: bool,
    /// The port for other members of the store: 2380, but for an `up` that did not join, which stays alone without it
    #[arg(long, value_name = "PORT")]
    pub(crate) peer_port: Option<u16>,
    /// The port for etcd's API to other members of the store, where there are any
    #[arg(long, value_name = "PORT", default_value_t = 2379)]
    pub(crate) store_port: u16,
}

/// What is the same on all servers of a cluster. It is said when the cluster is made; who joins is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterOptions {
    /// The API server's port; 6443 by default
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Addresses of services; 10.96.0.0/16 by default
    #[arg(long, value_name = "CIDR")]
    pub(crate) service_cidr: Option<String>,
    /// Addresses of pods, of which each node gets a part; 10.244.0.0/16 by default
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_cidr: Option<String>,
    /// The address of the cluster's DNS; 10.96.0.10 by default
    #[arg(long, value_name = "IP")]
    pub(crate) cluster_dns: Option<Ipv4Addr>,
    /// The cluster's domain; cluster.local by default
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_domain: Option<String>,
}

/// Options of a node.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The port of the node's own API, for logs and exec
    #[arg(long, default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// The interface through which pods reach the world: its name, `auto` for the default route's, or `none`
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub(crate) uplink: String,
    /// Who reaches services by their addresses
    #[arg(long, value_enum, default_value_t = Services::Host)]
    pub(crate) services: Services,
    /// Where names outside of the cluster are looked up; this host's name servers by default
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) upstream_dns: Vec<SocketAddr>,
    /// From when on the node is short of memory, disk or process ids and takes no more pods, in the kubelet's words; what
    /// is not named has no threshold
    #[arg(long, value_name = "SIGNAL<VALUE,…", default_value = carrack_agent::DEFAULT_EVICTION_HARD)]
    pub(crate) eviction_hard: carrack_agent::Thresholds,
    /// How many pods the node takes
    #[arg(long, default_value_t = 250)]
    pub(crate) max_pods: u32,
    /// Registries that are spoken to over plain HTTP (loopback ones always are)
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) insecure_registry: Vec<String>,
}

/// Who reaches services by their cluster addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Services {
    /// Pods and every process of this host
    Host,
    /// Pods alone
    Pods,
}

/// An address under which other hosts can reach this one: what Kubernetes lets a node and an endpoint have.
fn reachable(text: &str) -> std::result::Result<Ipv4Addr, String> {
    let ip: Ipv4Addr = text.parse().map_err(|_| "give an IPv4 address".to_owned())?;
    let kinds = [
        (ip.is_unspecified(), "unspecified"),
        (ip.is_loopback(), "a loopback address"),
        (ip.is_link_local(), "a link-local address"),
        (ip.is_multicast() || ip.is_broadcast(), "a multicast address"),
    ];
    match kinds.iter().find(|(is, _)| *is) {
        Some((_, kind)) => {
            Err(format!("it is {kind}, under which no other host reaches this one; give one of an interface"))
        }
        None => Ok(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_node_has_an_address_that_others_reach() {
        assert_eq!(reachable("192.0.2.1"), Ok([192, 0, 2, 1].into()));
        for wrong in ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "255.255.255.255", "::1", "host"] {
            assert!(reachable(wrong).is_err(), "{wrong}");
        }
    }
}
