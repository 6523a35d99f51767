//! `hostPath`: a file or folder of the host, checked as the pod asks.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// A check of a file's type, and what upstream says of a file that does not pass it.
type Check = (fn(&FileType) -> bool, &'static str);

/// Checks the path, and makes it for the types that say so. Gives the path.
pub(crate) fn set_up(source: &HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = Path::new(&source.path);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("hostPath \"{}\" must be absolute and without '..'", source.path));
    }
    let failed = |words: &str| format!("hostPath type check failed: {} is not {words}", source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let made = match kind {
        // Without a type nothing is checked; what is not there becomes a folder, as containerd makes it.
        "" | "DirectoryOrCreate" => make_dir(path),
        "FileOrCreate" => make_file(path),
        _ => Ok(()),
    };
    made.map_err(|error| format!("hostPath {}: {error}", source.path))?;
    let check: Check = match kind {
        "" => return Ok(path.to_owned()),
        "DirectoryOrCreate" | "Directory" => (FileType::is_dir, "a directory"),
        "FileOrCreate" | "File" => (FileType::is_file, "a file"),
        "Socket" => (FileType::is_socket, "a socket file"),
        "CharDevice" => (FileType::is_char_device, "a character device"),
        "BlockDevice" => (FileType::is_block_device, "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    match fs::metadata(path) {
        Ok(found) if check.0(&found.file_type()) => Ok(path.to_owned()),
        Ok(_) => Err(failed(check.1)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(failed(check.1)),
        Err(error) => Err(format!("hostPath {}: {error}", source.path)),
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The folder that the file is in must be there.
fn make_file(path: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(file) => file.set_permissions(fs::Permissions::from_mode(0o644)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
