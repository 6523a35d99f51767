//! An image as the rest of the node sees it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// An image that is complete on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the configuration: the image's identity.
    pub id: String,
    /// Normalised references with a tag that mean this image, such as `docker.io/library/busybox:latest`.
    pub references: Vec<String>,
    /// `registry/repository@sha256:…` of the manifests (or indexes) it was pulled by.
    pub digests: Vec<String>,
    /// Bytes that its unpacked layers take on disk; layers shared with other images are counted in each.
    pub size: u64,
    /// What to run, and how.
    pub config: ImageConfig,
}

/// The part of an image's configuration that says how to run it, as the OCI image specification's `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// The command's head; a container's `command` replaces it.
    pub entrypoint: Vec<String>,
    /// The command's arguments; a container's `args` replace them.
    pub cmd: Vec<String>,
    /// Environment, each `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`, each a name or a number; empty is root.
    pub user: String,
    /// The directory the command starts in; empty is `/`.
    pub working_dir: String,
    /// The signal that asks the command to end, such as `SIGQUIT`; `None` is `SIGTERM`.
    pub stop_signal: Option<String>,
    /// Paths that the image wants as volumes.
    pub volumes: BTreeSet<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Ports the command listens on, such as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
}
