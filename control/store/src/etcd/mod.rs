//! etcd's v3 gRPC API: a second face of [`Store`], for `etcdctl`, etcd's client libraries, monitoring and backups.
//!
//! [`serve`] answers on one port, as etcd does: gRPC, and `/health`, `/version` and `/metrics` over plain HTTP.
//! Messages, error codes and texts, and metrics are etcd's own; what they mean is said at each message. Nothing here
//! keeps state of its own: every call is one of the store's.

mod auth;
mod calls;
pub mod client;
mod cluster;
mod compactor;
mod concurrency;
mod convert;
mod error;
mod exposition;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gather;
mod health;
mod http;
mod kv;
mod lease;
mod maintenance;
mod metrics;
pub(crate) mod proto;
mod server;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;

use crate::store::Store;

pub use compactor::{AutoCompaction, compact_automatically};
pub use server::{Listener, Security, serve};
pub use tls::{TlsError, tls_config};

/// The version of etcd whose API this is. Clients switch features by it.
pub const API_VERSION: &str = "3.5.21";

/// How the store presents itself to clients of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How often an idle watch that asked for it is told how far it has come; etcd's default.
    pub progress_interval: Duration,
    /// The most connections at a time; further ones wait to be accepted.
    pub max_connections: usize,
    /// The most requests and streams under way on one connection.
    pub max_streams: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            progress_interval: Duration::from_secs(600),
            max_connections: 16 << 10,
            max_streams: 16 << 10,
        }
    }
}

/// What every call has at hand.
pub(crate) struct Face {
    store: Store,
    config: Config,
    counters: metrics::Counters,
    /// True once the server stops: streams end.
    stopping: signal::Receiver<bool>,
}

impl Face {
    /// The header of an answer as of `revision`.
    fn header(&self, revision: i64) -> Option<proto::ResponseHeader> {
        let (cluster_id, member_id) = self.store.ids();
        Some(proto::ResponseHeader { cluster_id, member_id, revision, raft_term: self.store.term() })
    }

    /// The header of an answer as of now.
    fn header_now(&self) -> Option<proto::ResponseHeader> {
        self.header(self.store.revision())
    }

    /// Ends when the server stops.
    async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        // An error is the end of the server too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// A face as calls hold it.
type Shared = Arc<Face>;
