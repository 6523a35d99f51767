//! Key files on disk: written whole or not at all, and never readable by others.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::PkiError;

/// Mode of every file written here. Certificates are public, but one rule for all is hard to get wrong.
const FILE_MODE: u32 = 0o600;
/// Mode of the directory that holds them.
const DIR_MODE: u32 = 0o700;
/// Largest file read: a bundle of certificates stays far below, anything larger is not ours.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Makes `dir` (with its parents) for its owner only; of an existing one, refuses what others may enter.
pub(super) fn secure_dir(dir: &Path) -> Result<(), PkiError> {
    match fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(dir)
            .map_err(|source| PkiError::io("create", dir, source)),
        Err(source) => Err(PkiError::io("read", dir, source)),
        Ok(meta) if !meta.is_dir() => Err(PkiError::NotADirectory { path: dir.into() }),
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            Err(PkiError::TooOpen { path: dir.into(), mode: meta.mode() & 0o7777, wanted: DIR_MODE })
        }
        Ok(_) => Ok(()),
    }
}

/// Reads a text file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| PkiError::io("read", path, source))?,
    };
    if meta.len() > MAX_FILE_BYTES {
        return Err(PkiError::malformed(path, "it is far too large to be a key or a certificate"));
    }
    fs::read_to_string(path).map(Some).map_err(|source| PkiError::io("read", path, source))
}

/// Reads a private key; one that its group or others may read has leaked already and is refused.
pub(super) fn read_key(path: &Path) -> Result<Option<String>, PkiError> {
    let text = read(path)?;
    if text.is_some() {
        let meta = fs::metadata(path).map_err(|source| PkiError::io("read", path, source))?;
        if meta.mode() & 0o077 != 0 {
            return Err(PkiError::TooOpen {
                path: path.into(),
                mode: meta.mode() & 0o7777,
                wanted: FILE_MODE,
            });
        }
    }
    Ok(text)
}

/// Replaces `path` by `text`, atomically and durably: readers see the old file or the new one, also after a
/// power cut. The mode is set before the first byte is written.
pub(super) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let temporary = temporary_name(path);
    let done = write_temporary(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_parent(path));
    done.map_err(|source| {
        // Nothing to add if this fails too: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        PkiError::io("write", path, source)
    })
}

fn write_temporary(path: &Path, text: &str) -> std::io::Result<()> {
    // What a crashed run left behind may have any mode: begin anew.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    // A tight umask may have taken the owner's bits away.
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}
