//! `cargo xtask setup`: installs what is missing, and says what and why. Fine to repeat; with nothing missing it takes
//! a moment.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::{self, DebianPackage};

/// What demo and tests need beside the eBPF toolchain.
const PACKAGES: &[DebianPackage] = &[
    DebianPackage { name: "busybox-static", reason: "the content of the images that demo and tests run" },
    DebianPackage { name: "docker-registry", reason: "the registry that nodes pull these images from" },
    DebianPackage { name: "iproute2", reason: "network namespaces that stand for hosts in tests" },
    DebianPackage { name: "util-linux", reason: "nsenter, to run commands on such hosts" },
    DebianPackage {
        name: "etcd-server",
        reason: "the store that ours is compared with, in tests and benchmarks",
    },
    DebianPackage { name: "etcd-client", reason: "etcdctl, which tests run against both" },
    DebianPackage { name: "protobuf-compiler", reason: "protoc, for the etcd-client crate, a peer in tests" },
    DebianPackage { name: "libprotobuf-dev", reason: "the descriptions that protoc includes" },
    DebianPackage { name: "python3-venv", reason: "the official Python client, which tests use as a peer" },
    DebianPackage { name: "gcc", reason: "the C and assembly in ring" },
];

/// What only `cargo xtask vm` needs.
const VM_PACKAGES: &[DebianPackage] = &[
    DebianPackage { name: "qemu-system-x86", reason: "the virtual machine with cgroup v2" },
    DebianPackage { name: "cpio", reason: "its initial file system" },
    DebianPackage { name: "e2fsprogs", reason: "its disk" },
];

/// What only `cargo xtask vm --bench` needs.
const BENCH_PACKAGES: &[DebianPackage] = &[
    DebianPackage { name: "crun", reason: "what our containers are measured beside" },
    DebianPackage { name: "runc", reason: "what our containers are measured beside" },
];

/// For the official JavaScript client, which tests use as a peer. Only where there is no npm: Debian's would displace a
/// Node.js from elsewhere.
const NODE_PACKAGES: &[DebianPackage] = &[
    DebianPackage { name: "nodejs", reason: "runs the official JavaScript client, a peer in tests" },
    DebianPackage { name: "npm", reason: "installs that client below target/" },
];

/// Installs everything.
pub(crate) fn run() -> Result<()> {
    install(toolchain::debian_packages())?;
    if Command::new("npm").arg("--version").output().is_err() {
        install(NODE_PACKAGES)?;
    }
    for_vm()?;
    let found = toolchain::find()?;
    println!("eBPF programs are built with {}", found.describe());
    println!("everything is here; next: `cargo xtask demo` or `cargo xtask test`");
    Ok(())
}

/// Installs what the virtual machine needs.
pub(crate) fn for_vm() -> Result<()> {
    install(PACKAGES)?;
    install(VM_PACKAGES)
}

/// Installs what benchmarks in the virtual machine need.
pub(crate) fn for_bench() -> Result<()> {
    for_vm()?;
    install(BENCH_PACKAGES)
}

/// Installs those of the packages that are missing.
pub(crate) fn install(packages: &[DebianPackage]) -> Result<()> {
    let missing: Vec<&DebianPackage> = packages.iter().filter(|p| !is_installed(p.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing from Debian:");
    for package in &missing {
        println!("  {:<18} {}", package.name, package.reason);
    }
    if !is_root()? {
        let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
        bail!("this needs root; run: apt-get install --no-install-recommends {}", names.join(" "));
    }
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-qq", "-y", "--no-install-recommends"];
    args.extend(missing.iter().map(|p| p.name));
    apt(&args)
}

fn is_installed(name: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", name]).output();
    output.is_ok_and(|o| o.status.success() && o.stdout == b"installed")
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn apt(args: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(args)
        .output()
        .context("apt-get: set-up installs Debian packages; on other systems install them by hand")?;
    if !output.status.success() {
        bail!("apt-get {}:\n{}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
