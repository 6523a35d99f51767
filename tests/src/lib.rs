//! Real clusters for whole-system tests and the demo: a registry with an image made on the spot, `carrack up` in a
//! network namespace and control group of its own, and the words to say what should happen.

#![allow(missing_docs, reason = "the names say it; this is the tests' own language")]
#![allow(clippy::panic, reason = "how a test fails")]

pub mod apply;
pub mod cluster;
pub mod history;
pub mod host;
pub mod http;
pub mod image;
pub mod javascript;
pub mod kubectl;
pub mod lan;
pub mod members;
pub mod python;
mod registry;
pub mod scene;
pub mod servers;
pub mod small_disk;
pub mod transcript;

pub use cluster::{Cluster, Options};
pub use host::Host;
pub use registry::Registry;
pub use scene::{Scene, on_a_cluster, on_a_control_plane, on_a_scene};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The `carrack` binary that lies beside the running one, or the one that `CARRACK` names.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARRACK") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("carrack")).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("there is no carrack binary beside {}: run `cargo build` first", own.display()),
    }
}

/// A time limit for this machine: times what `CARRACK_SLOW` says, for machines much slower than those that limits are
/// chosen for.
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("CARRACK_SLOW").ok().and_then(|factor| factor.parse().ok());
    limit * factor.unwrap_or(1)
}

/// As [`eventually`], on a thread that may block.
pub fn eventually_sync<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let (began, limit) = (Instant::now(), patience(limit));
    loop {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Err(error) if began.elapsed() > limit => return Err(error),
            Ok(None) if began.elapsed() > limit => bail!("not within {limit:?}"),
            Ok(None) | Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Asks again every few milliseconds until there is an answer, at most for `limit` (see [`patience`]).
pub async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let (began, limit) = (Instant::now(), patience(limit));
    let mut last = None;
    while began.elapsed() < limit {
        match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match last {
        Some(error) => Err(error.context(format!("not within {limit:?}: {what}"))),
        None => bail!("not within {limit:?}: {what}"),
    }
}
