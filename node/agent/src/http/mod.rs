//! The node's HTTPS API: logs, exec, attach, pods and health, for the API server.
//!
//! The paths are the kubelet's. Only two identities get in: the API server's own client certificate
//! (`kube-apiserver-kubelet-client`) and members of `system:masters`; the API server has authorized its
//! own caller before it connects. What the requests do is up to the agent, behind [`NodeApi`].

mod api;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handlers;
mod identity;
mod logs;
mod room;
mod route;
mod server;
mod spdy;
mod streaming;
#[cfg(test)]
mod tests;

pub use api::{
    ApiFailure, Attach, ExecRequest, ExitStatus, LogSource, NodeApi, Reader, Streams, Target, TerminalSize,
    Writer,
};
pub(crate) use logs::log_files;
pub use server::{DEFAULT_PORT, serve};
