//! Finds, or makes, what the kernel side is built with: a compiler that has the sources of `core`, and a linker made on
//! the LLVM of that compiler.
//!
//! Cargo's stable compilers come without those sources. Debian's `rustc-web` has them in `rust-web-src`; a rustup nightly
//! has them if its `rust-src` component is there. The linker must read what the compiler writes, so it is built on the
//! same major version of LLVM, once, into a cache that all clones share.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

use anyhow::{Context, Result, bail};

/// The version of bpf-linker that is built when there is none.
const BPF_LINKER: &str = "0.13.0";

/// A Debian package that a build needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DebianPackage {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is for, in a few words.
    pub(crate) reason: &'static str,
}

/// The Debian packages that the kernel side is built with.
pub(crate) fn debian_packages() -> &'static [DebianPackage] {
    const fn package(name: &'static str, reason: &'static str) -> DebianPackage {
        DebianPackage { name, reason }
    }
    const PACKAGES: &[DebianPackage] = &[
        package("rustc-web", "a compiler for the kernel side, on LLVM 22"),
        package("rust-web-src", "the sources of `core`, built for eBPF"),
        package("llvm-22-dev", "what bpf-linker is linked with"),
        package("libpolly-22-dev", "asked for by LLVM's own list of libraries"),
        package("libzstd-dev", "asked for by LLVM's own list of libraries"),
        package("clang", "drives the link of bpf-linker"),
        package("bpftool", "shows programs, maps and links when something is wrong"),
    ];
    PACKAGES
}

/// A compiler and a linker that fit each other.
#[derive(Clone, Debug)]
pub(crate) struct BpfToolchain {
    compiler: Compiler,
    /// Path of bpf-linker.
    pub(crate) linker: PathBuf,
}

/// A compiler that has the sources of `core`.
#[derive(Clone, Debug)]
struct Compiler {
    kind: CompilerKind,
    release: String,
    llvm_major: u32,
}

#[derive(Clone, Debug)]
enum CompilerKind {
    /// A stable compiler at a path: unstable options are unlocked by `RUSTC_BOOTSTRAP`.
    Stable(PathBuf),
    /// The rustup toolchain of this name.
    Rustup(&'static str),
}

impl BpfToolchain {
    /// What people are told about it.
    pub(crate) fn describe(&self) -> String {
        let Compiler { release, llvm_major, .. } = &self.compiler;
        format!("rustc {release}, LLVM {llvm_major}, {}", self.linker.display())
    }

    /// A `cargo` that compiles with this toolchain.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = self.compiler.cargo();
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        cargo
    }
}

impl Compiler {
    fn cargo(&self) -> Command {
        match &self.kind {
            CompilerKind::Stable(rustc) => {
                let mut cargo = Command::new(own_cargo());
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            CompilerKind::Rustup(toolchain) => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", toolchain, "cargo"]);
                // Set by the `cargo run` that started this program; they would override the toolchain.
                rustup.env_remove("RUSTC").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
                rustup
            }
        }
    }
}

/// Finds a toolchain, building bpf-linker if that is all that is missing.
pub(crate) fn find() -> Result<BpfToolchain> {
    let compilers = compilers();
    for compiler in &compilers {
        if let Some(linker) = existing_linker(compiler)? {
            return Ok(BpfToolchain { compiler: compiler.clone(), linker });
        }
    }
    for compiler in compilers {
        if let Some(prefix) = llvm_prefix(compiler.llvm_major) {
            let linker = build_linker(compiler.llvm_major, &prefix)?;
            return Ok(BpfToolchain { compiler, linker });
        }
    }
    bail!("{}", nothing_found())
}

/// What to do about it, with the reason for each package.
fn nothing_found() -> String {
    let mut text = String::from("nothing here can build the kernel side. On Debian, apt-get install:\n");
    for package in debian_packages() {
        text += &format!("  {:16} {}\n", package.name, package.reason);
    }
    text + "Elsewhere: rustup toolchain install nightly --component rust-src, and cargo install bpf-linker"
}

/// The compilers here that have the sources of `core`, the preferred one first.
fn compilers() -> Vec<Compiler> {
    let debian = Path::new("/usr/bin/rustc");
    let stable = compiler(CompilerKind::Stable(debian.into()), &[debian.into()]);
    let nightly = compiler(
        CompilerKind::Rustup("nightly"),
        &["rustup".into(), "run".into(), "nightly".into(), "rustc".into()],
    );
    [stable, nightly].into_iter().flatten().collect()
}

fn compiler(kind: CompilerKind, command: &[OsString]) -> Option<Compiler> {
    let ask = |args: &[&str]| {
        let (program, first) = command.split_first()?;
        let output =
            Command::new(program).args(first).args(args).env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let version = ask(&["-vV"])?;
    let llvm_major = field(&version, "LLVM version")?.split('.').next()?.parse().ok()?;
    let release = field(&version, "release")?.to_owned();
    sources.is_file().then_some(Compiler { kind, release, llvm_major })
}

/// The value of `name: value` in what `rustc -vV` prints.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A linker for the compiler: the one of the cache, or for a nightly the one that was installed beside it.
fn existing_linker(compiler: &Compiler) -> Result<Option<PathBuf>> {
    let cached = linker_dir(compiler.llvm_major)?.join("bin/bpf-linker");
    if cached.is_file() {
        return Ok(Some(cached));
    }
    Ok(match compiler.kind {
        CompilerKind::Stable(_) => None,
        CompilerKind::Rustup(_) => on_path("bpf-linker"),
    })
}

/// Where tools that this project builds for itself are kept for all clones.
pub(crate) fn tools_dir() -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(cache.join("carrack/tools"))
}

fn linker_dir(llvm_major: u32) -> Result<PathBuf> {
    Ok(tools_dir()?.join(format!("bpf-linker-{BPF_LINKER}-llvm-{llvm_major}")))
}

/// Where LLVM of this major version is installed with its development files.
fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let config = on_path(&format!("llvm-config-{major}"))?;
    let output = Command::new(config).arg("--prefix").output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Builds bpf-linker into the cache. A lock makes clones that come at the same time wait for one build.
fn build_linker(llvm_major: u32, llvm: &Path) -> Result<PathBuf> {
    let root = linker_dir(llvm_major)?;
    let linker = root.join("bin/bpf-linker");
    let tools = tools_dir()?;
    fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    let lock = File::create(tools.join(".lock")).context("create the lock of the tools' cache")?;
    lock.lock().context("wait for another build of the tools")?;
    if linker.is_file() {
        return Ok(linker);
    }
    eprintln!("building bpf-linker {BPF_LINKER} on LLVM {llvm_major} into {} (once)", root.display());
    let scratch = tempfile::tempdir_in(&tools).context("make a directory to build in")?;
    let status = linker_build(llvm_major, llvm, scratch.path()).status().context("run cargo")?;
    if !status.success() {
        bail!("building bpf-linker failed ({status})");
    }
    let built = scratch.path().join("root");
    match fs::rename(&built, &root) {
        Ok(()) => Ok(linker),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(linker),
        Err(error) => Err(error).with_context(|| format!("move {} to {}", built.display(), root.display())),
    }
}

/// The build runs outside of the workspace and with flags of its own: the workspace asks for a static binary, and the
/// linker is linked with LLVM's shared library.
fn linker_build(llvm_major: u32, llvm: &Path, scratch: &Path) -> Command {
    let mut cargo = Command::new(own_cargo());
    cargo
        .current_dir(scratch)
        .args(["install", "bpf-linker", "--locked", "--no-default-features"])
        .args(["--version", &format!("={BPF_LINKER}"), "--features", &format!("llvm-{llvm_major}")])
        .arg("--root")
        .arg(scratch.join("root"))
        .arg("--target-dir")
        .arg(scratch.join("target"))
        .env("LLVM_PREFIX", llvm)
        .env("RUSTFLAGS", "")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    cargo
}

/// The cargo that runs this program.
fn own_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|dir| dir.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_compilers_versions() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(field(text, "LLVM version"), Some("22.1.8"));
        assert_eq!(field(text, "release"), Some("1.96.0"));
        assert_eq!(field(text, "host"), None);
    }

    #[test]
    fn every_package_says_what_it_is_for() {
        for package in debian_packages() {
            assert!(!package.name.contains(' ') && package.reason.len() > 10, "{package:?}");
        }
    }
}
