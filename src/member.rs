//! `carrack store`: one member of the replicated store alone, with etcd's API and etcd's options: what a cluster with an
//! API server of its own uses instead of etcd.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use carrack_store::etcd::{self, AutoCompaction, Security};
use carrack_store::{InitialClusterState, InitialMember, Options, PeerTls, Store};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::backup::{self, Backups};
use crate::server;

/// `carrack store`. The options are etcd's.
#[derive(Args, Clone, Debug)]
pub(crate) struct Member {
    /// A YAML file whose keys are the names of these options; options on the command line win over it
    #[arg(long, value_name = "FILE", env = "CARRACK_CONFIG")]
    config: Option<PathBuf>,
    /// The member's name
    #[arg(long, default_value = "default")]
    name: String,
    /// Where the data is; `<name>.carrack` in this directory by default
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen for clients
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    listen_client_urls: Vec<String>,
    /// Where clients reach this member; where it listens by default
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    advertise_client_urls: Vec<String>,
    /// Where to listen for other members; a member without it stays alone
    #[arg(long, value_name = "URL")]
    listen_peer_urls: Option<String>,
    /// Where other members reach this one; where it listens for them by default
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    initial_advertise_peer_urls: Vec<String>,
    /// All members of the cluster: `name=peer URL,name=peer URL`
    #[arg(long, value_name = "MEMBERS", value_delimiter = ',')]
    initial_cluster: Vec<String>,
    /// Whether these members make a new cluster, or this one joins it
    #[arg(long, value_enum, default_value_t = ClusterState::New)]
    initial_cluster_state: ClusterState,
    /// The cluster's name: members of others are refused
    #[arg(long, value_name = "NAME", default_value = "carrack")]
    initial_cluster_token: String,
    /// Milliseconds between two signs of life of a leader
    #[arg(long, value_name = "MS", default_value_t = 100)]
    heartbeat_interval: u64,
    /// Milliseconds without one after which another member stands for election
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    election_timeout: u64,
    /// Bytes that all kept revisions may have together
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 30)]
    quota_backend_bytes: u64,
    /// What automatic compaction goes by
    #[arg(long, value_enum, default_value_t = CompactionMode::Periodic)]
    auto_compaction_mode: CompactionMode,
    /// What it keeps: a time (`5m`, `1h`; a bare number is hours), or a number of revisions; 0 turns it off
    #[arg(long, value_name = "KEPT", default_value = "0")]
    auto_compaction_retention: String,
    /// Compare this member's data with the others' when it starts
    #[arg(long, value_name = "true", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    experimental_initial_corrupt_check: bool,
    /// How often the leader compares the members' data (`12h`); 0 turns it off
    #[arg(long, alias = "corrupt-check-time", value_name = "TIME", default_value = "0s")]
    experimental_corrupt_check_time: jiff::SignedDuration,
    #[command(flatten)]
    tls: Tls,
    #[command(flatten)]
    backups: Backups,
    /// What to log
    #[arg(long, value_name = "FILTER", default_value = "info,openraft=off", env = "CARRACK_LOG")]
    log: String,
}

/// Keys and certificates, as PEM files.
#[derive(Args, Clone, Debug)]
struct Tls {
    /// The certificate that clients are shown
    #[arg(long, value_name = "FILE", requires_all = ["key_file", "trusted_ca_file"])]
    cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The authority whose certificates clients have to show
    #[arg(long, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients have to show a certificate; with an authority they always have to
    #[arg(long, value_name = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", requires = "trusted_ca_file")]
    client_cert_auth: Option<bool>,
    /// The certificate for other members
    #[arg(long, value_name = "FILE", requires_all = ["peer_key_file", "peer_trusted_ca_file"])]
    peer_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE")]
    peer_key_file: Option<PathBuf>,
    /// The authority of the members' certificates
    #[arg(long, value_name = "FILE")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Members have to show a certificate; they always have to
    #[arg(long, value_name = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", requires = "peer_trusted_ca_file")]
    peer_client_cert_auth: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClusterState {
    New,
    Existing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompactionMode {
    Periodic,
    Revision,
}

/// Runs the member until it is told to end.
pub(crate) fn run(options: Member) -> Result<()> {
    server::start_log(&options.log)?;
    server::block_on(serve(options))
}

async fn serve(options: Member) -> Result<()> {
    let compaction = options.compaction()?;
    let security = options.tls.clients()?;
    let keeper = options.backups.keeper(&options.initial_cluster_token, &options.data_dir())?;
    let mut listeners = Vec::new();
    for url in &options.listen_client_urls {
        let address = listen_address(url, matches!(security, Security::Tls(_)))?;
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("cannot listen for clients on {url}"))?);
    }
    let store = Store::open(options.store()?).await?;
    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        let ended = shutdown.clone().cancelled_owned();
        tasks.spawn(etcd::serve(store.clone(), listener, security.clone(), etcd::Config::default(), ended));
    }
    if let Some(mode) = compaction {
        tasks.spawn(etcd::compact_automatically(store.clone(), mode, shutdown.clone().cancelled_owned()));
    }
    if let Some(keeper) = keeper {
        tasks.spawn(backup::run(store.clone(), keeper, shutdown.clone()));
    }
    tracing::info!(clients = ?options.listen_client_urls, name = options.name, "the store serves");
    let result = tokio::select! {
        signal = server::wait_for_signal() => signal,
        why = store.failed() => Err(anyhow::anyhow!("the store has failed: {why}")),
    };
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    store.shutdown().await;
    result
}

impl Member {
    fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| format!("{}.carrack", self.name).into())
    }

    fn client_urls(&self) -> Vec<String> {
        let advertised = &self.advertise_client_urls;
        if advertised.is_empty() { self.listen_client_urls.clone() } else { advertised.clone() }
    }

    fn store(&self) -> Result<Options> {
        let mut options = Options::new(self.data_dir());
        options.cluster_name.clone_from(&self.initial_cluster_token);
        options.name.clone_from(&self.name);
        options.client_urls = self.client_urls();
        options.heartbeat = Duration::from_millis(self.heartbeat_interval);
        options.election = Duration::from_millis(self.election_timeout);
        options.quota_bytes = self.quota_backend_bytes;
        options.initial_corrupt_check = self.experimental_initial_corrupt_check;
        let every = Duration::try_from(self.experimental_corrupt_check_time);
        options.corrupt_check_interval =
            Some(every.context("--experimental-corrupt-check-time")?).filter(|every| !every.is_zero());
        options.initial_cluster = members(&self.initial_cluster)?;
        options.initial_cluster_state = match self.initial_cluster_state {
            ClusterState::New => InitialClusterState::New,
            ClusterState::Existing => InitialClusterState::Existing,
        };
        options.peer_tls = self.tls.peers()?;
        if let Some(url) = &self.listen_peer_urls {
            options.listen_peers = Some(listen_address(url, options.peer_tls.is_some())?);
            options.peer_urls = match self.initial_advertise_peer_urls.as_slice() {
                [] => vec![url.clone()],
                urls => urls.to_vec(),
            };
        } else if options.initial_cluster.len() > 1 {
            bail!("a member of several needs --listen-peer-urls");
        }
        Ok(options)
    }

    fn compaction(&self) -> Result<Option<AutoCompaction>> {
        let text = self.auto_compaction_retention.trim();
        if text == "0" {
            return Ok(None);
        }
        let wrong = || format!("--auto-compaction-retention {text:?}");
        Ok(Some(match self.auto_compaction_mode {
            CompactionMode::Revision => AutoCompaction::Revisions(text.parse().with_context(wrong)?),
            CompactionMode::Periodic => AutoCompaction::Period(match text.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.saturating_mul(3600)),
                Err(_) => text
                    .parse::<jiff::SignedDuration>()
                    .with_context(wrong)?
                    .try_into()
                    .with_context(wrong)?,
            }),
        }))
    }
}

impl Tls {
    fn clients(&self) -> Result<Security> {
        // As in etcd, an authority means that certificates are asked for, whatever this says.
        if self.client_cert_auth == Some(false) || self.peer_client_cert_auth == Some(false) {
            bail!("leave --client-cert-auth=false out: with an authority, certificates are always asked for");
        }
        let (Some(chain), Some(key), Some(authority)) =
            (&self.cert_file, &self.key_file, &self.trusted_ca_file)
        else {
            return Ok(Security::Plain);
        };
        Ok(Security::Tls(etcd::tls_config(&read(chain)?, &read(key)?, &read(authority)?)?))
    }

    fn peers(&self) -> Result<Option<PeerTls>> {
        let (Some(chain), Some(key), Some(authority)) =
            (&self.peer_cert_file, &self.peer_key_file, &self.peer_trusted_ca_file)
        else {
            return Ok(None);
        };
        Ok(Some(PeerTls::from_pem(&read(authority)?, &read(chain)?, &read(key)?)?))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

/// `name=url,name=url`; a member with several addresses is there several times.
fn members(list: &[String]) -> Result<Vec<InitialMember>> {
    let mut members: Vec<InitialMember> = Vec::new();
    for entry in list {
        let (name, url) = entry
            .split_once('=')
            .with_context(|| format!("--initial-cluster: {entry:?} is not like name=http://10.0.0.7:2380"))?;
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url.to_owned()),
            None => members.push(InitialMember { name: name.to_owned(), peer_urls: vec![url.to_owned()] }),
        }
    }
    Ok(members)
}

/// The address of a URL to listen on. Its scheme has to say what the keys that are given say.
fn listen_address(url: &str, tls: bool) -> Result<SocketAddr> {
    let (scheme, rest) = url.split_once("://").with_context(|| format!("{url:?} is no URL"))?;
    match (scheme, tls) {
        ("https", true) | ("http", false) => {}
        ("https", false) => bail!("{url} needs a certificate, a key and an authority; see --help"),
        ("http", true) => bail!("{url} is plain HTTP, but a certificate is given: make it https"),
        _ => bail!("{url}: the scheme has to be http or https"),
    }
    let host = rest.trim_end_matches('/');
    host.parse().with_context(|| format!("{url}: {host:?} is not an address and a port to listen on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initial_cluster_is_read_as_etcd_does() {
        let list = ["a=http://10.0.0.1:2380", "b=http://10.0.0.2:2380", "a=http://10.0.1.1:2380"];
        let members = members(&list.map(str::to_owned)).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].peer_urls, ["http://10.0.0.1:2380", "http://10.0.1.1:2380"]);
        assert!(super::members(&["http://10.0.0.1:2380".to_owned()]).is_err());
    }

    #[test]
    fn the_scheme_has_to_fit_the_keys() {
        assert_eq!(
            listen_address("http://127.0.0.1:2379", false).unwrap(),
            "127.0.0.1:2379".parse().unwrap()
        );
        assert!(listen_address("https://127.0.0.1:2379", false).is_err());
        assert!(listen_address("http://127.0.0.1:2379", true).is_err());
        assert!(listen_address("127.0.0.1:2379", false).is_err());
        assert!(listen_address("http://localhost:2379", false).is_err());
    }
}
