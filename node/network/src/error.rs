//! What can go wrong, one enum for each operation.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Why the network did not start, or its tables could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The configuration cannot work.
    #[error("network configuration: {0}")]
    Config(String),
    /// A file or directory could not be read, made or written.
    #[error("{action} {path}")]
    File {
        /// What was tried, as in "write".
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a program, a map or a link.
    #[error("eBPF: {action}")]
    Bpf {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error("netlink: {action}")]
    Netlink {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The record of addresses is damaged.
    #[error("address record {path}, line {line}: {reason}")]
    Ipam {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// DNS could not listen.
    #[error("DNS cannot listen on {address}: is another DNS server bound to all addresses?")]
    Dns {
        /// Where.
        address: std::net::SocketAddr,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A task of the network ended before its time.
    #[error("network task failed: {0}")]
    Task(String),
}

/// Why a pod got no link.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The pod's id cannot be recorded.
    #[error("pod id {0:?} is empty, longer than 128 characters or not printable")]
    BadId(String),
    /// Every address of the node is taken.
    #[error("no free address in {cidr}: all {used} are in use")]
    Exhausted {
        /// The node's pod CIDR.
        cidr: ipnet::Ipv4Net,
        /// How many addresses are in use.
        used: usize,
    },
    /// Another pod's link has the name.
    #[error("link {link} belongs to {owner:?}")]
    LinkTaken {
        /// The link.
        link: String,
        /// What its alias says.
        owner: String,
    },
    /// The pod's network namespace cannot be entered.
    #[error("network namespace {path}")]
    Namespace {
        /// Where it was expected.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Setting up the link for an address failed.
    #[error("link for {ip}: {action}")]
    Link {
        /// The pod's address.
        ip: Ipv4Addr,
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The address could not be recorded.
    #[error(transparent)]
    Network(#[from] NetworkError),
}
