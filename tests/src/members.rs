//! Members of the store as processes, each on a host of a [`Lan`], and how they are asked about themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, ConnectOptions};
use tokio::runtime::Runtime;

use crate::lan::Lan;
use crate::{binary, patience};

/// How long a connection may take, and how long a call that has no limit of its own.
const CONNECT: Duration = Duration::from_millis(500);
const CALL: Duration = Duration::from_secs(10);

/// A cluster of processes; member `n` is on host `n`. All are killed with this value.
pub struct Members {
    pub lan: Arc<Lan>,
    pub runtime: Runtime,
    pub dir: tempfile::TempDir,
    running: Vec<Option<Child>>,
    /// Members below this number founded the cluster.
    founders: usize,
    /// Addresses for peers of those that have moved.
    moved: BTreeMap<usize, String>,
}

/// The name of member `n`.
pub fn name(n: usize) -> String {
    format!("m{n}")
}

impl Members {
    /// Starts the first `founders` members; the other hosts are empty.
    pub fn start(lan: Lan, founders: usize) -> Result<Self> {
        let mut members = Self::prepare(lan, founders)?;
        (0..founders).try_for_each(|n| members.start_founder(n))?;
        Ok(members)
    }

    /// As [`Members::start`], but nothing runs yet.
    pub fn prepare(lan: Lan, founders: usize) -> Result<Self> {
        let (runtime, dir) = (lan.runtime()?, tempfile::tempdir()?);
        let running = (0..lan.hosts()).map(|_| None).collect();
        Ok(Self { lan: Arc::new(lan), runtime, dir, running, founders, moved: BTreeMap::new() })
    }

    pub fn client_url(&self, n: usize) -> String {
        format!("http://{}:2379", self.lan.address(n))
    }

    pub fn peer_url(&self, n: usize) -> String {
        let moved = self.moved.get(&n).cloned();
        moved.unwrap_or_else(|| format!("http://{}:2380", self.lan.address(n)))
    }

    /// From its next start on the member has this address for peers.
    pub fn move_peer(&mut self, n: usize, url: &str) {
        self.moved.insert(n, url.to_owned());
    }

    pub fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(name(n))
    }

    pub fn log(&self, n: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{}.log", name(n)))).unwrap_or_default()
    }

    /// `name=url` of the members that founded the cluster.
    pub fn initial_cluster(&self) -> Vec<String> {
        (0..self.founders).map(|n| format!("{}={}", name(n), self.peer_url(n))).collect()
    }

    pub fn start_founder(&mut self, n: usize) -> Result<()> {
        let all = self.initial_cluster().join(",");
        self.start_with(n, &["--initial-cluster", &all])
    }

    /// Starts a member that was added; `others` are who it can ask.
    pub fn start_joining(&mut self, n: usize, others: &[usize]) -> Result<()> {
        let all = others.iter().chain([&n]).map(|n| format!("{}={}", name(*n), self.peer_url(*n)));
        let all = all.collect::<Vec<_>>().join(",");
        self.start_with(n, &["--initial-cluster-state", "existing", "--initial-cluster", &all])
    }

    pub fn start_with(&mut self, n: usize, args: &[&str]) -> Result<()> {
        let path = self.dir.path().join(format!("{}.log", name(n)));
        let log = std::fs::File::options().create(true).append(true).open(path)?;
        let mut command = self.lan.command(n, binary()?);
        command.args(["store", "--name", &name(n), "--listen-client-urls", &self.client_url(n)]);
        command.args(["--listen-peer-urls", &self.peer_url(n), "--data-dir"]).arg(self.data_dir(n));
        command.args(args).stderr(log).stdout(Stdio::null());
        self.running[n] = Some(command.spawn().context("start a member")?);
        Ok(())
    }

    /// Sends a signal by name.
    pub fn signal(&self, n: usize, name: &str) -> Result<()> {
        let pid = self.running[n].as_ref().context("the member does not run")?.id();
        let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{name} {pid}") }
    }

    /// Ends a member with a signal, and waits until it is gone; whether it said that all was well.
    pub fn end(&mut self, n: usize, name: &str) -> Result<bool> {
        self.signal(n, name)?;
        let mut child = self.running[n].take().context("the member does not run")?;
        Ok(child.wait()?.success())
    }

    /// Waits until a member ends by itself; whether it said that all was well.
    pub fn ended(&mut self, n: usize, limit: Duration) -> Result<bool> {
        let child = self.running[n].as_mut().context("the member does not run")?;
        let status = crate::eventually_sync(limit, || Ok(child.try_wait()?));
        let status = status.with_context(|| format!("it still runs: {}", self.log(n)))?;
        self.running[n] = None;
        Ok(status.success())
    }

    pub fn runs(&self, n: usize) -> bool {
        self.running[n].is_some()
    }

    /// A client of some members; a call takes at most `limit`.
    pub async fn connect(urls: &[String], limit: Duration) -> Result<Client> {
        let options = ConnectOptions::new().with_connect_timeout(CONNECT).with_timeout(limit);
        Ok(Client::connect(urls, Some(options)).await?)
    }

    /// Asks one member something.
    pub fn ask<T>(&self, n: usize, question: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
        let urls = [self.client_url(n)];
        self.runtime.block_on(async { question(Self::connect(&urls, CALL).await?).await })
    }

    /// Who leads, once so many of `these` agree on it.
    pub fn leader_of(&self, these: &[usize], agree: usize) -> Result<usize> {
        let ids = |n: usize| {
            self.ask(n, async |mut client: Client| {
                let status = client.status().await?;
                let id = status.header().context("a header")?.member_id();
                Ok((id, status.leader(), status.raft_term()))
            })
        };
        let until = Instant::now() + patience(Duration::from_secs(30));
        while Instant::now() < until {
            let told: Vec<_> = these.iter().filter_map(|n| Some((*n, ids(*n).ok()?))).collect();
            let leads = told.iter().filter(|(_, (id, leader, _))| id == leader);
            if let Some((n, (id, _, term))) = leads.max_by_key(|(_, (_, _, term))| *term)
                && told.iter().filter(|(_, (_, leader, t))| leader == id && t == term).count() >= agree
            {
                return Ok(*n);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("no leader; the log of {}: {}", these[0], self.log(these[0]))
    }

    /// Who leads, once all of `these` agree.
    pub fn leader(&self, these: &[usize]) -> Result<usize> {
        self.leader_of(these, these.len())
    }

    /// Waits until all of `these` have the same history up to now, by etcd's hash of it; gives the revision.
    pub fn all_equal(&self, these: &[usize], limit: Duration) -> Result<i64> {
        let newest = |n: usize| {
            self.ask(n, async |mut client: Client| {
                let found = client.get("nothing", None).await?;
                Ok(found.header().context("a header")?.revision())
            })
        };
        let revision = crate::eventually_sync(limit, || newest(these[0]).map(Some))?;
        let mut last = Vec::new();
        let found = crate::eventually_sync(limit, || {
            let hash = |n: &usize| {
                self.ask(*n, async |mut client: Client| {
                    // First of all a read that needs a majority: the member is up to date after it.
                    client.get("nothing", None).await?;
                    let hash = client.hash_kv(revision).await?;
                    Ok((hash.hash(), hash.compact_version()))
                })
            };
            last = these.iter().map(hash).collect::<Result<Vec<_>>>()?;
            Ok(last.iter().all(|each| *each == last[0]).then_some(revision))
        });
        found.with_context(|| format!("the members differ at revision {revision}: {last:?}"))
    }

    /// `etcdctl` where clients are; its output.
    pub fn etcdctl(&self, n: usize, args: &[&str]) -> Result<String> {
        let endpoint = format!("{}:2379", self.lan.address(n));
        let mut command = self.lan.client("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint, "--command-timeout=8s"]).args(args);
        let output = command.output().context("etcdctl: `cargo xtask setup` installs it")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "etcdctl {args:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            // One that stands still ends all the same.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
