//! The face of etcd beside etcd itself: the same commands and calls to both, and the answers compared. Needs Debian's
//! `etcd-server` and `etcd-client` (`cargo xtask setup`).

#![allow(clippy::expect_used, clippy::panic)]

mod client;
mod etcdctl;
mod mask;
mod servers;
mod snapshots;
mod tls;
mod wire;
