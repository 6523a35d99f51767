//! The agent's own records of a pod, beside its volumes: the pod as it was last seen and the state of its containers.
//! They let the agent take over its pods before, and even without, an answer of the API server.
//!
//! They are replaced whole by rename, and not synced: containers do not survive the loss of the host either, and what
//! the API server was told of them comes back from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::Containers;

const POD: &str = "pod.json";
const CONTAINERS: &str = "containers.json";

/// The records of one pod.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records below a pod's directory, which is made if it is missing.
    pub(crate) fn open(pod_dir: &Path) -> io::Result<Self> {
        let dir = pod_dir.join("carrack");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Keeps the pod.
    pub(crate) fn put_pod(&self, pod: &Pod) -> io::Result<()> {
        self.put(POD, pod)
    }

    /// Keeps the containers' state.
    pub(crate) fn put_containers(&self, containers: &Containers) -> io::Result<()> {
        self.put(CONTAINERS, containers)
    }

    /// The containers' state, or nothing where there is none that can be read.
    pub(crate) fn containers(&self) -> Containers {
        read(&self.dir.join(CONTAINERS)).unwrap_or_default()
    }

    fn put(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let temporary = self.dir.join(format!(".{name}.new"));
        fs::write(&temporary, serde_json::to_vec(value)?)?;
        fs::rename(&temporary, self.dir.join(name))
    }
}

/// The pods that have records below `pods_dir`, by uid. A directory without a readable pod is given with none, so that
/// it can be cleared away.
pub(crate) fn known_pods(pods_dir: &Path) -> io::Result<Vec<(String, Option<Pod>)>> {
    let entries = match fs::read_dir(pods_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut pods = Vec::new();
    for entry in entries {
        let entry = entry?;
        let uid = entry.file_name().to_string_lossy().into_owned();
        pods.push((uid, read(&entry.path().join("carrack").join(POD))));
    }
    Ok(pods)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a record can not be read and is passed over");
            None
        }
    }
}
