//! The two images that the machine starts from: an initial file system that knows the disk's driver, and the disk.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::tree::Tree;

/// Size of the disk. The file has holes where nothing is written.
const DISK_SIZE: &str = "6G";

/// The first process: loads the modules and goes on from the disk.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read module; do insmod $module || echo \"no $module\"; done < /modules
mkdir /disk
mount -t ext4 /dev/vda /disk || exec poweroff -f
umount /proc /dev
exec switch_root /disk /sbin/init
";

/// Writes the initial file system.
pub(crate) fn initramfs(to: &Path, kernel: &Kernel) -> Result<()> {
    let tree = Tree::new()?;
    let modules = tree.root().join("lib/modules");
    fs::create_dir_all(&modules)?;
    let mut list = String::new();
    for module in &kernel.modules {
        let name = module.file_name().context("a module has a name")?;
        fs::copy(module, modules.join(name))?;
        list.push_str(&format!("/lib/modules/{}\n", name.to_string_lossy()));
    }
    tree.text("modules", &list)?;
    tree.script("init", INIT)?;
    pack(tree.root(), to)
}

fn pack(root: &Path, to: &Path) -> Result<()> {
    let list = Command::new("find").arg(".").current_dir(root).output()?;
    let out = fs::File::create(to).with_context(|| to.display().to_string())?;
    let mut cpio = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .context("cpio is needed: run `cargo xtask setup`")?;
    cpio.stdin.take().context("cpio")?.write_all(&list.stdout)?;
    let status = cpio.wait()?;
    if status.success() { Ok(()) } else { bail!("cpio: {status}") }
}

/// Writes the disk: an ext4 with the tree's files.
pub(crate) fn disk(to: &Path, tree: &Tree) -> Result<()> {
    if to.exists() {
        fs::remove_file(to)?;
    }
    let output = Command::new("mke2fs")
        // In directories for administrators, which may not be in everybody's path.
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .arg(tree.root())
        .arg(to)
        .arg(DISK_SIZE)
        .output()
        .context("mke2fs is needed: run `cargo xtask setup`")?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
