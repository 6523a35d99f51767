//! Hosts on a network of their own: a network namespace each, joined by a bridge in one more, from where clients reach
//! all of them. What one host sends to another can be lost on purpose.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::host::ip;

/// Nobody has this address: what is sent to it arrives nowhere.
const NOWHERE: &str = "02:00:00:00:00:99";

/// The network. It goes with this value, and with it all that is on it.
pub struct Lan {
    prefix: String,
    hosts: usize,
}

impl Lan {
    /// A network with hosts 0 to `hosts`; `name` tells it from those of other tests in this process.
    pub fn new(name: &str, hosts: usize) -> Result<Self> {
        // From here on it is cleaned up, also when a step fails.
        let lan = Self { prefix: format!("ck-{name}-{}", std::process::id()), hosts };
        let hub = lan.hub();
        for line in [
            format!("netns add {hub}"),
            format!("-n {hub} link set lo up"),
            format!("-n {hub} link add br0 type bridge"),
            format!("-n {hub} addr add 198.18.1.254/24 dev br0"),
            format!("-n {hub} link set br0 up"),
        ] {
            ip(&line)?;
        }
        for n in 0..hosts {
            let (host, address) = (lan.namespace(n), lan.address(n));
            for line in [
                format!("netns add {host}"),
                format!("-n {host} link set lo up"),
                format!("link add eth0 netns {host} type veth peer name port{n} netns {hub}"),
                format!("-n {hub} link set port{n} master br0 up"),
                format!("-n {host} addr add {address}/24 dev eth0"),
                format!("-n {host} link set eth0 up"),
            ] {
                ip(&line)?;
            }
        }
        Ok(lan)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    fn namespace(&self, n: usize) -> String {
        format!("{}-{n}", self.prefix)
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    /// The address of a host.
    pub fn address(&self, n: usize) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 1, u8::try_from(n + 1).unwrap_or(u8::MAX))
    }

    /// A command that runs on a host.
    pub fn command(&self, n: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(n))).arg("--").arg(program);
        command
    }

    /// A command that runs where clients are.
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.hub())).arg("--").arg(program);
        command
    }

    /// A runtime whose threads are where clients are.
    pub fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        let hub = Arc::new(File::open(format!("/run/netns/{}", self.hub()))?);
        let started = move || {
            if let Err(error) = setns(&*hub, CloneFlags::CLONE_NEWNET) {
                // A thread in the wrong place would test the wrong network.
                eprintln!("a thread can not enter the test's network namespace: {error}");
                std::process::abort();
            }
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().on_thread_start(started).build().context("a runtime")
    }

    /// Moves this thread to where clients are, for good.
    pub fn enter(&self) -> Result<()> {
        let hub = File::open(format!("/run/netns/{}", self.hub()))?;
        setns(&hub, CloneFlags::CLONE_NEWNET).context("enter the network namespace of clients")
    }

    /// From now on nothing that `from` sends to `to` arrives, and nobody is told.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        let (host, to) = (self.namespace(from), self.address(to));
        ip(&format!("-n {host} neigh replace {to} lladdr {NOWHERE} nud permanent dev eth0"))
    }

    /// Nothing goes between these two in either direction.
    pub fn cut_both(&self, a: usize, b: usize) -> Result<()> {
        self.cut(a, b).and_then(|()| self.cut(b, a))
    }

    /// All cuts are over.
    pub fn heal(&self) -> Result<()> {
        for n in 0..self.hosts {
            ip(&format!("-n {} neigh flush dev eth0 nud permanent", self.namespace(n)))?;
        }
        Ok(())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for n in 0..self.hosts {
            let _ = ip(&format!("netns del {}", self.namespace(n)));
        }
        let _ = ip(&format!("netns del {}", self.hub()));
    }
}
