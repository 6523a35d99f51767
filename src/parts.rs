//! What each part is told, from the options of the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use carrack_server::join::KnownMember;
use carrack_server::pki::{Pki, PkiOptions};
use carrack_store::{InitialClusterState, InitialMember, PeerTls};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::{Dirs, Place};
use crate::cluster::{self, Cluster, Own};
use crate::host;
use crate::options::{NodeOptions, ServerOptions, Services};

/// The prefix length of a node's part of the pods' range: 254 addresses.
const NODE_PREFIX: u8 = 24;

/// What a process is to run.
pub(crate) struct Order {
    /// Where it keeps what is its own.
    pub(crate) dirs: Dirs,
    /// The member of the control plane.
    pub(crate) server: ServerOptions,
    /// The node, if there is to be one, and its place.
    pub(crate) node: Option<(NodeOptions, Place)>,
    /// Whether the store listens for other members without being told to.
    pub(crate) expects_others: bool,
}

/// The options with what was found out about this host and its cluster.
pub(crate) struct Settings {
    /// Where everything is kept.
    pub(crate) dirs: Dirs,
    /// As given.
    pub(crate) server: ServerOptions,
    /// The cluster that this host belongs to.
    pub(crate) cluster: Cluster,
    /// This host's name in it.
    pub(crate) node_name: String,
    /// This host's address.
    pub(crate) node_ip: Ipv4Addr,
    /// The first address of the service range.
    pub(crate) service_ip: IpAddr,
    /// The node, if there is one.
    pub(crate) node: Option<NodeSettings>,
    /// Members that can be asked who this one is, if it has just joined.
    known: Vec<KnownMember>,
}

/// What only a node has.
pub(crate) struct NodeSettings {
    options: NodeOptions,
    place: Place,
    /// The interface that leads out of the host.
    uplink: Option<String>,
}

impl Settings {
    /// Fills in what no option says, and joins a cluster if that is asked for.
    pub(crate) async fn find(order: Order) -> Result<Self> {
        let Order { dirs, server, node, expects_others } = order;
        let node_name = server.node_name.clone().map_or_else(host::node_name, Ok)?;
        let asks_for_uplink = node.as_ref().is_some_and(|(options, _)| options.uplink == "auto");
        let found = match server.node_ip {
            Some(_) if !asks_for_uplink => None,
            _ => Some(host::default_route()?),
        };
        let node_ip = match (server.node_ip, &found) {
            (Some(ip), _) => ip,
            (None, Some((_, ip))) => *ip,
            (None, None) => bail!("this host's address is not known; give --node-ip"),
        };
        let node = node.map(|(options, place)| {
            let uplink = match options.uplink.as_str() {
                "none" => None,
                "auto" => found.map(|(name, _)| name),
                name => Some(name.to_owned()),
            };
            NodeSettings { options, place, uplink }
        });
        let own = Own { name: &node_name, ip: node_ip, expects_others };
        let (cluster, known) = cluster::enter(&dirs.data_dir, &server.join, &server.cluster, &own).await?;
        let service_ip = first_address(&cluster.settings.service_cidr)?;
        Ok(Self { dirs, server, cluster, node_name, node_ip, service_ip, node, known })
    }

    /// Where the API server is reached, for kubeconfigs.
    pub(crate) fn server_url(&self) -> String {
        if let Some(endpoint) = &self.server.control_plane_endpoint {
            return format!("https://{endpoint}");
        }
        let bind = self.server.bind;
        let ip = if bind.is_unspecified() { IpAddr::V4(self.node_ip) } else { bind };
        format!("https://{}", SocketAddr::new(ip, self.cluster.settings.port))
    }

    /// Where this server's store is, and how it finds other members.
    pub(crate) fn store(&self, pki: &Pki) -> Result<carrack_store::Options> {
        let mut options = carrack_store::Options::new(self.dirs.data_dir.join("store"));
        options.name.clone_from(&self.node_name);
        let Some(port) = self.cluster.peer_port else { return Ok(options) };
        let tls = pki.store_tls()?;
        options.listen_peers = Some(SocketAddr::new(self.server.bind, port));
        options.peer_tls = Some(PeerTls::from_configs(tls.client, tls.server));
        options.peer_urls = vec![format!("https://{}:{port}", self.node_ip)];
        options.client_urls = vec![format!("https://{}:{}", self.node_ip, self.server.join.store_port)];
        if !self.known.is_empty() {
            let known = self.known.iter().cloned();
            let own = InitialMember { name: options.name.clone(), peer_urls: options.peer_urls.clone() };
            let others = known.map(|KnownMember { name, peer_urls }| InitialMember { name, peer_urls });
            options.initial_cluster = others.chain([own]).collect();
            options.initial_cluster_state = InitialClusterState::Existing;
        }
        Ok(options)
    }

    /// Keys and certificates.
    pub(crate) fn pki(&self) -> Result<Pki> {
        let options = PkiOptions {
            node_name: self.node_name.clone(),
            node_ips: vec![IpAddr::V4(self.node_ip)],
            service_ip: self.service_ip,
            cluster_domain: self.cluster.settings.cluster_domain.clone(),
            hostname: host::node_name()?,
            extra_sans: self.names(),
        };
        let dir = self.dirs.data_dir.join("pki");
        Ok(Pki::open_or_create(&dir, &options)?)
    }

    /// Further names in the API server's certificate.
    fn names(&self) -> Vec<String> {
        let endpoint = self.server.control_plane_endpoint.as_deref();
        let host = endpoint.map(|endpoint| endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host));
        let host = host.map(|host| host.trim_matches(['[', ']']).to_owned());
        self.server.tls_san.iter().cloned().chain(host).collect()
    }

    /// What the scheduler and the controllers of this server call themselves in elections. It stays the same, so that a
    /// restart after a crash leads again at once, and nobody else has it, whatever hosts are called.
    pub(crate) fn candidate(&self, member: u64) -> String {
        format!("{}_{member:016x}", self.node_name)
    }

    /// The controllers' options.
    pub(crate) fn controllers(&self, pki: &Pki, candidate: String) -> Result<carrack_controllers::Options> {
        let cidr = pod_range(&self.cluster.settings.pod_cidr)?;
        let mut options = carrack_controllers::Options::new(pki.ca_pem(), candidate);
        options.cluster_cidrs = vec![(cidr, NODE_PREFIX.max(cidr.prefix_len()))];
        Ok(options)
    }

    /// The node agent's options, if there is a node.
    pub(crate) fn agent(&self, pki: &Pki) -> Result<Option<carrack_agent::Options>> {
        let Some(NodeSettings { options, place, uplink }) = &self.node else { return Ok(None) };
        let upstream =
            if options.upstream_dns.is_empty() { host::name_servers() } else { options.upstream_dns.clone() };
        Ok(Some(carrack_agent::Options {
            node_name: self.node_name.clone(),
            node_ip: self.node_ip,
            place: agent_place(place),
            host_services: options.services == Services::Host,
            uplink: uplink.clone(),
            cluster_dns: self.cluster.settings.cluster_dns,
            cluster_domain: self.cluster.settings.cluster_domain.clone(),
            upstream_dns: upstream,
            listen: SocketAddr::new(IpAddr::V4(self.node_ip), options.kubelet_port),
            tls: node_tls(pki).context("TLS of the node's API")?,
            eviction_hard: options.eviction_hard.clone(),
            max_pods: options.max_pods,
            labels: std::collections::BTreeMap::new(),
            // The binary that runs, also when its file has been replaced by a newer one.
            supervisor: "/proc/self/exe".into(),
            insecure_registries: options.insecure_registry.clone(),
        }))
    }
}

/// The addresses of pods.
pub(crate) fn pod_range(cidr: &str) -> Result<ipnet::IpNet> {
    cidr.parse().with_context(|| format!("--pod-cidr {cidr} is not a range"))
}

/// The agent's directories and control groups.
pub(crate) fn agent_place(place: &Place) -> carrack_agent::Place {
    carrack_agent::Place {
        data_dir: place.dirs.data_dir.clone(),
        run_dir: place.dirs.run_dir.clone(),
        cgroup_base: place.cgroup.clone(),
    }
}

pub(crate) fn first_address(cidr: &str) -> Result<IpAddr> {
    let range: ipnet::Ipv4Net =
        cidr.parse().with_context(|| format!("--service-cidr {cidr} is not a range"))?;
    let first = range.hosts().next().with_context(|| format!("--service-cidr {cidr} has no addresses"))?;
    Ok(IpAddr::V4(first))
}

/// TLS of the node's API: its own certificate, and clients must show one of the cluster's authority.
fn node_tls(pki: &Pki) -> Result<Arc<rustls::ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pki.ca_pem().as_bytes()) {
        roots.add(certificate?)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let own = pki.node_serving_tls();
    let chain = CertificateDer::pem_slice_iter(own.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())?;
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(clients).with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
