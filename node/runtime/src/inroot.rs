//! Paths inside a root filesystem that is not trusted.
//!
//! Every look-up is one `openat2` with `RESOLVE_IN_ROOT`: the kernel resolves `..` and symbolic links as if the
//! directory were `/`, so that nothing a container or an image does, also at the same moment, leads outside.

use crate::report::{LaunchError, Step};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Dangling links followed when making a path; the kernel's own bound for links.
const MAX_LINKS: usize = 40;

/// A root filesystem.
#[derive(Clone, Copy)]
pub(crate) struct InRoot<'a>(pub(crate) BorrowedFd<'a>);

/// What to make when a path does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    Directory,
    File,
}

impl InRoot<'_> {
    /// Opens what `path` leads to.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        retry(|| openat2(self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
    }

    /// Opens `path` for use as a place, refusing symbolic links anywhere in it.
    pub(crate) fn open_strict(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        retry(|| openat2(self.0, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve))
    }

    /// Opens `path` as a place (`O_PATH`), making it and its parents when they do not exist.
    pub(crate) fn make(&self, path: &Path, make: Make) -> Result<OwnedFd, LaunchError> {
        let mut path = normal(path);
        for _ in 0..MAX_LINKS {
            match self.open(&path, OFlags::PATH) {
                Err(Errno::NOENT) => {}
                done => return done.step(|| format!("open {} in the container", path.display())),
            }
            // Find how far it exists, and make one step more.
            match self
                .make_missing(&path, make)
                .step(|| format!("make {} in the container", path.display()))?
            {
                Made::Place(fd) => return Ok(fd),
                Made::Redirected(elsewhere) => path = elsewhere,
            }
        }
        Err(LaunchError::step(format!("make {} in the container", path.display()), Errno::LOOP))
    }

    /// Makes the missing tail of a normal path, until done or until a dangling link points elsewhere.
    fn make_missing(&self, path: &Path, make: Make) -> Result<Made, Errno> {
        let names: Vec<_> = path.iter().skip(1).collect();
        let mut done = PathBuf::from("/");
        let mut parent = self.open(&done, OFlags::PATH)?;
        for (position, name) in names.iter().enumerate() {
            let last = position + 1 == names.len();
            done.push(name);
            match self.open(&done, OFlags::PATH) {
                Ok(fd) => {
                    parent = fd;
                    continue;
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            let made = if last && make == Make::File {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
            } else {
                mkdirat(&parent, *name, Mode::from_raw_mode(0o755))
            };
            match made {
                Ok(()) => parent = self.open(&done, OFlags::PATH)?,
                // There, and yet not found: a link to nowhere. Make what it points to, inside the root.
                Err(Errno::EXIST) => {
                    if !is_link(&parent, name) {
                        parent = self.open(&done, OFlags::PATH)?;
                        continue;
                    }
                    let link = readlinkat(&parent, *name, Vec::new())?;
                    let link = Path::new(std::ffi::OsStr::new(link.to_str().map_err(|_| Errno::ILSEQ)?));
                    done.pop();
                    let rest = names.iter().skip(position + 1);
                    return Ok(Made::Redirected(normal(&done.join(link).join(rest.collect::<PathBuf>()))));
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(Made::Place(parent))
    }
}

/// What became of making a path.
enum Made {
    Place(OwnedFd),
    Redirected(PathBuf),
}

fn is_link(parent: impl AsFd, name: &std::ffi::OsStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink)
}

/// `openat2` says EAGAIN when a rename raced with a `..`: try again, but not for ever.
fn retry<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..128 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// The same path, absolute, without `.` and `..`. Only used for paths that do not exist, where `..` has no other meaning.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn opened(dir: &Path) -> OwnedFd {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn real(fd: &OwnedFd) -> PathBuf {
        use std::os::fd::AsRawFd;
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../../../../etc", root.join("up")).unwrap();
        symlink("/etc", root.join("abs")).unwrap();
        let fd = opened(&root);
        let inroot = InRoot(fd.as_fd());
        for path in ["/up/a", "/abs/a", "/../../etc/a", "up/../abs/a"] {
            let place = inroot.make(Path::new(path), Make::File).unwrap();
            assert_eq!(real(&place), root.join("etc/a"), "{path}");
            fs::remove_file(root.join("etc/a")).unwrap();
        }
    }

    #[test]
    fn dangling_links_are_made_inside() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/../../../var/new", root.join("dir")).unwrap();
        let fd = opened(&root);
        let inroot = InRoot(fd.as_fd());
        let place = inroot.make(Path::new("/etc/resolv.conf"), Make::File).unwrap();
        assert_eq!(real(&place), root.join("run/resolve/stub.conf"));
        let place = inroot.make(Path::new("/dir/deep/er"), Make::Directory).unwrap();
        assert_eq!(real(&place), root.join("var/new/deep/er"));
        assert!(!outside.path().join("var").exists());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let fd = opened(dir.path());
        let error = InRoot(fd.as_fd()).make(Path::new("/a/x"), Make::Directory).unwrap_err();
        assert!(error.message.contains("symbolic links"), "{error}");
        assert!(InRoot(fd.as_fd()).open_strict(Path::new("/a")).is_err());
    }
}
