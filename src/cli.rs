//! The commands and their options.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::access::Access;
use crate::audit::AuditOptions;
use crate::backup::Backups;
use crate::ctl::Ctl;
use crate::member::Member;

/// Kubernetes in one binary, down to the kernel.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a cluster on this host, in the foreground; Ctrl-C leaves its pods running for the next `up`
    Up(Box<Up>),
    /// End the cluster on this host and remove what it made: processes, mounts, links, addresses, control groups
    Down(Down),
    /// Run one member of the replicated store alone, with etcd's API and options
    Store(Box<Member>),
    /// Look after the store: its members, snapshots
    Ctl(Ctl),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Where a cluster keeps what is its own on a host.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// What outlives a reboot: the store, keys, images, volumes, logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/carrack", env = "CARRACK_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// What does not: sockets, supervisors' records, eBPF pins
    #[arg(long, value_name = "DIR", default_value = "/run/carrack", env = "CARRACK_RUN_DIR")]
    pub(crate) run_dir: PathBuf,
    /// The control group, in every hierarchy, below which everything runs
    #[arg(long, value_name = "PATH", default_value = "carrack", env = "CARRACK_CGROUP")]
    pub(crate) cgroup: String,
}

/// `carrack up`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    /// A YAML file whose keys are the names of these options; options on the command line win over it
    #[arg(long, value_name = "FILE", env = "CARRACK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// The node's name; this host's by default
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The node's address; that of the default route's interface by default
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<Ipv4Addr>,
    /// Where the API server listens
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(crate) bind: IpAddr,
    /// The API server's port
    #[arg(long, default_value_t = 6443)]
    pub(crate) port: u16,
    /// The port of the node's own API, for logs and exec
    #[arg(long, default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// The interface through which pods reach the world: its name, `auto` for the default route's, or `none`
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub(crate) uplink: String,
    /// Who reaches services by their addresses
    #[arg(long, value_enum, default_value_t = Services::Host)]
    pub(crate) services: Services,
    /// Addresses of services
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    pub(crate) service_cidr: String,
    /// Addresses of pods; each node gets a part
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    pub(crate) pod_cidr: String,
    /// The address of the cluster's DNS
    #[arg(long, value_name = "IP", default_value = "10.96.0.10")]
    pub(crate) cluster_dns: Ipv4Addr,
    /// The cluster's domain
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Where names outside of the cluster are looked up; this host's name servers by default
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) upstream_dns: Vec<SocketAddr>,
    /// Run the control plane alone: this host is no node, and takes no pods
    #[arg(long)]
    pub(crate) no_node: bool,
    /// An AdmissionConfiguration: defaults and exemptions of pod security
    #[arg(long, value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
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
    /// On Ctrl-C, do what `carrack down` does
    #[arg(long)]
    pub(crate) purge: bool,
    /// What to log, such as `debug` or `info,carrack_agent=debug`
    #[arg(long, value_name = "FILTER", default_value = "info,openraft=off", env = "CARRACK_LOG")]
    pub(crate) log: String,
}

/// Who reaches services by their cluster addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Services {
    /// Pods and every process of this host
    Host,
    /// Pods alone
    Pods,
}

/// `carrack down`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Remove the data too: the store with all objects, keys, images, volumes, logs
    #[arg(long)]
    pub(crate) delete_data: bool,
    /// Print the result as JSON
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For programs
    Json,
}

/// Prints the completion script of a shell.
pub(crate) fn print_completion(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "carrack", &mut std::io::stdout());
}
