//! A cluster of one host: the real binary, as a user would start it, with directories and control groups of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::host::{Host, leave_cgroup};
use crate::{apply, binary, eventually, patience};

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Becomes part of the names of what it makes.
    pub name: String,
    /// The API server's port.
    pub port: u16,
    /// The node's.
    pub kubelet_port: u16,
    /// Where it keeps everything; a temporary directory if not given.
    pub dir: Option<PathBuf>,
    /// Whether this host is a node of it.
    pub node: bool,
}

impl Options {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), port: 6443, kubelet_port: 10250, dir: None, node: true }
    }
}

/// A running cluster; it is taken down with this value.
pub struct Cluster {
    pub client: Client,
    pub host: Arc<Host>,
    /// How long it took until the node was Ready.
    pub ready_after: Duration,
    options: Options,
    dir: PathBuf,
    child: Option<Child>,
    _temporary: Option<tempfile::TempDir>,
}

impl Cluster {
    /// Starts a cluster and waits for its node, if it has one, to be Ready.
    pub async fn start(host: Arc<Host>, options: Options) -> Result<Self> {
        let temporary = match options.dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("carrack-").tempdir()?),
        };
        let dir = options
            .dir
            .clone()
            .or(temporary.as_ref().map(|t| t.path().to_owned()))
            .context("no directory")?;
        let began = Instant::now();
        let child = spawn(&host, &options, &dir)?;
        let client = connect(&dir).await;
        let mut cluster = Self {
            client: match client {
                Ok(client) => client,
                Err(error) => {
                    end(child);
                    return Err(error.context(log_tail(&dir)));
                }
            },
            host,
            ready_after: Duration::ZERO,
            options,
            dir,
            child: Some(child),
            _temporary: temporary,
        };
        if cluster.options.node {
            cluster.node_is_ready_within(Duration::from_secs(30)).await?;
        }
        cluster.ready_after = began.elapsed();
        Ok(cluster)
    }

    /// The base of its control groups.
    pub fn cgroup(&self) -> String {
        cgroup(&self.options)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/admin.kubeconfig")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The process number of `carrack up`.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn apply(&self, manifest: &str) -> Result<()> {
        apply::apply(&self.client, "default", manifest).await
    }

    /// `kubectl` against this cluster, run on its host.
    pub fn kubectl(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = self.host.command(binary);
        command.env("KUBECONFIG", self.kubeconfig()).args(args).stdin(Stdio::null());
        command
    }

    pub async fn node_is_ready_within(&self, limit: Duration) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let ready = || async {
            let list = nodes.list(&ListParams::default()).await?;
            Ok(list.items.iter().any(is_ready).then_some(()))
        };
        let found = eventually("the node is Ready", limit, ready).await;
        found.with_context(|| log_tail(&self.dir))
    }

    /// Waits until exactly `count` pods of a label are Ready and no other of it is left; answers them.
    pub async fn pods_are_ready(&self, selector: &str, count: usize, limit: Duration) -> Result<Vec<Pod>> {
        let pods = self.pods("default");
        let params = ListParams::default().labels(selector);
        let what = format!("{count} pods of {selector} are Ready");
        let settled = || async {
            let list = pods.list(&params).await?.items;
            Ok((list.len() == count && list.iter().all(pod_is_ready)).then_some(list))
        };
        match eventually(&what, limit, settled).await {
            Ok(list) => Ok(list),
            Err(error) => Err(error.context(self.describe().await).context(log_tail(&self.dir))),
        }
    }

    /// All pods, a line each, for the message of a test that fails.
    async fn describe(&self) -> String {
        let all: Api<Pod> = Api::all(self.client.clone());
        let Ok(list) = all.list(&ListParams::default()).await else {
            return "the pods can not be listed".to_owned();
        };
        let lines = list.items.iter().map(|pod| {
            let status = pod.status.clone().unwrap_or_default();
            let states: Vec<String> = status
                .container_statuses
                .iter()
                .flatten()
                .map(|c| serde_json::to_string(&c.state).unwrap_or_default())
                .collect();
            let waits = status.conditions.iter().flatten().find(|c| c.status != "True");
            format!(
                "  {} {:?} {} {}",
                pod.metadata.name.clone().unwrap_or_default(),
                status.phase,
                states.join(" "),
                waits.and_then(|c| c.message.clone()).unwrap_or_default()
            )
        });
        format!("pods:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// `kill -9` of the whole control plane and agent; pods go on.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Waits for `carrack up` to end by itself; answers how it did.
    pub async fn ends_within(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let mut child = self.child.take().context("it does not run")?;
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.child = Some(child);
        bail!("carrack up has not ended within {limit:?}\n{}", log_tail(&self.dir))
    }

    /// Starts it again on what is there.
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("it still runs");
        }
        self.child = Some(spawn(&self.host, &self.options, &self.dir)?);
        let client = self.client.clone();
        let found = eventually("the API server answers", Duration::from_secs(20), || async {
            Ok(client.apiserver_version().await.ok())
        });
        found.await.map(drop).with_context(|| log_tail(&self.dir))
    }

    /// What one ends with: everything is removed. Answers what `carrack down` printed.
    pub fn take_down(&mut self) -> Result<String> {
        // This process may be among those of the cluster's control groups, which all end now.
        leave_cgroup()?;
        if let Some(child) = self.child.take() {
            end(child);
        }
        let output = self
            .host
            .command(binary()?)
            .args(["down", "--data-dir"])
            .arg(self.dir.join("data"))
            .arg("--run-dir")
            .arg(self.dir.join("run"))
            .arg("--cgroup")
            .arg(self.cgroup())
            .output()?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("carrack down: {text}");
        }
        Ok(text)
    }

    /// What there still is of this cluster on the host, once it has been taken down: nothing, if all is well.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let dir = self.dir.display().to_string();
        let mut found = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        found.extend(mounts.lines().filter(|l| l.contains(&dir)).map(|l| format!("mount {l}")));
        for process in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("supervisor") && line.contains(&dir) {
                found.push(format!("process {} {line}", process.file_name().to_string_lossy()));
            }
        }
        for tree in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
            let group = tree.path().join(self.cgroup());
            if group.exists() {
                found.push(format!("control group {}", group.display()));
            }
        }
        for what in [["link", "show"], ["route", "show"], ["addr", "show"]] {
            let output = self.host.command("ip").arg("-o").args(what).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let own = |l: &&str| l.contains(": ck") || l.contains("dev ck") || l.contains("169.254.20.10");
            found.extend(text.lines().filter(own).map(|l| format!("{} {l}", what[0])));
        }
        let run = self.dir.join("run");
        if run.exists() {
            found.push(format!("directory {}", run.display()));
        }
        Ok(found)
    }

    /// The end of the log of `carrack up`.
    pub fn log(&self) -> String {
        log_tail(&self.dir)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("a cluster was not taken down: {error:#}");
        }
    }
}

fn cgroup(options: &Options) -> String {
    format!("carrack-{}-{}", options.name, std::process::id())
}

fn spawn(host: &Host, options: &Options, dir: &Path) -> Result<Child> {
    std::fs::create_dir_all(dir)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    host.command(binary()?)
        .args(["up", "--data-dir"])
        .arg(dir.join("data"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .args(["--cgroup", &cgroup(options), "--services", "pods"])
        .args(["--node-name", &options.name, "--node-ip", &host.address.to_string()])
        .args(["--port", &options.port.to_string(), "--kubelet-port", &options.kubelet_port.to_string()])
        // The machine's disk may be nearly full in percent and still have plenty for a test.
        .args(["--eviction-hard", "memory.available<100Mi,nodefs.available<100Mi"])
        .args((!options.node).then_some("--no-node"))
        .args(["--uplink", host.uplink.as_deref().unwrap_or("none")])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("carrack up does not start")
}

/// Asks a process to end and waits for it; kills it if it does not.
fn end(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let began = Instant::now();
    let limit = patience(Duration::from_secs(10));
    while began.elapsed() < limit {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("carrack up did not end within {limit:?} of SIGTERM; killing it");
    let _ = child.kill();
    let _ = child.wait();
}

async fn connect(dir: &Path) -> Result<Client> {
    let path = dir.join("data/admin.kubeconfig");
    let config = eventually("the administrator's kubeconfig is written", Duration::from_secs(30), || async {
        Ok(Kubeconfig::read_from(&path).ok())
    })
    .await?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    eventually("the API server answers", Duration::from_secs(30), || async {
        Ok(client.apiserver_version().await.ok())
    })
    .await?;
    Ok(client)
}

fn log_tail(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("the log of carrack up ends with:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
