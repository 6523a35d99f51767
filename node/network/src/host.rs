//! What the network changes on the host besides links: the bpffs of its pins, and two settings if there is an uplink.
//!
//! Settings are the uplink's own `forwarding` and, only where ephemeral ports overlap with masqueraded ones, the reserved
//! ports. Their former values are on disk before they are changed, so that [`restore_settings`] can put them back. The global
//! `ip_forward` is never touched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use crate::error::NetworkError;
use crate::ipam::file_error;
use crate::link::{sysctl_read, sysctl_write};

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The ports that masqueraded flows get.
pub(crate) const NAT_PORTS: (u16, u16) = (61_000, 65_535);

/// Where the bpffs of a run directory is mounted.
pub(crate) fn bpffs_path(run_dir: &Path) -> PathBuf {
    run_dir.join("bpf")
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    match rustix::fs::statfs(path) {
        Ok(stat) => Ok(stat.f_type == BPF_FS_MAGIC),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that a bpffs is mounted below the run directory.
pub(crate) fn mount_bpffs(run_dir: &Path) -> Result<PathBuf, NetworkError> {
    let path = bpffs_path(run_dir);
    fs::create_dir_all(&path).map_err(file_error("create", &path))?;
    if !is_bpffs(&path).map_err(file_error("look at", &path))? {
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .map_err(|error| file_error("mount a bpffs on", &path)(error.into()))?;
    }
    Ok(path)
}

/// Unmounts it; fine if there is none.
pub(crate) fn unmount_bpffs(run_dir: &Path) -> Result<(), NetworkError> {
    let path = bpffs_path(run_dir);
    while is_bpffs(&path).map_err(file_error("look at", &path))? {
        umount2(&path, MntFlags::MNT_DETACH).map_err(|error| file_error("unmount", &path)(error.into()))?;
    }
    match fs::remove_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// A setting that was changed.
#[derive(Debug, Serialize, Deserialize)]
struct Changed {
    before: String,
    ours: String,
}

fn record_path(state_dir: &Path) -> PathBuf {
    state_dir.join("host-settings.json")
}

fn read_record(path: &Path) -> Result<BTreeMap<String, Changed>, NetworkError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| file_error("read", path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

/// Lets the uplink forward to pods and keeps the masqueraded ports free of the host's own connections.
pub(crate) fn prepare_uplink(state_dir: &Path, uplink: &str) -> Result<(), NetworkError> {
    let forwarding = format!("ipv4/conf/{uplink}/forwarding");
    set(state_dir, &forwarding, |_| Some("1".to_owned()))?;
    let range = "ipv4/ip_local_port_range";
    let range = sysctl_read(range).map_err(file_error("read", Path::new(range)))?;
    set(state_dir, "ipv4/ip_local_reserved_ports", |reserved| reserve(&range, reserved))
}

/// What the reserved ports have to be; `None` if they may stay.
fn reserve(local_range: &str, reserved: &str) -> Option<String> {
    let last: u16 = local_range.split_whitespace().nth(1)?.parse().ok()?;
    let ours = format!("{}-{}", NAT_PORTS.0, NAT_PORTS.1);
    if last < NAT_PORTS.0 || reserved.split(',').any(|range| range == ours) {
        return None;
    }
    Some(if reserved.is_empty() { ours } else { format!("{reserved},{ours}") })
}

/// Changes a setting if `wanted` gives another value for it, recording the former one first.
fn set(state_dir: &Path, key: &str, wanted: impl FnOnce(&str) -> Option<String>) -> Result<(), NetworkError> {
    let name = Path::new("/proc/sys/net").join(key);
    let before = sysctl_read(key).map_err(file_error("read", &name))?;
    let Some(ours) = wanted(&before).filter(|ours| *ours != before) else { return Ok(()) };
    let path = record_path(state_dir);
    let mut record = read_record(&path)?;
    let entry = record.entry(key.to_owned()).or_insert(Changed { before, ours: String::new() });
    entry.ours.clone_from(&ours);
    write_synced(
        &path,
        &serde_json::to_vec_pretty(&record).map_err(io::Error::other).map_err(file_error("write", &path))?,
    )
    .map_err(file_error("write", &path))?;
    sysctl_write(key, &ours).map_err(file_error("write", &name))
}

/// Puts back every setting that still has the value given to it here.
pub(crate) fn restore_settings(state_dir: &Path) -> Result<(), NetworkError> {
    let path = record_path(state_dir);
    for (key, changed) in read_record(&path)? {
        let name = Path::new("/proc/sys/net").join(&key);
        match sysctl_read(&key) {
            Ok(now) if now == changed.ours => {
                // An empty list of ports is written as a newline: an empty write does nothing.
                let before = format!("{}\n", changed.before);
                sysctl_write(&key, &before).map_err(file_error("write", &name))?;
            }
            Ok(_) => {}
            // The interface is gone, and its settings with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error("read", &name)(error)),
        }
    }
    remove_file(&path)
}

/// Removes a file; fine if it is not there.
pub(crate) fn remove_file(path: &Path) -> Result<(), NetworkError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Replaces a file so that after a crash there is the old one or the new one.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(dir)?;
    carrack_files::replace(path, bytes, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_reserved_only_where_they_overlap() {
        assert_eq!(reserve("32768\t60999", ""), None);
        assert_eq!(reserve("1024\t65535", "").as_deref(), Some("61000-65535"));
        assert_eq!(reserve("1024\t65535", "8080,9090-9099").as_deref(), Some("8080,9090-9099,61000-65535"));
        assert_eq!(reserve("1024\t65535", "61000-65535"), None);
        assert_eq!(reserve("garbage", ""), None);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        write_synced(&path, b"one").unwrap();
        write_synced(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove_file(&path).unwrap();
        remove_file(&path).unwrap();
    }
}
