//! What each part is told, from the options of the command line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use carrack_server::pki::{Pki, PkiOptions};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::{Place, Services, Up};
use crate::host;

/// The prefix length of a node's part of the pods' range: 254 addresses.
const NODE_PREFIX: u8 = 24;

/// The options with what was found out about this host.
pub(crate) struct Settings {
    /// As given.
    pub(crate) up: Up,
    /// The node's name.
    pub(crate) node_name: String,
    /// The node's address.
    pub(crate) node_ip: std::net::Ipv4Addr,
    /// The interface that leads out of the host.
    pub(crate) uplink: Option<String>,
    /// The first address of the service range.
    pub(crate) service_ip: IpAddr,
}

impl Settings {
    /// Fills in what no option says.
    pub(crate) fn new(up: Up) -> Result<Self> {
        let node_name = up.node_name.clone().map_or_else(host::node_name, Ok)?;
        let found = match (up.node_ip, up.uplink.as_str()) {
            (Some(_), name) if name != "auto" => None,
            _ => Some(host::default_route()?),
        };
        let node_ip = match (up.node_ip, &found) {
            (Some(ip), _) => ip,
            (None, Some((_, ip))) => *ip,
            (None, None) => anyhow::bail!("the node's address is not known; give --node-ip"),
        };
        let uplink = match up.uplink.as_str() {
            "none" => None,
            "auto" => found.map(|(name, _)| name),
            name => Some(name.to_owned()),
        };
        let service_ip = first_address(&up.service_cidr)?;
        Ok(Self { node_name, node_ip, uplink, service_ip, up })
    }

    /// Where clients on this host reach the API server.
    pub(crate) fn server_url(&self) -> String {
        let ip = if self.up.bind.is_unspecified() { IpAddr::V4(self.node_ip) } else { self.up.bind };
        format!("https://{}", SocketAddr::new(ip, self.up.port))
    }

    /// Keys and certificates.
    pub(crate) fn pki(&self) -> Result<Pki> {
        let options = PkiOptions {
            node_name: self.node_name.clone(),
            node_ips: vec![IpAddr::V4(self.node_ip)],
            service_ip: self.service_ip,
            cluster_domain: self.up.cluster_domain.clone(),
            hostname: host::node_name()?,
            extra_sans: Vec::new(),
        };
        let dir = self.up.place.data_dir.join("pki");
        Ok(Pki::open_or_create(&dir, &options)?)
    }

    /// The controllers' options. The node's name is the candidate: a restart after a crash leads again at once.
    pub(crate) fn controllers(&self, pki: &Pki) -> Result<carrack_controllers::Options> {
        let range = &self.up.pod_cidr;
        let cidr: ipnet::IpNet =
            range.parse().with_context(|| format!("--pod-cidr {range} is not a range"))?;
        let mut options = carrack_controllers::Options::new(pki.ca_pem(), self.node_name.clone());
        options.cluster_cidrs = vec![(cidr, NODE_PREFIX.max(cidr.prefix_len()))];
        Ok(options)
    }

    /// The node agent's options.
    pub(crate) fn agent(&self, pki: &Pki) -> Result<carrack_agent::Options> {
        let up = &self.up;
        let upstream =
            if up.upstream_dns.is_empty() { host::name_servers() } else { up.upstream_dns.clone() };
        Ok(carrack_agent::Options {
            node_name: self.node_name.clone(),
            node_ip: self.node_ip,
            place: agent_place(&up.place),
            host_services: up.services == Services::Host,
            uplink: self.uplink.clone(),
            cluster_dns: up.cluster_dns,
            cluster_domain: up.cluster_domain.clone(),
            upstream_dns: upstream,
            listen: SocketAddr::new(IpAddr::V4(self.node_ip), up.kubelet_port),
            tls: node_tls(pki).context("TLS of the node's API")?,
            eviction_hard: up.eviction_hard.clone(),
            max_pods: up.max_pods,
            labels: std::collections::BTreeMap::new(),
            // The binary that runs, also when its file has been replaced by a newer one.
            supervisor: "/proc/self/exe".into(),
            insecure_registries: up.insecure_registry.clone(),
        })
    }
}

/// The agent's directories and control groups.
pub(crate) fn agent_place(place: &Place) -> carrack_agent::Place {
    carrack_agent::Place {
        data_dir: place.data_dir.clone(),
        run_dir: place.run_dir.clone(),
        cgroup_base: place.cgroup.clone(),
    }
}

fn first_address(cidr: &str) -> Result<IpAddr> {
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
