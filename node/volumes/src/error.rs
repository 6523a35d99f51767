//! What can go wrong with volumes and environments, in the words upstream uses in events.

use std::io;
use std::path::PathBuf;

/// Why a volume could not be set up, mounted or removed. `Display` is what goes into the `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume of a type that this node does not know.
    #[error("volume \"{volume}\": type {kind} is not supported by this node yet")]
    Unsupported {
        /// The volume's name in the pod.
        volume: String,
        /// Its type, such as `csi`.
        kind: String,
    },
    /// A ConfigMap, Secret or token is missing, or lacks a key.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    SetUp {
        /// The volume's name in the pod.
        volume: String,
        /// What is wrong, such as `configmap "x" not found`.
        message: String,
    },
    /// The pod refers to a volume that it does not define.
    #[error("volume \"{0}\" is not defined in the pod")]
    Unknown(String),
    /// A name or uid that cannot be the name of a folder.
    #[error("\"{0}\" cannot be the name of a volume or the uid of a pod")]
    Name(String),
    /// A `subPath` that is absolute, climbs out of the volume or leads through a symlink.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {message}")]
    SubPath {
        /// The volume's name in the pod.
        volume: String,
        /// The container's name.
        container: String,
        /// What is wrong.
        message: String,
    },
    /// The kernel refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, such as `mount tmpfs on`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a container's environment cannot be made: the message of `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// There is no such ConfigMap.
    #[error("configmap \"{0}\" not found")]
    ConfigMapNotFound(String),
    /// There is no such Secret.
    #[error("secret \"{0}\" not found")]
    SecretNotFound(String),
    /// The ConfigMap has no such key.
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    ConfigMapKey {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the ConfigMap.
        name: String,
        /// The key that is missing.
        key: String,
    },
    /// The Secret has no such key.
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    SecretKey {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// The key that is missing.
        key: String,
    },
    /// The object was not handed in: the agent has to look it up first.
    #[error("failed to sync {0} cache: it has not been looked up yet")]
    NotLookedUp(String),
    /// A field or resource that cannot be referred to.
    #[error("{0}")]
    Unsupported(String),
    /// A value that is not text: environments are.
    #[error("the value of key {key} in Secret {name} is not valid UTF-8")]
    NotText {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
}
