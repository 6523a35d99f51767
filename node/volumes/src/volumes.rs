//! The volumes of the pods of a node.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, VolumeMount};

use crate::error::VolumeError;
use crate::sources::{Needs, Sources};

/// Makes, updates and removes the volumes below one folder (the kubelet's `--root-dir`).
#[derive(Debug, Clone)]
pub struct Volumes {
    root: PathBuf,
}

/// A volume that is ready to be mounted into containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Where it is on the host: a folder, or a file for some `hostPath` volumes.
    pub host_path: PathBuf,
    /// Whether containers may only read it, whatever their mounts say.
    pub read_only: bool,
}

/// One `volumeMounts` entry of a container.
#[derive(Debug, Clone, Copy)]
pub struct MountRequest<'a> {
    /// The container's name.
    pub container: &'a str,
    /// The entry's index in `volumeMounts`.
    pub index: usize,
    /// The entry.
    pub mount: &'a VolumeMount,
    /// The environment for `subPathExpr`, as [`crate::environment`] gives it.
    pub environment: &'a [(String, String)],
}

impl Volumes {
    /// The volumes below `root`, such as `/var/lib/carrack/node/kubelet`. Makes nothing yet.
    pub fn new(root: &Path) -> Volumes {
        Volumes { root: root.to_owned() }
    }

    /// Which API objects the pod's volumes and the environments of its containers refer to.
    pub fn needs(pod: &Pod) -> Needs {
        let _ = pod;
        Needs::default()
    }

    /// `<root>/pods/<uid>`.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// Makes every volume of the pod, or brings what is there up to date with the sources. Gives the
    /// volumes by name. May be called again at any time, also for updates while containers use them.
    pub fn set_up(&self, pod: &Pod, sources: &Sources) -> Result<BTreeMap<String, Volume>, VolumeError> {
        let _ = (pod, sources);
        Err(VolumeError::Unknown("not built yet".to_owned()))
    }

    /// The path to bind into the container for one mount. With `subPath` or `subPathExpr` the path is
    /// resolved beneath the volume without following symlinks out of it, made if it is missing, and pinned
    /// by a bind mount under `<pod>/volume-subpaths`, so that nobody can swap it before it is mounted.
    pub fn mount_source(
        &self,
        pod: &Pod,
        volumes: &BTreeMap<String, Volume>,
        request: MountRequest<'_>,
    ) -> Result<PathBuf, VolumeError> {
        let _ = (pod, volumes, request);
        Err(VolumeError::Unknown("not built yet".to_owned()))
    }

    /// Unmounts and removes everything of the pod, its folder included. Fine to repeat.
    pub fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        let _ = uid;
        Err(VolumeError::Unknown("not built yet".to_owned()))
    }

    /// Tears down every pod on disk whose uid is not in `uids`. Goes on after a failure and gives the first.
    pub fn retain(&self, uids: &HashSet<String>) -> Result<(), VolumeError> {
        let _ = uids;
        Err(VolumeError::Unknown("not built yet".to_owned()))
    }
}
