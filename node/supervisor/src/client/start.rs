//! Starts supervisors and finds running ones.

use super::connection::Connection;
use super::{Sandbox, SandboxError};
use crate::protocol::{Layout, short_socket_name};
use crate::records;
use crate::types::{ExitRecord, SandboxConfig};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;

/// Most bytes of a failed supervisor's complaint that are kept.
const MAX_COMPLAINT: u64 = 4096;

/// Starts a supervisor for a pod by running `exe supervisor <dir>`, and waits until it answers. One that already runs
/// in that directory (started by an agent that was killed before it could note so) is adopted, whatever its config.
pub async fn start(exe: &Path, config: &SandboxConfig) -> Result<Sandbox, SandboxError> {
    if let Some(running) = adopt(&config.dir).await? {
        return Ok(running);
    }
    let failed = |what: &str, error: std::io::Error| {
        SandboxError::Start(format!("{what} {}: {error}", config.dir.display()))
    };
    write_config(config).map_err(|error| failed("cannot prepare", error))?;
    let mut child = Command::new(exe)
        .arg("supervisor")
        .arg(&config.dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| SandboxError::Start(format!("cannot run {}: {error}", exe.display())))?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // "ready", or the end of a supervisor that cannot.
        stdout.take(6).read_to_end(&mut said).await.map_err(|error| failed("cannot hear from", error))?;
    }
    if said != b"ready\n" {
        let mut complaint = String::new();
        if let Some(stderr) = child.stderr.take() {
            stderr
                .take(MAX_COMPLAINT)
                .read_to_string(&mut complaint)
                .await
                .map_err(|e| failed("cannot hear from", e))?;
        }
        // Reaped here; with its output closed it has ended or is about to.
        let status = child.wait().await.map_err(|error| failed("cannot wait for", error))?;
        let complaint = complaint.trim();
        let message =
            if complaint.is_empty() { format!("it ended with {status}") } else { complaint.to_owned() };
        return Err(SandboxError::Start(message));
    }
    // The child is dropped and runs on; tokio reaps it should it end before this process does.
    adopt(&config.dir).await?.ok_or_else(|| SandboxError::Start("it ended right after it was ready".into()))
}

/// Connects to the supervisor that runs in `dir`; `None` when none does.
pub async fn adopt(dir: &Path) -> Result<Option<Sandbox>, SandboxError> {
    let place = match std::fs::File::open(dir) {
        Ok(place) => place,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SandboxError::Connection(error)),
    };
    let stream = match UnixStream::connect(short_socket_name(&place)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(SandboxError::Connection(error)),
    };
    match Connection::new(stream).await {
        Ok((connection, greeting)) => Sandbox::new(dir, connection, greeting.pid).map(Some),
        // It was in its last breath.
        Err(SandboxError::Connection(error))
            if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The exit records in a pod's run directory, for a pod whose supervisor is gone.
pub fn exit_records(dir: &Path) -> std::io::Result<Vec<ExitRecord>> {
    records::read_all(&Layout(dir.to_owned()).exits())
}

/// Written whole or not at all: a half-written one must not be found by a supervisor.
fn write_config(config: &SandboxConfig) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
    carrack_files::replace(&Layout(config.dir.clone()).config(), &serde_json::to_vec(config)?, 0o600)
}
