//! Debian's stock kernel: fetched as a package, unpacked, never installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain;

/// Modules that the tests need, by file name; what these need in turn is found out.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    // What ext4 asks for by name when it is mounted.
    "crc32c_generic",
    "ext4",
    "overlay",
    "veth",
    "vxlan",
    "loop",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "dummy",
    "tun",
    "bridge",
];

/// A kernel with the modules that the tests need.
pub(crate) struct Kernel {
    /// Its version.
    pub(crate) release: String,
    /// The image to boot.
    pub(crate) image: PathBuf,
    /// Modules in the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// The kernel in the cache; fetches it first where it is missing.
pub(crate) fn find() -> Result<Kernel> {
    let cache = toolchain::tools_dir()?.join("vm-kernel");
    if !cache.join("boot").is_dir() {
        fetch(&cache)?;
    }
    let image = only_entry(&cache.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let file = image.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let release = file.trim_start_matches("vmlinuz-").to_owned();
    let modules = modules(&cache.join("lib/modules").join(&release))?;
    Ok(Kernel { release, image, modules })
}

fn fetch(cache: &Path) -> Result<()> {
    let package = package()?;
    println!("fetching Debian's kernel, {package}");
    let parent = cache.parent().context("the cache has no parent")?;
    let work = tempfile::Builder::new().prefix("vm-kernel-").tempdir_in(parent)?;
    // apt's own user can not write here, which it only warns of.
    run(Command::new("apt-get").args(["download", "-qq", &package]).current_dir(work.path()))?;
    let archive = only_entry(work.path(), |name| name.ends_with(".deb"))?;
    let tree = work.path().join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree))?;
    fs::rename(&tree, cache).with_context(|| cache.display().to_string())
}

/// The package that the meta package `linux-image-amd64` stands for.
fn package() -> Result<String> {
    let output =
        Command::new("apt-cache").args(["depends", "linux-image-amd64"]).output().context("apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|n| n.starts_with("linux-image-"));
    found.map(str::to_owned).context("Debian's linux-image-amd64 is not known here: run apt-get update")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn only_entry(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut found = entries.flatten().filter(|e| wanted(&e.file_name().to_string_lossy())).map(|e| e.path());
    found.next().with_context(|| format!("{} lacks what is looked for", dir.display()))
}

/// The modules and what they need, each after what it needs.
fn modules(dir: &Path) -> Result<Vec<PathBuf>> {
    let all = files(dir)?;
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for name in MODULES {
        // One that is not there is built in, or of another kernel version; the tests that need it will say so.
        visit(name, &all, &mut order, &mut seen)?;
    }
    Ok(order)
}

fn visit(name: &str, all: &[PathBuf], order: &mut Vec<PathBuf>, seen: &mut BTreeSet<String>) -> Result<()> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let same = |path: &&PathBuf| {
        path.file_stem().is_some_and(|s| s.to_string_lossy().replace('-', "_") == name.replace('-', "_"))
    };
    let Some(path) = all.iter().find(same) else { return Ok(()) };
    for needed in needs(path)? {
        visit(&needed, all, order, seen)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The names after `depends=` in a module's information section.
fn needs(module: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(module).with_context(|| module.display().to_string())?;
    let mark = b"\0depends=";
    let Some(at) = bytes.windows(mark.len()).position(|w| w == mark) else { return Ok(Vec::new()) };
    let rest = &bytes[at + mark.len()..];
    let end = rest.iter().position(|b| *b == 0).unwrap_or(0);
    let names = String::from_utf8_lossy(&rest[..end]).into_owned();
    Ok(names.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|e| e == "ko") {
            found.push(path);
        }
    }
    Ok(found)
}
