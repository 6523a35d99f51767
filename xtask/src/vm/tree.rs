//! A tree of files that becomes the machine's disk: busybox, programs of this host with their libraries, and what was
//! built.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const BUSYBOX: &str = "/bin/busybox";
/// Where built programs lie on the disk.
const TESTS: &str = "tests";
const DIRS: &[&str] = &[
    "bin", "dev", "etc", "proc", "root", "run", "sys", "sbin", "tests", "tmp", "usr/bin", "var/lib",
    "var/tmp",
];

/// A tree in a temporary directory; it goes with this value.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// With busybox and its commands, users and empty directories.
    pub(crate) fn new() -> Result<Self> {
        let tree = Tree { dir: tempfile::Builder::new().prefix("carrack-vm-").tempdir()? };
        for dir in DIRS {
            fs::create_dir_all(tree.root().join(dir))?;
        }
        fs::set_permissions(tree.root().join("tmp"), fs::Permissions::from_mode(0o1777))?;
        tree.busybox()?;
        tree.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
        tree.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
        tree.text("etc/hosts", "127.0.0.1 localhost\n")?;
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    fn busybox(&self) -> Result<()> {
        let bin = self.root().join("bin");
        fs::copy(BUSYBOX, bin.join("busybox"))
            .context("busybox-static is needed: run `cargo xtask setup`")?;
        let output = Command::new(BUSYBOX).arg("--list").output()?;
        for name in String::from_utf8_lossy(&output.stdout).lines().filter(|n| *n != "busybox") {
            symlink("busybox", bin.join(name))?;
        }
        Ok(())
    }

    /// A text file.
    pub(crate) fn text(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.root().join(path), text).with_context(|| path.to_owned())
    }

    /// A program for a shell.
    pub(crate) fn script(&self, path: &str, text: &str) -> Result<()> {
        self.text(path, text)?;
        Ok(fs::set_permissions(self.root().join(path), fs::Permissions::from_mode(0o755))?)
    }

    /// A file or folder of this host, at the same path.
    pub(crate) fn copy(&self, path: &Path) -> Result<()> {
        let to = self.inside(path)?;
        if path.is_dir() {
            fs::create_dir_all(&to)?;
            for entry in fs::read_dir(path)? {
                self.copy(&entry?.path())?;
            }
            return Ok(());
        }
        fs::copy(path, &to).map(drop).with_context(|| path.display().to_string())
    }

    /// A program that is installed on this host, in /usr/bin, with the libraries that it is linked to.
    pub(crate) fn host_program(&self, name: &str) -> Result<()> {
        let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let found = dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
        let path = found.with_context(|| format!("{name} is needed: run `cargo xtask setup`"))?;
        fs::copy(&path, self.root().join("usr/bin").join(name))?;
        for library in libraries(&path)? {
            if !self.inside(&library)?.exists() {
                self.copy(&library)?;
            }
        }
        Ok(())
    }

    /// A program that was built: stripped in /tests, and a link where it was built, for tests name what they start by
    /// that path.
    pub(crate) fn built(&self, program: &Path) -> Result<()> {
        let name = program.file_name().context("a program has a name")?;
        let target = self.root().join(TESTS).join(name);
        let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(&target).arg(program).status();
        if !status.is_ok_and(|s| s.success()) {
            fs::copy(program, &target)?;
        }
        symlink(Path::new("/").join(TESTS).join(name), self.inside(program)?)?;
        Ok(())
    }

    /// Where a path of this host is in the tree; the folders above it are made.
    fn inside(&self, path: &Path) -> Result<PathBuf> {
        let inside = self.root().join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = inside.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(inside)
    }
}

/// What ldd(1) says that a program needs, the loader included; nothing for static programs.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("not found") {
        bail!("{} lacks libraries:\n{text}", program.display());
    }
    Ok(library_paths(&text))
}

/// `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld.so.2 (0x…)`, or something of the kernel's own without a path.
fn library_paths(text: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let place = line.rsplit("=>").next()?.trim();
        let path = place.split(" (").next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    text.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x0)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld.so.2"].map(PathBuf::from);
        assert_eq!(library_paths(text), BTreeSet::from(expected));
        assert_eq!(library_paths("\tstatically linked\n"), BTreeSet::new());
    }
}
