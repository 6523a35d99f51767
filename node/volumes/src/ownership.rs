//! `fsGroup`: volumes that belong to a group, and that the group can use.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use rustix::fs::{AtFlags, CWD, Gid};

/// What the group may do with files it can write.
const READ_WRITE: u32 = 0o660;
/// What it may do with files of volumes that are read-only.
const READ_ONLY: u32 = 0o440;
/// What it may do with folders, besides.
const SEARCH: u32 = 0o110;
/// New files in a folder get the folder's group.
const SET_GROUP: u32 = 0o2000;

/// The pod's `fsGroup`.
pub(crate) fn fs_group(pod: &Pod) -> Option<u32> {
    u32::try_from(pod.spec.as_ref()?.security_context.as_ref()?.fs_group?).ok()
}

/// The user that all containers run as, if the pod says so and they agree: tokens then belong to that user.
pub(crate) fn fs_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let mut users = users(spec);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(u32::try_from(first).ok()?)
}

fn users(spec: &PodSpec) -> impl Iterator<Item = Option<i64>> {
    let pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.security_context);
    all.map(|container| &container.security_context)
        .chain(ephemeral)
        .map(move |context| context.as_ref().and_then(|context| context.run_as_user).or(pod))
}

/// Whether the folder itself is as [`give_to_group`] leaves a folder of a writable volume.
pub(crate) fn belongs_to_group(path: &Path, group: u32) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    let wanted = wanted_bits(true, false);
    Ok(found.gid() == group && found.mode() & wanted == wanted)
}

/// Gives everything at and below a path to the group, and the rights that go with it. Links are given away but not
/// followed.
pub(crate) fn give_to_group(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path)?;
        if found.gid() != group {
            rustix::fs::chownat(CWD, &path, None, Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if found.is_symlink() {
            continue;
        }
        // Chown may have cleared set-id bits, so the mode is always set.
        let mode = (found.mode() & 0o7777) | wanted_bits(found.is_dir(), read_only);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}

fn wanted_bits(is_dir: bool, read_only: bool) -> u32 {
    let file = if read_only { READ_ONLY } else { READ_WRITE };
    if is_dir { file | SEARCH | SET_GROUP } else { file }
}
