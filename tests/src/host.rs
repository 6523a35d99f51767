//! Where a cluster runs: this host itself, or a network namespace that stands for a host of its own.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::Runtime;

/// A host for a cluster.
pub struct Host {
    /// The network namespaces: the host's and that of the world beyond its uplink. None: this host itself.
    namespaces: Option<(String, String)>,
    /// The host's address.
    pub address: Ipv4Addr,
    /// The interface that leads out.
    pub uplink: Option<String>,
}

impl Host {
    /// This host, with its own address, and no way out: its interfaces are left alone.
    pub fn here() -> Result<Self> {
        Ok(Self { namespaces: None, address: own_address()?, uplink: None })
    }

    /// A network namespace with one interface, `up0`, to a second one, which stands for the world outside.
    pub fn isolated(name: &str) -> Result<Self> {
        let (inner, outer) =
            (format!("ck-{name}-{}", std::process::id()), format!("ck-{name}-{}-out", std::process::id()));
        let host = Self {
            namespaces: Some((inner.clone(), outer.clone())),
            address: Ipv4Addr::new(198, 18, 0, 1),
            uplink: Some("up0".to_owned()),
        };
        let script = [
            format!("netns add {inner}"),
            format!("netns add {outer}"),
            format!("-n {inner} link set lo up"),
            format!("-n {outer} link set lo up"),
            format!("link add up0 netns {inner} type veth peer name up0 netns {outer}"),
            format!("-n {inner} addr add 198.18.0.1/24 dev up0"),
            format!("-n {outer} addr add 198.18.0.9/24 dev up0"),
            format!("-n {inner} link set up0 up"),
            format!("-n {outer} link set up0 up"),
            format!("-n {inner} route add default via 198.18.0.9"),
        ];
        for line in script {
            ip(&line)?;
        }
        Ok(host)
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some((inner, _)) = &self.namespaces else { return Command::new(program) };
        // Not `ip netns exec`: that remounts /sys and hides control groups and bpffs.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{inner}")).arg("--").arg(program);
        command
    }

    /// A command that runs in the world beyond the uplink, at 198.18.0.9.
    pub fn outside(&self, program: &str) -> Result<Command> {
        let Some((_, outer)) = &self.namespaces else { bail!("this host has no outside of its own") };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{outer}")).arg("--").arg(program);
        Ok(command)
    }

    /// Runs `work` on threads that are on this host: what it connects to, it connects to from there.
    pub fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let namespace = match &self.namespaces {
            Some((inner, _)) => Some(std::sync::Arc::new(File::open(format!("/run/netns/{inner}"))?)),
            None => None,
        };
        let enter = move || match &namespace {
            Some(file) => setns(file, CloneFlags::CLONE_NEWNET),
            None => Ok(()),
        };
        enter().context("enter the network namespace")?;
        let started = move || {
            if let Err(error) = enter() {
                // A thread in the wrong place would test the wrong host.
                eprintln!("a thread can not enter the test's network namespace: {error}");
                std::process::abort();
            }
        };
        let runtime: Runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_start(started).build()?;
        runtime.block_on(work)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((inner, outer)) = &self.namespaces {
            for name in [inner, outer] {
                let _ = ip(&format!("netns del {name}"));
            }
        }
    }
}

pub(crate) fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("ip: install iproute2")?;
    if !output.status.success() {
        bail!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The first address of this host that is not loopback's.
fn own_address() -> Result<Ipv4Addr> {
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|i| i.address);
    let mut found = addresses.filter_map(|a| a.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
    found.find(|ip| !ip.is_loopback()).context("this host has no IPv4 address but loopback's")
}

/// Moves this process into a control group below `base`, so that services answer to it.
pub fn join_cgroup(base: &str) -> Result<()> {
    let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let tree = tree.iter().find(|t| std::path::Path::new(t).join("cgroup.procs").is_file());
    let dir =
        std::path::Path::new(tree.context("no cgroup version 2 tree is mounted")?).join(base).join("clients");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("cgroup.procs"), std::process::id().to_string())
        .with_context(|| format!("join {}", dir.display()))
}

/// Moves this process back to the root of the version 2 tree.
pub fn leave_cgroup() -> Result<()> {
    let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    for tree in tree {
        let file = std::path::Path::new(tree).join("cgroup.procs");
        if file.is_file() {
            return Ok(std::fs::write(file, std::process::id().to_string())?);
        }
    }
    Ok(())
}
