//! The messages of etcd's v3 API: field numbers from its public `rpc.proto`, `kv.proto`, `v3lock.proto` and
//! `v3election.proto`. Enumerations are plain numbers, so that unknown ones reach the code that judges them.

pub(crate) mod cluster;
pub(crate) mod concurrency;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
#[cfg(test)]
mod tests;
pub(crate) mod watch;

/// Who answered, and as of which revision.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseHeader {
    /// The cluster.
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    /// The member that answers.
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    /// The newest revision when it answered.
    #[prost(int64, tag = "3")]
    pub revision: i64,
    /// Raft's term.
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// `grpc.health.v1.Health`, of gRPC itself.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// 1: serving, 2: not serving.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}
