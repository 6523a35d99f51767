//! Who this member is: chosen once, when the data directory is made.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::error::OpenError;

const FORMAT: u64 = 1;
const NAME: &str = "identity.json";

/// The contents of `identity.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    format: u64,
    pub(crate) cluster_name: String,
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

impl Identity {
    /// Reads the identity in `dir`, or chooses one if the directory is new.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, cluster_name: &str) -> Result<Identity, OpenError> {
        let path = dir.join(NAME);
        let failed = |what, source| OpenError::Io { what, path: path.clone(), source };
        let files = disk.list(dir).map_err(|source| failed("reading the directory of", source))?;
        if !files.contains(&path) {
            let id = || rand::random_range(1..=u64::MAX);
            let cluster_name = cluster_name.to_owned();
            let made = Identity { format: FORMAT, cluster_name, cluster_id: id(), member_id: id() };
            made.write(disk, dir).map_err(|source| failed("writing", source))?;
            return Ok(made);
        }
        let bytes = read(disk, &path).map_err(|source| failed("reading", source))?;
        let found: Identity = serde_json::from_slice(&bytes)
            .map_err(|error| OpenError::Corrupt { path: path.clone(), detail: error.to_string() })?;
        if found.format != FORMAT {
            return Err(OpenError::Format { path, found: found.format, known: FORMAT });
        }
        if found.cluster_name != cluster_name {
            let (found, wanted) = (found.cluster_name, cluster_name.to_owned());
            return Err(OpenError::WrongCluster { path: dir.to_owned(), found, wanted });
        }
        Ok(found)
    }

    /// Writes it beside, then renames it, so that it is there whole or not at all.
    fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let beside = dir.join("identity.json.new");
        let file = disk.open(&beside, true)?;
        let bytes = serde_json::to_vec_pretty(self)?;
        file.set_len(bytes.len() as u64)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(&beside, &dir.join(NAME))?;
        disk.sync_dir(dir)
    }
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, false)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
