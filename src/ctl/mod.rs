//! `carrack ctl`: looks after a running store, and after snapshots of it.

#![allow(clippy::print_stdout, reason = "what a command says")]

mod member;
mod runs;
mod snapshot;
mod status;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use carrack_store::etcd::client::{Address, Client};
use clap::{Args, Subcommand};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::Output;

/// `carrack ctl`.
#[derive(Args, Debug)]
pub(crate) struct Ctl {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: Command,
}

/// How the store is reached.
#[derive(Args, Clone, Debug)]
struct Access {
    /// Members' client addresses; without, the cluster on this host by its socket
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',', env = "ETCDCTL_ENDPOINTS")]
    endpoints: Vec<String>,
    /// Where the cluster on this host has its sockets
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/carrack", env = "CARRACK_RUN_DIR")]
    run_dir: PathBuf,
    /// Where the cluster on this host keeps its data, with the keys by which its members are reached
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/carrack",
        env = "CARRACK_DATA_DIR"
    )]
    data_dir: PathBuf,
    /// The authority of the members' certificates, for https
    #[arg(long, global = true, value_name = "FILE", env = "ETCDCTL_CACERT")]
    cacert: Option<PathBuf>,
    /// The certificate to show them
    #[arg(long, global = true, value_name = "FILE", env = "ETCDCTL_CERT")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE", env = "ETCDCTL_KEY")]
    key: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(short, long, global = true, value_enum)]
    output: Option<Output>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show the members of the store, how they are, and what they run
    Status,
    /// Remove members, and give learners a vote
    #[command(subcommand)]
    Member(member::Command),
    /// Save, inspect and restore snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Command),
}

/// The name of the store's socket below the run directory.
pub(crate) const SOCKET: &str = "store.sock";

/// Carries out a command.
pub(crate) fn run(options: Ctl) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.command {
            Command::Status => status::run(&options.access).await,
            Command::Member(command) => member::run(&options.access, command).await,
            Command::Snapshot(command) => snapshot::run(&options.access, command).await,
        }
    })
}

impl Access {
    fn addresses(&self) -> Vec<Address> {
        if self.endpoints.is_empty() {
            return vec![Address::Socket(self.run_dir.join(SOCKET))];
        }
        self.endpoints.iter().map(|url| address(url)).collect()
    }

    async fn connect(&self, address: &Address) -> Result<Client> {
        let client = Client::connect(address, self.tls()?).await;
        client.with_context(|| match address {
            Address::Socket(_) => "the store of this host does not answer; is `carrack up` running?",
            Address::Url(_) => "the store does not answer",
        })
    }

    /// The first member that answers.
    async fn any(&self) -> Result<Client> {
        let mut last = None;
        for address in self.addresses() {
            match self.connect(&address).await {
                Ok(client) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no address is given")))
    }

    fn tls(&self) -> Result<Option<Arc<rustls::ClientConfig>>> {
        let own = |name: &str| Some(self.data_dir.join("pki").join(name)).filter(|path| path.is_file());
        let or_own = |given: &Option<PathBuf>, name| given.clone().or_else(|| own(name));
        let (authority, cert) = (or_own(&self.cacert, "store-ca.crt"), or_own(&self.cert, "store.crt"));
        let (Some(authority), Some(cert), Some(key)) = (authority, cert, or_own(&self.key, "store.key"))
        else {
            return Ok(None);
        };
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| path.display().to_string());
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&read(&authority)?) {
            roots.add(root?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&read(&cert)?).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&read(&key)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

fn address(url: &str) -> Address {
    match url.strip_prefix("unix://") {
        Some(path) => Address::Socket(path.into()),
        None if url.contains("://") => Address::Url(url.to_owned()),
        // As etcdctl does.
        None => Address::Url(format!("http://{url}")),
    }
}
