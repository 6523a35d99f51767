//! `emptyDir`: a folder of the pod's own, on disk or in memory.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use rustix::mount::MountFlags;

use crate::mounts::{is_mounted, mount_memory};
use crate::needs::containers;
use crate::quantity::Amount;
use crate::sources::Sources;

/// Where the content of a volume is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    Disk,
    /// Memory, up to so many bytes if there is a bound.
    Memory(Option<u64>),
}

/// The medium a pod asks for; `Err` for one that is not supported.
pub(crate) fn medium(pod: &Pod, source: &EmptyDirVolumeSource, sources: &Sources) -> Result<Medium, String> {
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory(memory_bound(pod, source, sources))),
        other => Err(format!("emptyDir medium {other} is not supported by this node yet")),
    }
}

/// The smallest of the volume's own limit, what the pod may use in all, and what the node can give.
fn memory_bound(pod: &Pod, source: &EmptyDirVolumeSource, sources: &Sources) -> Option<u64> {
    let bytes = |amount: Option<Amount>| u64::try_from(amount?.units()).ok().filter(|bytes| *bytes > 0);
    let own = source.size_limit.as_ref().and_then(|limit| Amount::parse(&limit.0));
    let node = sources.allocatable.get("memory").and_then(|memory| Amount::parse(&memory.0));
    [bytes(own), bytes(pod_limit(pod)), bytes(node)].into_iter().flatten().min()
}

/// The sum of the containers' memory limits, if each of them has one.
fn pod_limit(pod: &Pod) -> Option<Amount> {
    let mut sum = Amount::default();
    for container in containers(pod.spec.as_ref()?) {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("memory")?;
        sum = sum.plus(Amount::parse(&limit.0)?);
    }
    Some(sum)
}

/// Makes the folder, or finds that it is there. Gives whether it was made. Everybody may write in it,
/// whatever the umask: containers run as any user.
pub(crate) fn set_up(path: &Path, medium: Medium, flags: MountFlags) -> io::Result<bool> {
    let is_new = match fs::symlink_metadata(path) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_open_dir(path)?;
            true
        }
        Err(error) => return Err(error),
    };
    match medium {
        Medium::Disk => Ok(is_new),
        Medium::Memory(_) if is_mounted(path)? => Ok(false),
        Medium::Memory(size) => mount_memory(path, size, flags).map(|()| true),
    }
}

/// Makes a folder that everybody may write in, in one step: a crash must not leave one that is there but closed. Its
/// mode is never set again, since the pod may have changed it.
fn make_open_dir(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Names of volumes begin with a letter or digit.
    let staging = path.with_file_name(format!(".{name}.new"));
    match fs::create_dir(&staging) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => fs::set_permissions(&staging, fs::Permissions::from_mode(0o777))?,
    }
    fs::rename(&staging, path)
}
