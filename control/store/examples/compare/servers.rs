//! The servers under test: started, looked at through `/proc`, killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, Failed, pb};

/// How long a server may take to start or to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a server is told what it is: the words are the same.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// What comes before the options.
    pub(crate) first: &'static [&'static str],
    /// The first of its ports.
    pub(crate) ports: u16,
}

/// A cluster of servers of one kind, on loopback. Its processes end with it.
pub(crate) struct Cluster {
    kind: Kind,
    dir: PathBuf,
    members: Vec<Option<Child>>,
    pub(crate) addresses: Vec<String>,
}

impl Cluster {
    /// Starts a new cluster in `dir`, and waits until it takes writes.
    pub(crate) async fn start(kind: &Kind, members: usize, dir: &Path) -> Result<Cluster, Failed> {
        let addresses = (0..members).map(|n| format!("127.0.0.1:{}", usize::from(kind.ports) + n)).collect();
        let mut cluster =
            Cluster { kind: kind.clone(), dir: dir.join(kind.name), members: Vec::new(), addresses };
        for n in 0..members {
            let child = cluster.spawn(n)?;
            cluster.members.push(Some(child));
        }
        cluster.serves().await?;
        Ok(cluster)
    }

    fn spawn(&self, n: usize) -> Result<Child, Failed> {
        let peer = |n: usize| format!("http://127.0.0.1:{}", usize::from(self.kind.ports) + 100 + n);
        let all: Vec<String> = (0..self.addresses.len()).map(|n| format!("m{n}={}", peer(n))).collect();
        let client = format!("http://{}", self.addresses[n]);
        let log = std::fs::File::create(self.dir.with_extension(format!("{n}.log")))?;
        Ok(Command::new(&self.kind.program)
            .args(self.kind.first)
            .args(["--name", &format!("m{n}"), "--data-dir"])
            .arg(self.dir.join(format!("m{n}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(n), "--initial-advertise-peer-urls", &peer(n)])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .args(["--quota-backend-bytes", "8589934592"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?)
    }

    /// Waits until a write is done; gives how long that took.
    pub(crate) async fn serves(&self) -> Result<Duration, Failed> {
        let began = Instant::now();
        loop {
            for address in &self.addresses {
                // A member without a leader lets the caller wait.
                let put = async { Client::connect(address).await?.put("ready".into(), "yes".into()).await };
                if let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), put).await {
                    return Ok(began.elapsed());
                }
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{} does not serve; see {}", self.kind.name, self.dir.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Which member leads.
    async fn leader(&self) -> Result<usize, Failed> {
        for (n, address) in self.addresses.iter().enumerate() {
            let client = Client::connect(address).await?;
            let status: pb::StatusResponse = client.call("/etcdserverpb.Maintenance/Status", &()).await?;
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(n);
            }
        }
        Err("nobody leads".into())
    }

    /// All addresses, the leader's first: who needs only one has the same one in every cluster.
    pub(crate) async fn leader_first(&self) -> Result<Vec<String>, Failed> {
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(self.leader().await?);
        Ok(addresses)
    }

    /// Kills the member that leads; gives which one it was.
    pub(crate) async fn kill_leader(&mut self) -> Result<usize, Failed> {
        let leader = self.leader().await?;
        self.kill(leader)?;
        Ok(leader)
    }

    pub(crate) fn kill(&mut self, n: usize) -> Result<(), Failed> {
        if let Some(mut child) = self.members[n].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn restart(&mut self, n: usize) -> Result<(), Failed> {
        self.members[n] = Some(self.spawn(n)?);
        Ok(())
    }

    /// Processor time of all members so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failed> {
        let mut ticks = 0;
        for child in self.members.iter().flatten() {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
            let after_name = stat.rsplit(')').next().ok_or("no process statistics")?;
            // utime and stime are the 14th and 15th field, the name being the second.
            let fields = after_name.split_whitespace().skip(11).take(2);
            ticks += fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        }
        // USER_HZ is 100 on all architectures of Linux that matter here.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Memory that the members do not share with others, in bytes: without pages of files.
    pub(crate) fn memory(&self) -> Result<u64, Failed> {
        let mut kib = 0;
        for child in self.members.iter().flatten() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
            kib += line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
        }
        Ok(kib * 1024)
    }

    /// Bytes on disk of the first member.
    pub(crate) fn disk(&self) -> Result<u64, Failed> {
        fn size(path: &Path) -> std::io::Result<u64> {
            let mut bytes = 0;
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let about = entry.metadata()?;
                bytes += if about.is_dir() { size(&entry.path())? } else { about.len() };
            }
            Ok(bytes)
        }
        Ok(size(&self.dir.join("m0"))?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.members.len() {
            let _ = self.kill(n);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
