//! What the HTTP API asks of the agent.

use std::future::Future;
use std::path::PathBuf;

use futures::future::BoxFuture;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// One end of a stream out of a container.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// One end of a stream into a container.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The agent, as the HTTP API sees it. Implementors may write plain `async fn`s.
pub trait NodeApi: Send + Sync + 'static {
    /// `Err` says what is wrong; it becomes the body of a 500 on `/healthz`.
    fn healthy(&self) -> Result<(), String>;

    /// The pods bound to this node, with the status that the agent last computed.
    fn pods(&self) -> List<Pod>;

    /// The body of `/stats/summary`.
    fn stats_summary(&self) -> impl Future<Output = Result<serde_json::Value, ApiFailure>> + Send;

    /// The body of `/metrics/resource`, in Prometheus' text format.
    fn resource_metrics(&self) -> impl Future<Output = Result<String, ApiFailure>> + Send;

    /// Where the log of a container is: of its present or last run, or with `previous` of the run before.
    fn logs(
        &self,
        target: &Target,
        previous: bool,
    ) -> impl Future<Output = Result<LogSource, ApiFailure>> + Send;

    /// Starts a command in a running container.
    fn exec(
        &self,
        target: &Target,
        request: ExecRequest,
    ) -> impl Future<Output = Result<Streams, ApiFailure>> + Send;

    /// Connects to the main process of a running container.
    fn attach(
        &self,
        target: &Target,
        request: Attach,
    ) -> impl Future<Output = Result<Streams, ApiFailure>> + Send;

    /// Connects to a TCP port inside the pod's network namespace, on its loopback address.
    fn port_forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> impl Future<Output = Result<tokio::net::TcpStream, ApiFailure>> + Send;
}

/// A container of a pod; init and ephemeral containers too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// The pod's uid, when the caller gave one: another pod of the same name is then not meant.
    pub uid: Option<String>,
    /// Name of the container.
    pub container: String,
}

/// The log of one run of a container, in the format of CRI.
#[derive(Debug, Clone)]
pub struct LogSource {
    /// The file that is (or was last) written to, such as `…/web/0.log`. Rotated files lie beside it, named
    /// like it plus `.` and a timestamp whose order is that of time.
    pub path: PathBuf,
    /// Becomes true once the container has ended and its last line is in the file. `follow` ends then.
    pub ended: watch::Receiver<bool>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; at least one.
    pub command: Vec<String>,
    /// Which streams, and whether with a terminal.
    pub streams: Attach,
}

/// Which streams are wanted. At least one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// A terminal: standard error comes out of standard output, and resizes are meaningful.
    pub tty: bool,
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never together with `tty`.
    pub stderr: bool,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A process's streams, as far as they were asked for.
pub struct Streams {
    /// Standard input; shut down when the client closes its side.
    pub stdin: Option<Writer>,
    /// Standard output, or the terminal. Ends when the last writer is gone.
    pub stdout: Option<Reader>,
    /// Standard error.
    pub stderr: Option<Reader>,
    /// Takes the sizes of the client's terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Ends when the process has: `Err` says why its status is unknown. Dropped when the client goes away
    /// first, whereupon an exec's process should get SIGHUP as after a lost terminal, and an attached one nothing.
    pub exit: BoxFuture<'static, Result<ExitStatus, String>>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code; 128 plus the signal's number for a process that a signal ended.
    pub code: i32,
}

/// Why a request cannot be fulfilled; the text reaches the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiFailure {
    /// 400: the request makes no sense, such as the log of a container that has not started.
    #[error("{0}")]
    BadRequest(String),
    /// 404: no such pod or container.
    #[error("{0}")]
    NotFound(String),
    /// 409: not now, such as exec into a container that does not run.
    #[error("{0}")]
    Conflict(String),
    /// 500: something failed.
    #[error("{0}")]
    Internal(String),
    /// 501: this node does not do that.
    #[error("{0}")]
    NotImplemented(String),
}
