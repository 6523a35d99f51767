//! The node's network: pods' links and addresses, services in eBPF, masquerade, DNS.
//!
//! Everything that has to go on while no agent runs is the kernel's: links and routes, and programs and maps that are pinned
//! in a bpffs. [`Network::start`] takes over what is there; nothing is flushed. Only DNS needs the process.
//!
//! What is changed on the host: links `ck…` with their routes and neighbours, and per-link settings; `169.254.20.10/32` on
//! `lo`; a bpffs in the run directory; eight programs on the services' cgroup; and with an uplink two programs on it (with a
//! `clsact` discipline to hang them up, where the kernel has no tcx) and its `forwarding` setting. [`Network::purge`] takes all of that back.

mod bpf;
mod dns;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod ipam;
mod link;
mod network;
mod resolv;
mod saved;
mod services;
mod sys;
mod types;

pub use error::{AttachError, NetworkError};
pub use network::Network;
pub use types::{
    Config, DnsConfig, DnsPolicy, Endpoint, PodAddress, PodRef, Protocol, Service, ServicePort, Stats,
};
