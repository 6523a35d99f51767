//! Volumes of pods: plugins, atomic updates, clean removal, and the environment of containers.
//!
//! Everything here is synchronous work on files and mounts. The agent fetches the API objects that a pod
//! refers to ([`Volumes::needs`]) and hands them in ([`Sources`]); nothing here talks to the API server.
//!
//! The folders are the kubelet's, since people and tools know them:
//! `<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`. The disk is the truth: each call looks at
//! what is there and mounts or writes what is missing, so that every call may be repeated after a crash.

mod atomic;
mod empty_dir;
mod environment;
mod error;
mod fields;
mod host_path;
mod mounts;
mod needs;
mod ownership;
mod payload;
mod quantity;
mod sources;
mod sub_path;
mod volumes;

pub use environment::{Facts, environment, expand};
pub use error::{EnvError, VolumeError};
pub use quantity::Amount;
pub use sources::{Needs, Sources, TokenKey};
pub use volumes::{MountRequest, Volume, Volumes};
