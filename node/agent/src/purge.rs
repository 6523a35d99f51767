//! Removes everything the agent made on this host.

use carrack_cgroups::{CgroupError, Cgroups};
use carrack_network::{Network, NetworkError};
use carrack_volumes::{VolumeError, Volumes};

use crate::options::Options;
use crate::{cidr_for_purge, disk, network_config};

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
pub fn purge(options: &Options) -> Result<(), PurgeError> {
    let cgroups = Cgroups::open(&options.cgroup_base)?;
    let config = network_config(options, &cgroups, cidr_for_purge(options));
    // Pods' network namespaces end with their processes, and the links with the namespaces.
    let killed = cgroups.purge();
    let network = Network::purge(&config);
    let volumes = Volumes::new(&options.kubelet_dir());
    let pods_dir = options.kubelet_dir().join("pods");
    let known = disk::known_pods(&pods_dir).map_err(|source| PurgeError::Io { path: pods_dir, source })?;
    let torn = known.iter().map(|(uid, _)| volumes.tear_down(uid)).fold(Ok(()), Result::and);
    let run_dir = options.run_dir.join("pods");
    match std::fs::remove_dir_all(&run_dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(PurgeError::Io { path: run_dir, source });
        }
        _ => {}
    }
    killed?;
    network?;
    Ok(torn?)
}
