//! Members of a control plane as processes (`carrack server`), each on a host of a [`Lan`].

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::lan::Lan;
use crate::{binary, eventually_sync};

/// How long a connection and an answer may take.
const CONNECT: Duration = Duration::from_secs(1);
const READ: Duration = Duration::from_secs(10);
/// How long a server may take to serve.
const START: Duration = Duration::from_secs(40);

/// A cluster of processes; server `n` is on host `n`. All are killed with this value.
pub struct Servers {
    pub lan: Arc<Lan>,
    pub runtime: Runtime,
    dir: tempfile::TempDir,
    running: Vec<Option<Child>>,
}

/// The name of server `n`.
pub fn name(n: usize) -> String {
    format!("s{n}")
}

impl Servers {
    /// Founds a cluster on host 0; nothing runs on the others.
    pub fn found(lan: Lan) -> Result<Self> {
        let mut servers = Self::prepare(lan)?;
        servers.start(0, &[])?;
        servers.serves(0)?;
        Ok(servers)
    }

    /// Nothing runs yet. This thread is where clients are from now on.
    pub fn prepare(lan: Lan) -> Result<Self> {
        lan.enter()?;
        let (runtime, dir) = (lan.runtime()?, tempfile::tempdir()?);
        let running = (0..lan.hosts()).map(|_| None).collect();
        Ok(Self { lan: Arc::new(lan), runtime, dir, running })
    }

    pub fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(name(n))
    }

    fn run_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("{}.run", name(n)))
    }

    pub fn log(&self, n: usize) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{}.log", name(n)))).unwrap_or_default()
    }

    pub fn url(&self, n: usize) -> String {
        format!("https://{}:6443", self.lan.address(n))
    }

    fn command(&self, n: usize, args: &[&str]) -> Result<Command> {
        let mut command = self.lan.command(n, binary()?);
        command.args(["server", "--node-name", &name(n), "--node-ip", &self.lan.address(n).to_string()]);
        command.arg("--data-dir").arg(self.data_dir(n)).arg("--run-dir").arg(self.run_dir(n)).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    /// Starts a server, again or for the first time.
    pub fn start(&mut self, n: usize, args: &[&str]) -> Result<()> {
        let path = self.dir.path().join(format!("{}.log", name(n)));
        let log = std::fs::File::options().create(true).append(true).open(path)?;
        self.running[n] = Some(self.command(n, args)?.stderr(log).spawn().context("start a server")?);
        Ok(())
    }

    /// Waits until a server answers.
    pub fn serves(&self, n: usize) -> Result<()> {
        let found = eventually_sync(START, || {
            let client = self.client(n)?;
            self.runtime.block_on(async { Ok(Some(client.apiserver_version().await?)) })
        });
        found.map(drop).with_context(|| format!("server {n} does not serve; its log: {}", self.log(n)))
    }

    /// A server that starts with `args` and is expected not to: what it says.
    pub fn refused(&self, n: usize, args: &[&str]) -> Result<String> {
        let output = self.command(n, args)?.stderr(Stdio::piped()).output()?;
        ensure!(!output.status.success(), "it was let in");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A new token, made by the administrator of server `by`.
    pub fn token(&self, by: usize, args: &[&str]) -> Result<String> {
        let made = self.carrack(by, &[&["token", "create", "-o", "json"], args].concat())?;
        Ok(made["token"].as_str().context("no token")?.to_owned())
    }

    /// Makes host `n` a server; it is told of by server `by`.
    pub fn join(&mut self, n: usize, by: usize, args: &[&str]) -> Result<()> {
        let token = self.token(by, &[])?;
        let url = self.url(by);
        self.start(n, &[&["--join", &url, "--token", &token], args].concat())?;
        self.serves(n)
    }

    /// A command of `carrack` on the host of server `n`, which prints JSON.
    pub fn carrack(&self, n: usize, args: &[&str]) -> Result<Value> {
        let output = self.try_carrack(n, args)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "carrack {args:?}: {errors}");
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    pub fn try_carrack(&self, n: usize, args: &[&str]) -> Result<Output> {
        let mut command = self.lan.command(n, binary()?);
        command.env("CARRACK_DATA_DIR", self.data_dir(n)).env("CARRACK_RUN_DIR", self.run_dir(n)).args(args);
        Ok(command.env_remove("KUBECONFIG").output()?)
    }

    /// The administrator at one server.
    pub fn client(&self, n: usize) -> Result<Client> {
        let file = Kubeconfig::read_from(self.data_dir(n).join("admin.kubeconfig"))?;
        self.runtime.block_on(async {
            let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
            config.connect_timeout = Some(CONNECT);
            config.read_timeout = Some(READ);
            // What a server answers is what the test looks at.
            config.default_retry = false;
            Ok(Client::try_from(config)?)
        })
    }

    /// Sends a signal by name.
    pub fn signal(&self, n: usize, name: &str) -> Result<()> {
        let pid = self.running[n].as_ref().context("the server does not run")?.id();
        let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{name} {pid}") }
    }

    /// Ends a server with a signal, and waits until it is gone; whether it said that all was well.
    pub fn end(&mut self, n: usize, name: &str) -> Result<bool> {
        self.signal(n, name)?;
        self.ended(n, Duration::from_secs(30))
    }

    /// Waits until a server ends; whether it said that all was well.
    pub fn ended(&mut self, n: usize, limit: Duration) -> Result<bool> {
        let child = self.running[n].as_mut().context("the server does not run")?;
        let status = eventually_sync(limit, || Ok(child.try_wait()?));
        let status = status.with_context(|| format!("it still runs: {}", self.log(n)))?;
        self.running[n] = None;
        Ok(status.success())
    }

    /// The members as `carrack ctl status` shows them, asked on host `n`.
    pub fn status(&self, n: usize) -> Result<Vec<Value>> {
        // It fails when a member does not answer, and shows all the same.
        let output = self.try_carrack(n, &["ctl", "status", "-o", "json"])?;
        let shown = serde_json::from_slice(&output.stdout);
        shown.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Which server leads the store, as server `by` sees it.
    pub fn leader(&self, by: usize) -> Result<usize> {
        eventually_sync(Duration::from_secs(20), || {
            let leads = |row: &Value| row["role"] == "leader";
            let status = self.status(by)?;
            let found = status.iter().find(|row| leads(row)).and_then(|row| row["name"].as_str());
            Ok(found.and_then(|found| (0..self.running.len()).find(|n| name(*n) == found)))
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
