//! What a cluster's servers have in common, and how this host comes to belong to one: it has joined or made one before, it
//! joins one now, or it makes one.

use std::fmt::Display;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use carrack_server::join::{self, ClusterSettings, Joiner, KnownMember, Token, Welcome};
use carrack_server::pki::{self, Pki};
use serde::{Deserialize, Serialize};

use crate::options::{ClusterOptions, JoinOptions};

/// Where it is kept, below the data directory.
const FILE: &str = "cluster.json";
/// There while this host joins: what was given to it is not all there, and no cluster may be made with it.
const JOINING: &str = "joining";
/// The port for other members of the store; etcd's.
const PEER_PORT: u16 = 2380;

/// What is kept about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cluster {
    /// The same on all servers.
    #[serde(flatten)]
    pub(crate) settings: ClusterSettings,
    /// Where this server listens for other members; `None`: it stays alone.
    pub(crate) peer_port: Option<u16>,
}

/// Who this host is to others.
pub(crate) struct Own<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    /// Whether it expects others without being told to: `carrack server` does.
    pub(crate) expects_others: bool,
}

/// What the cluster of `data_dir` was made with, or would be with these options; refused like a start with them.
pub(crate) fn planned(data_dir: &Path, options: &ClusterOptions) -> Result<ClusterSettings> {
    settings(options, read(&data_dir.join(FILE))?.as_ref().map(|saved| &saved.settings))
}

/// Finds out which cluster this host belongs to, or makes it belong to one. Also gives the members that it can ask who it
/// is, if it has just joined.
pub(crate) async fn enter(
    data_dir: &Path,
    join: &JoinOptions,
    options: &ClusterOptions,
    own: &Own<'_>,
) -> Result<(Cluster, Vec<KnownMember>)> {
    let is_member = data_dir.join("store/identity.json").exists();
    let saved = read(&data_dir.join(FILE))?;
    match (&join.join, &join.token) {
        (Some(url), Some(token)) if !is_member => {
            return enter_other(data_dir, url, token, join, options, own).await;
        }
        (Some(_), _) if is_member => {
            tracing::info!("this host is a member already: --join is not needed any more")
        }
        _ if data_dir.join(JOINING).exists() && !is_member => bail!(
            "this host began to join a cluster and did not get to the end: give --join and --token again, or delete {}",
            data_dir.display()
        ),
        _ => {}
    }
    let defaults = saved.as_ref().map(|saved| &saved.settings);
    let settings = settings(options, defaults)?;
    let saved_port = saved.as_ref().and_then(|saved| saved.peer_port);
    let peer_port = join.peer_port.or(saved_port).or(own.expects_others.then_some(PEER_PORT));
    let cluster = Cluster { settings, peer_port };
    if saved.as_ref() != Some(&cluster) {
        write(data_dir, &cluster)?;
    }
    Ok((cluster, Vec::new()))
}

/// Is told everything by a server of the cluster, which makes this host a member of its store.
async fn enter_other(
    data_dir: &Path,
    url: &str,
    token: &Token,
    join: &JoinOptions,
    options: &ClusterOptions,
    own: &Own<'_>,
) -> Result<(Cluster, Vec<KnownMember>)> {
    let port = join.peer_port.unwrap_or(PEER_PORT);
    let joiner = Joiner {
        name: own.name.to_owned(),
        peer_urls: vec![format!("https://{}:{port}", own.ip)],
        learner: join.learner,
    };
    let Welcome { settings: told, keys, encryption, members } = join::join(url, token, &joiner).await?;
    let settings = settings(options, Some(&told))?;
    let file = |name: &str| data_dir.join(name);
    fs::write(file(JOINING), url).with_context(|| file(JOINING).display().to_string())?;
    pki::import_shared(&file("pki"), &keys)?;
    Pki::write_secret(&file("encryption.yaml"), &encryption)?;
    let cluster = Cluster { settings, peer_port: Some(port) };
    write(data_dir, &cluster)?;
    tracing::info!(url, name = own.name, learner = join.learner, "this host was let into the cluster");
    Ok((cluster, members))
}

/// To be called once the store knows who it is.
pub(crate) fn entered(data_dir: &Path) -> Result<()> {
    let path = data_dir.join(JOINING);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

/// What the options say; where they say nothing, what is `known` of the cluster, or a default. Who says something else than
/// what is known is refused: objects in the store were made by it. The port alone can change on a cluster's own host.
fn settings(options: &ClusterOptions, known: Option<&ClusterSettings>) -> Result<ClusterSettings> {
    Ok(ClusterSettings {
        service_cidr: same("--service-cidr", &options.service_cidr, known.map(|k| &k.service_cidr))?
            .unwrap_or_else(|| "10.96.0.0/16".to_owned()),
        pod_cidr: same("--pod-cidr", &options.pod_cidr, known.map(|k| &k.pod_cidr))?
            .unwrap_or_else(|| "10.244.0.0/16".to_owned()),
        cluster_dns: same("--cluster-dns", &options.cluster_dns, known.map(|k| &k.cluster_dns))?
            .unwrap_or(Ipv4Addr::new(10, 96, 0, 10)),
        cluster_domain: same("--cluster-domain", &options.cluster_domain, known.map(|k| &k.cluster_domain))?
            .unwrap_or_else(|| "cluster.local".to_owned()),
        port: options.port.or(known.map(|known| known.port)).unwrap_or(6443),
    })
}

fn same<T: Clone + PartialEq + Display>(
    option: &str,
    said: &Option<T>,
    known: Option<&T>,
) -> Result<Option<T>> {
    match (said, known) {
        (Some(said), Some(known)) if said != known => {
            bail!(
                "{option} {said}: this cluster was made with {known}, which cannot be changed; leave the option out"
            )
        }
        (said, known) => Ok(known.or(said.as_ref()).cloned()),
    }
}

fn read(path: &PathBuf) -> Result<Option<Cluster>> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.with_context(|| path.display().to_string())?;
            Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?))
        }
    }
}

fn write(data_dir: &Path, cluster: &Cluster) -> Result<()> {
    Ok(Pki::write_secret(&data_dir.join(FILE), &serde_json::to_string_pretty(cluster)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(port: Option<u16>, domain: Option<&str>) -> ClusterOptions {
        let cluster_domain = domain.map(str::to_owned);
        ClusterOptions { port, service_cidr: None, pod_cidr: None, cluster_dns: None, cluster_domain }
    }

    fn joining() -> JoinOptions {
        JoinOptions { join: None, token: None, learner: false, peer_port: None, store_port: 2379 }
    }

    #[test]
    fn what_a_cluster_was_made_with_stays() {
        let made = settings(&options(None, Some("example.org")), None).unwrap();
        assert_eq!((made.port, made.cluster_domain.as_str()), (6443, "example.org"));
        assert_eq!(settings(&options(None, None), Some(&made)).unwrap(), made);
        assert_eq!(settings(&options(Some(7443), None), Some(&made)).unwrap().port, 7443);
        let error = settings(&options(None, Some("other.org")), Some(&made)).unwrap_err().to_string();
        assert!(
            error.contains("--cluster-domain other.org: this cluster was made with example.org"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_host_that_began_to_join_makes_no_cluster_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let own = Own { name: "a", ip: Ipv4Addr::LOCALHOST, expects_others: true };
        fs::write(dir.path().join(JOINING), "").unwrap();
        let error = enter(dir.path(), &joining(), &options(None, None), &own).await.unwrap_err().to_string();
        assert!(error.contains("began to join"), "{error}");
        entered(dir.path()).unwrap();
        let (made, members) = enter(dir.path(), &joining(), &options(None, None), &own).await.unwrap();
        assert_eq!((made.peer_port, members), (Some(PEER_PORT), Vec::new()));
        let alone = Own { expects_others: false, ..own };
        let (again, _) = enter(dir.path(), &joining(), &options(None, None), &alone).await.unwrap();
        assert_eq!(again, made, "what was said once is remembered");
    }
}
