//! Folders of small files that change all at once, as upstream's `AtomicWriter` writes them.
//!
//! ```text
//! key          -> ..data/key
//! ..data       -> ..2024_05_01_12_00_00.123456789
//! ..2024_05_01_12_00_00.123456789/key
//! ```
//! An update is a new timestamped folder and one rename of `..data`: a reader sees all of the old content or all of
//! the new. Every step can be repeated, and what a crash left half done is finished or removed by the next call.
//! Nothing is synced: after a power failure the pod starts anew and the content is compared and written again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

/// The link that names the present content.
const DATA: &str = "..data";
/// The link while it is being replaced.
const DATA_NEW: &str = "..data_tmp";
/// The longest path of a file in a volume: the kernel's PATH_MAX.
const MAX_PATH: usize = 4096;
/// The longest component: NAME_MAX.
const MAX_NAME: usize = 255;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Who owns it; root if nobody is named.
    pub(crate) user: Option<u32>,
}

/// Files by their path in the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// Whether a path may name a file of a volume: relative, without `..`, and not one of the writer's own names.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("invalid path: must not be empty".to_owned());
    }
    if path.starts_with('/') {
        return Err(format!("invalid path: must be relative path: {path}"));
    }
    if path.len() > MAX_PATH {
        return Err(format!("invalid path: must be less than or equal to {MAX_PATH} characters"));
    }
    if path.contains('\0') {
        return Err("invalid path: must not contain NUL".to_owned());
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.contains(&"..") {
        return Err(format!("invalid path: must not contain '..': {path}"));
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(format!("invalid path: filenames must be less than or equal to {MAX_NAME} characters"));
    }
    match path.starts_with("..") {
        true => Err(format!("invalid path: must not start with '..': {path}")),
        false => Ok(()),
    }
}

/// Makes a folder show exactly these files. `own` gives owner and group to everything below a path; it is called
/// before new content is shown. Gives whether anything changed.
pub(crate) fn write(
    dir: &Path,
    payload: &Payload,
    own: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    let payload: BTreeMap<PathBuf, &File> = payload.iter().map(|(path, file)| (plain(path), file)).collect();
    let current = current_folder(dir)?;
    let changed = match &current {
        Some(folder) => read_files(&dir.join(folder))? != describe(&payload),
        None => true,
    };
    let current = if changed {
        let folder = write_folder(dir, &payload)?;
        own(&dir.join(&folder))?;
        switch(dir, &folder)?;
        folder
    } else {
        current.unwrap_or_default()
    };
    // Also when nothing changed: a crash may have come between the switch and these.
    let visible: BTreeSet<OsString> = payload.keys().filter_map(|path| first_component(path)).collect();
    show(dir, &visible)?;
    tidy(dir, &visible, &current)?;
    own(dir)?;
    Ok(changed)
}

/// Drops `.` and double slashes.
fn plain(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn first_component(path: &Path) -> Option<OsString> {
    path.components().next().map(|part| part.as_os_str().to_owned())
}

/// What `..data` names, if that is there.
fn current_folder(dir: &Path) -> io::Result<Option<OsString>> {
    match fs::read_link(dir.join(DATA)) {
        Ok(target) => match fs::metadata(dir.join(&target)) {
            Ok(found) if found.is_dir() => Ok(target.file_name().map(OsString::from)),
            _ => Ok(None),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is compared: content, mode bits that the group's rights do not change, and the owner.
type Description = BTreeMap<PathBuf, (Vec<u8>, u32, u32)>;

fn describe(payload: &BTreeMap<PathBuf, &File>) -> Description {
    let one = |(path, file): (&PathBuf, &&File)| {
        (path.clone(), (file.data.clone(), comparable(file.mode), file.user.unwrap_or(0)))
    };
    payload.iter().map(one).collect()
}

/// Owner and other bits: fsGroup widens those of the group and of the owner to at least reading.
fn comparable(mode: u32) -> u32 {
    (mode & 0o7777) | 0o440
}

fn read_files(folder: &Path) -> io::Result<Description> {
    let mut found = Description::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        for entry in fs::read_dir(folder.join(&inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(path);
            } else {
                let data = fs::read(entry.path())?;
                found.insert(path, (data, comparable(metadata.mode()), metadata.uid()));
            }
        }
    }
    Ok(found)
}

/// Writes the files into a new timestamped folder.
fn write_folder(dir: &Path, payload: &BTreeMap<PathBuf, &File>) -> io::Result<OsString> {
    let folder = new_folder(dir)?;
    let top = dir.join(&folder);
    for (path, file) in payload {
        if let Some(parent) = path.parent() {
            make_dirs(&top, parent)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(top.join(path))?;
        out.write_all(&file.data)?;
        if file.user.is_some() {
            rustix::fs::fchown(&out, file.user.map(rustix::fs::Uid::from_raw), None)?;
        }
        out.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))?;
    }
    Ok(folder)
}

fn new_folder(dir: &Path) -> io::Result<OsString> {
    loop {
        let now = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
        match fs::create_dir(dir.join(&now)) {
            Ok(()) => {
                fs::set_permissions(dir.join(&now), fs::Permissions::from_mode(0o755))?;
                return Ok(now.into());
            }
            // Made in the same nanosecond, or the clock went back.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn make_dirs(top: &Path, inner: &Path) -> io::Result<()> {
    let mut path = top.to_owned();
    for part in inner.components() {
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a folder the present content, in one step.
fn switch(dir: &Path, folder: &OsString) -> io::Result<()> {
    let new = dir.join(DATA_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(folder, &new)?,
    }
    fs::rename(&new, dir.join(DATA))
}

/// Makes the links that users see.
fn show(dir: &Path, visible: &BTreeSet<OsString>) -> io::Result<()> {
    for name in visible {
        let (link, target) = (dir.join(name), Path::new(DATA).join(name));
        match fs::read_link(&link) {
            Ok(found) if found == target => continue,
            Ok(_) => fs::remove_file(&link)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something that is not a link is in the way; only this writer writes here.
            Err(_) => remove_any(&link)?,
        }
        symlink(&target, &link)?;
    }
    Ok(())
}

/// Removes links to files that are gone, and folders that nothing leads to.
fn tidy(dir: &Path, visible: &BTreeSet<OsString>, current: &OsString) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(".."));
        let kept = visible.contains(&name) || name == DATA || name == *current;
        // Other names that do not lead to `..data` were put there for a mount point by the runtime.
        let leads_here = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(DATA));
        if !kept && (ours || leads_here) {
            remove_any(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_any(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => carrack_files::remove_tree(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests;
