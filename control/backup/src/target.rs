//! Where backups go: a directory, or a bucket of an S3-compatible store. In both a backup is there whole or not at all.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::fs;

use crate::s3::{S3, S3Error};

/// What begins the names of files that are not complete yet.
const PARTIAL: &str = ".partial-";

/// A place for backups.
#[derive(Debug)]
pub enum Target {
    /// A directory of this host, or one that is mounted.
    Directory(Directory),
    /// A bucket.
    S3(Box<S3>),
}

/// A directory with backups.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// Why a target did not do it.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The directory.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bucket.
    #[error(transparent)]
    S3(#[from] S3Error),
}

impl Target {
    /// A directory; it is made with the first backup.
    pub fn directory(path: impl Into<PathBuf>) -> Target {
        Target::Directory(Directory(path.into()))
    }

    /// Copies `file` to `name`. On return it is durable there; before, nothing of that name is to be seen.
    pub async fn put(&self, name: &str, file: &Path) -> Result<(), TargetError> {
        match self {
            Target::Directory(directory) => directory.put(name, file).await,
            Target::S3(bucket) => Ok(bucket.put(name, file).await?),
        }
    }

    /// The names of what is there.
    pub async fn list(&self) -> Result<Vec<String>, TargetError> {
        match self {
            Target::Directory(directory) => directory.list().await,
            Target::S3(bucket) => Ok(bucket.list().await?),
        }
    }

    /// Fetches `name` into `file`, which is made or replaced.
    pub async fn get(&self, name: &str, file: &Path) -> Result<(), TargetError> {
        match self {
            Target::Directory(Directory(dir)) => copy(&dir.join(name), file).await,
            Target::S3(bucket) => Ok(bucket.get(name, file).await?),
        }
    }

    /// Deletes `name`; fine if it is not there.
    pub async fn delete(&self, name: &str) -> Result<(), TargetError> {
        match self {
            Target::Directory(directory) => directory.delete(name).await,
            Target::S3(bucket) => Ok(bucket.delete(name).await?),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Directory(Directory(path)) => write!(f, "{}", path.display()),
            Target::S3(bucket) => write!(f, "{bucket}"),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    move |source| TargetError::Io { path: path.to_owned(), source }
}

/// Copies a file and makes the copy durable. It holds every Secret, so that only its owner may read it.
async fn copy(from: &Path, to: &Path) -> Result<(), TargetError> {
    let mut source = fs::File::open(from).await.map_err(at(from))?;
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(to).await;
    let mut copy = opened.map_err(at(to))?;
    copy.set_permissions(std::fs::Permissions::from_mode(0o600)).await.map_err(at(to))?;
    tokio::io::copy(&mut source, &mut copy).await.map_err(at(to))?;
    copy.sync_all().await.map_err(at(to))
}

impl Directory {
    async fn put(&self, name: &str, file: &Path) -> Result<(), TargetError> {
        let Directory(dir) = self;
        fs::create_dir_all(dir).await.map_err(at(dir))?;
        let (beside, there) = (dir.join(format!("{PARTIAL}{name}")), dir.join(name));
        if let Err(error) = copy(file, &beside).await {
            // What is left of it says nothing to anybody; the error that counts is the first.
            let _ = fs::remove_file(&beside).await;
            return Err(error);
        }
        fs::rename(&beside, &there).await.map_err(at(&there))?;
        self.sync().await
    }

    async fn sync(&self) -> Result<(), TargetError> {
        let dir = fs::File::open(&self.0).await.map_err(at(&self.0))?;
        dir.sync_all().await.map_err(at(&self.0))
    }

    async fn list(&self) -> Result<Vec<String>, TargetError> {
        let Directory(dir) = self;
        let mut entries = match fs::read_dir(dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(dir)(error)),
        };
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(at(dir))? {
            names.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with(PARTIAL)));
        }
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<(), TargetError> {
        let path = self.0.join(name);
        match fs::remove_file(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at(&path)(error)),
            Ok(()) => self.sync().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_keeps_what_it_is_given() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "contents").unwrap();
        let target = Target::directory(place.path().join("not/there/yet"));
        assert!(target.list().await.unwrap().is_empty());
        target.put("one", &file).await.unwrap();
        target.put("two", &file).await.unwrap();
        target.delete("two").await.unwrap();
        target.delete("two").await.unwrap();
        assert_eq!(target.list().await.unwrap(), ["one"]);
        let back = place.path().join("back");
        target.get("one", &back).await.unwrap();
        assert_eq!(std::fs::read_to_string(&back).unwrap(), "contents");
        let mode = std::fs::metadata(place.path().join("not/there/yet/one")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(target.put("three", &place.path().join("missing")).await.is_err());
        assert_eq!(target.list().await.unwrap(), ["one"], "nothing is half there");
    }
}
