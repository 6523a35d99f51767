//! Who this member is: chosen once, when the data directory is made.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cluster::InitialMember;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::options::Options;

const FORMAT: u64 = 1;
const NAME: &str = "identity.json";

/// The contents of `identity.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    format: u64,
    pub(crate) cluster_name: String,
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// Whether it was added to a cluster that was there before.
    #[serde(default)]
    pub(crate) joins: bool,
    /// Of all the other fields; members that were made before there was one have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<u32>,
}

impl Identity {
    /// A member that joins the cluster `cluster_id` as `member_id`.
    pub(crate) fn joining(options: &Options, cluster_id: u64, member_id: u64) -> Identity {
        let cluster_name = options.cluster_name.clone();
        Identity { format: FORMAT, cluster_name, cluster_id, member_id, joins: true, checksum: None }
    }

    /// A member of a new cluster. If there is an initial list, all who have the same list choose the same ids.
    pub(crate) fn founding(options: &Options) -> Result<Identity, OpenError> {
        let cluster_name = options.cluster_name.clone();
        let members = initial_ids(options);
        if members.is_empty() {
            let (cluster_id, member_id) = (options.random.id(), options.random.id());
            return Ok(Identity {
                format: FORMAT,
                cluster_name,
                cluster_id,
                member_id,
                joins: false,
                checksum: None,
            });
        }
        let own = members.iter().find(|(_, member)| member.name == options.name);
        let Some((member_id, _)) = own else {
            return Err(OpenError::Options(format!(
                "initial_cluster does not name this member, {:?}",
                options.name
            )));
        };
        let mut all = Sha256::new();
        members.keys().for_each(|id| all.update(id.to_be_bytes()));
        let (cluster_id, member_id) = (first_bytes(all), *member_id);
        Ok(Identity { format: FORMAT, cluster_name, cluster_id, member_id, joins: false, checksum: None })
    }

    /// Reads the identity in `dir`; `None` if the directory is new.
    pub(crate) fn read(
        disk: &dyn Disk,
        dir: &Path,
        cluster_name: &str,
    ) -> Result<Option<Identity>, OpenError> {
        let path = dir.join(NAME);
        let failed = |what, source| OpenError::Io { what, path: path.clone(), source };
        let files = disk.list(dir).map_err(|source| failed("reading the directory of", source))?;
        if !files.contains(&path) {
            return Ok(None);
        }
        let bytes = read(disk, &path).map_err(|source| failed("reading", source))?;
        let found: Identity = serde_json::from_slice(&bytes)
            .map_err(|error| OpenError::Corrupt { path: path.clone(), detail: error.to_string() })?;
        if found.format != FORMAT {
            return Err(OpenError::Format { path, found: found.format, known: FORMAT });
        }
        if found.checksum.is_some() && found.checksum != found.sum() {
            let detail = "its content does not match its checksum".to_owned();
            return Err(OpenError::Corrupt { path, detail });
        }
        if found.cluster_name != cluster_name {
            let (found, wanted) = (found.cluster_name, cluster_name.to_owned());
            return Err(OpenError::WrongCluster { path: dir.to_owned(), found, wanted });
        }
        Ok(Some(found))
    }

    fn sum(&self) -> Option<u32> {
        let plain = Identity { checksum: None, ..self.clone() };
        serde_json::to_vec(&plain).ok().map(|bytes| crc32fast::hash(&bytes))
    }

    /// Writes it beside, then renames it, so that it is there whole or not at all.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(NAME);
        self.write_files(disk, dir, &path).map_err(|source| OpenError::Io { what: "writing", path, source })
    }

    fn write_files(&self, disk: &dyn Disk, dir: &Path, path: &Path) -> io::Result<()> {
        let beside = dir.join("identity.json.new");
        let file = disk.open(&beside, true)?;
        let bytes = serde_json::to_vec_pretty(&Identity { checksum: self.sum(), ..self.clone() })?;
        file.set_len(bytes.len() as u64)?;
        file.write_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(&beside, path)?;
        disk.sync_dir(dir)
    }
}

/// The ids of the initial members: everybody who has the list can tell them.
pub(crate) fn initial_ids(options: &Options) -> BTreeMap<u64, &InitialMember> {
    let id = |member: &InitialMember| {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        let mut hash = Sha256::new();
        for part in urls.iter().chain([&options.cluster_name]) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        first_bytes(hash)
    };
    options.initial_cluster.iter().map(|member| (id(member), member)).collect()
}

/// An id from a hash; 0 means "nobody".
fn first_bytes(hash: Sha256) -> u64 {
    let digest = hash.finalize();
    let number = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    number.max(1)
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, false)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
