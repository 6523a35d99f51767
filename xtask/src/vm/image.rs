//! The machine's initial file system, put together by `cpio`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;

const BUSYBOX: &str = "/bin/busybox";
const DIRS: &[&str] =
    &["bin", "dev", "etc", "lib", "proc", "root", "run", "scratch", "sys", "tests", "tmp", "var/lib"];

/// Writes the file system: busybox, modules, programs and the first process.
pub(crate) fn write(to: &Path, kernel: &Kernel, programs: &[PathBuf], init: &str) -> Result<()> {
    let tree = tempfile::Builder::new().prefix("carrack-vm-").tempdir()?;
    let root = tree.path();
    for dir in DIRS {
        fs::create_dir_all(root.join(dir))?;
    }
    busybox(root)?;
    let mut list = String::new();
    for module in &kernel.modules {
        let name = module.file_name().context("a module has a name")?;
        fs::copy(module, root.join("lib").join(name))?;
        list.push_str(&format!("/lib/{}\n", name.to_string_lossy()));
    }
    fs::write(root.join("modules"), list)?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    for program in programs {
        place(root, program)?;
    }
    fs::write(root.join("init"), init)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    pack(root, to)
}

fn busybox(root: &Path) -> Result<()> {
    fs::copy(BUSYBOX, root.join("bin/busybox"))
        .context("busybox-static is needed: run `cargo xtask setup`")?;
    let output = Command::new(BUSYBOX).arg("--list").output()?;
    for name in String::from_utf8_lossy(&output.stdout).lines().filter(|n| *n != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(())
}

/// A program lies in /tests, stripped, and where it was built too: programs that tests start are named by that path.
fn place(root: &Path, program: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    let target = root.join("tests").join(name);
    let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(&target).arg(program).status();
    if !status.is_ok_and(|s| s.success()) {
        fs::copy(program, &target)?;
    }
    let own = root.join(program.strip_prefix("/").unwrap_or(program));
    if let Some(parent) = own.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(Path::new("/tests").join(name), own)?;
    Ok(())
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
