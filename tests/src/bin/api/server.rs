//! The server under test: a process of its own, looked at through `/proc`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::Client;

const PORT: u16 = 26_443;

/// What pods of the default namespace run as.
const ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/default";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; it ends with this.
pub(crate) struct Server {
    child: Child,
    tls: Arc<rustls::ClientConfig>,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(carrack: &Path) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("carrack-bench-api-").tempdir()?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let mut child = Command::new(carrack)
            .args(["up", "--no-node", "--log", "warn", "--bind", "127.0.0.1", "--node-ip", "192.0.2.1"])
            .args(["--node-name", "bench", "--uplink", "none", "--port", &PORT.to_string(), "--data-dir"])
            .arg(dir.path().join("data"))
            .arg("--run-dir")
            .arg(dir.path().join("run"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| carrack.display().to_string())?;
        let kubeconfig = dir.path().join("data/admin.kubeconfig");
        let began = Instant::now();
        loop {
            if let Ok(tls) = tls(&kubeconfig)
                && let Ok(mut client) = Client::connect(&tls).await
                && client.get("/readyz").await.is_ok_and(|answer| answer.status == 200)
                // A controller makes it, and no pod is taken before.
                && client.get(ACCOUNT).await.is_ok_and(|answer| answer.status == 200)
            {
                return Ok(Server { child, tls, _dir: dir });
            }
            if child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let _ = child.kill();
                let said = std::fs::read_to_string(dir.path().join("log"))?;
                bail!("{} does not serve: {said}", carrack.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A connection with the administrator's certificate.
    pub(crate) async fn client(&self) -> Result<Client> {
        Client::connect(&self.tls).await
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().context("no process statistics")?;
        // utime and stime, in ticks of which there are 100 a second.
        let fields = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Ok(Duration::from_millis(fields.sum::<Result<u64, _>>()? * 10))
    }

    /// Anonymous memory, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port that all connections go to.
pub(crate) fn address() -> (&'static str, u16) {
    ("127.0.0.1", PORT)
}

/// TLS with what the kubeconfig holds.
fn tls(kubeconfig: &Path) -> Result<Arc<rustls::ClientConfig>> {
    let config: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    let decode = |pointer| -> Result<Vec<u8>> {
        let data = config.pointer(pointer).and_then(serde_json::Value::as_str);
        Ok(STANDARD.decode(data.with_context(|| format!("the kubeconfig has no {pointer}"))?)?)
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in
        CertificateDer::pem_slice_iter(&decode("/clusters/0/cluster/certificate-authority-data")?)
    {
        roots.add(certificate?)?;
    }
    let chain = decode("/users/0/user/client-certificate-data")?;
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&decode("/users/0/user/client-key-data")?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key)?))
}
