//! Removes everything the agent made on this host.

use std::net::Ipv4Addr;

use carrack_cgroups::{CgroupError, Cgroups};
use carrack_network::{Config, Network, NetworkError};
use carrack_volumes::{VolumeError, Volumes};
use ipnet::Ipv4Net;

use crate::disk;
use crate::options::Place;

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Processes or control groups.
    #[error("control groups were not removed")]
    Cgroup(#[from] CgroupError),
    /// Links, addresses, routes or eBPF programs.
    #[error("the network was not removed")]
    Network(#[from] NetworkError),
    /// Mounts of volumes.
    #[error("volumes were not removed")]
    Volumes(#[from] VolumeError),
    /// A directory.
    #[error("{path}")]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Ends every pod at once and removes processes, control groups, mounts, links, addresses, routes and eBPF pins.
/// Images and logs stay unless the caller removes the data directory. Fine to repeat; no agent may be running.
pub fn purge(place: &Place) -> Result<(), PurgeError> {
    let cgroups = Cgroups::open(&place.cgroup_base)?;
    let config = network_config(place, &cgroups);
    // Pods' network namespaces end with their processes, and the links with the namespaces.
    let killed = cgroups.purge();
    let network = Network::purge(&config);
    let volumes = Volumes::new(&place.kubelet_dir());
    let pods_dir = place.kubelet_dir().join("pods");
    let known = disk::known_pods(&pods_dir).map_err(|source| PurgeError::Io { path: pods_dir, source })?;
    let torn = known.iter().map(|(uid, _)| volumes.tear_down(uid)).fold(Ok(()), Result::and);
    let run_dir = place.run_dir.join("pods");
    carrack_files::remove_tree(&run_dir).map_err(|source| PurgeError::Io { path: run_dir, source })?;
    killed?;
    network?;
    Ok(torn?)
}

/// What a network is removed by: its directories. How it was set up it has kept there itself; the rest of the
/// configuration does not matter.
fn network_config(place: &Place, cgroups: &Cgroups) -> Config {
    Config {
        run_dir: place.run_dir.clone(),
        state_dir: place.network_dir(),
        pod_cidr: Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0),
        node_ip: Ipv4Addr::LOCALHOST,
        uplink: None,
        service_cgroup: cgroups.v2_path(),
        dns_address: Ipv4Addr::UNSPECIFIED,
        cluster_domain: String::new(),
        upstream_dns: Vec::new(),
        mtu: None,
    }
}
