//! `carrack store` beside Debian's etcd: the same load from the same client, on one and on three members on loopback.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{cargo, root, run};

/// A server under test: its processes end with it.
struct Cluster {
    children: Vec<Child>,
    addresses: Vec<String>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How both servers are told what they are: the words are the same.
struct Kind {
    name: &'static str,
    /// The first of its ports.
    ports: u16,
    /// The program, and what comes before the options.
    program: (&'static str, &'static [&'static str]),
}

const CARRACK: Kind = Kind {
    name: "carrack",
    ports: 23_900,
    program: ("target/x86_64-unknown-linux-gnu/release/carrack", &["store", "--log", "error"]),
};
const ETCD: Kind = Kind { name: "etcd", ports: 24_900, program: ("etcd", &["--log-level", "error"]) };

impl Kind {
    fn start(&self, members: u16, dir: &Path) -> Result<Cluster> {
        let client = |n: u16| format!("http://127.0.0.1:{}", self.ports + n);
        let peer = |n: u16| format!("http://127.0.0.1:{}", self.ports + 100 + n);
        let all: Vec<String> = (0..members).map(|n| format!("m{n}={}", peer(n))).collect();
        let mut cluster = Cluster { children: Vec::new(), addresses: Vec::new() };
        for n in 0..members {
            let name = format!("m{n}");
            let program = if self.program.0.contains('/') {
                root().join(self.program.0)
            } else {
                self.program.0.into()
            };
            let mut command = Command::new(program);
            command
                .args(self.program.1)
                .args(["--name", &name, "--data-dir"])
                .arg(dir.join(self.name).join(&name));
            command.args(["--listen-client-urls", &client(n), "--advertise-client-urls", &client(n)]);
            command.args(["--listen-peer-urls", &peer(n), "--initial-advertise-peer-urls", &peer(n)]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            let child = command.stdout(Stdio::null()).spawn();
            cluster.children.push(child.with_context(|| format!("{} does not start", self.name))?);
            cluster.addresses.push(format!("127.0.0.1:{}", self.ports + n));
        }
        std::thread::sleep(Duration::from_secs(3));
        Ok(cluster)
    }
}

/// Runs the comparison; the release binary is there.
pub(super) fn beside_etcd() -> Result<()> {
    for members in [1, 3] {
        let dir = std::env::temp_dir().join(format!("carrack-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let compared = compare(members, &dir);
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        compared?;
    }
    Ok(())
}

fn compare(members: u16, dir: &Path) -> Result<()> {
    println!("── carrack store beside etcd, {members} member(s)");
    let (ours, theirs) = (CARRACK.start(members, dir)?, ETCD.start(members, dir)?);
    let mut program = cargo(&[
        "run",
        "--quiet",
        "--profile",
        "bench",
        "--package",
        "carrack-store",
        "--example",
        "compare",
        "--",
    ]);
    program.arg(format!("carrack={}", ours.addresses.join(",")));
    run(program.arg(format!("etcd={}", theirs.addresses.join(","))))
}
