//! The certificates that the authority signs at start, as a table, and how one is kept on disk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use time::OffsetDateTime;

use super::issue::{Authority, KeyMaterial, LEAF_LIFETIME, LeafRequest, Usage};
use super::{PkiError, PkiOptions, files, inspect};

/// The administrator's name.
pub(super) const ADMIN: &str = "kubernetes-admin";
const MASTERS: &str = "system:masters";

/// The leaves, in the order of the table that [`Leaves`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    ApiServer,
    KubeletClient,
    NodeServing,
    NodeClient,
    Admin,
}

impl Leaf {
    pub(super) const ALL: [Leaf; 5] =
        [Leaf::ApiServer, Leaf::KubeletClient, Leaf::NodeServing, Leaf::NodeClient, Leaf::Admin];

    /// The name of its files, without `.crt` or `.key`.
    fn file(self) -> &'static str {
        match self {
            Leaf::ApiServer => "apiserver",
            Leaf::KubeletClient => "apiserver-kubelet-client",
            Leaf::NodeServing => "kubelet",
            Leaf::NodeClient => "kubelet-client",
            Leaf::Admin => "admin",
        }
    }
}

/// What each leaf has to say.
pub(super) struct Leaves([LeafRequest; 5]);

impl Leaves {
    pub(super) fn new(options: &PkiOptions) -> Self {
        let node = format!("system:node:{}", options.node_name);
        let leaf = |common_name: &str, organization: Option<&str>, usage, names| LeafRequest {
            common_name: common_name.into(),
            organizations: organization.map(str::to_owned).into_iter().collect(),
            usage,
            names,
            lifetime: LEAF_LIFETIME,
        };
        let (server, client) = (Usage::Server, Usage::Client);
        Self(Leaf::ALL.map(|which| match which {
            Leaf::ApiServer => leaf("kube-apiserver", None, server, api_server_names(options)),
            Leaf::KubeletClient => leaf("kube-apiserver-kubelet-client", Some(MASTERS), client, vec![]),
            Leaf::NodeServing => leaf(&node, Some("system:nodes"), server, node_names(options)),
            Leaf::NodeClient => leaf(&node, Some("system:nodes"), client, vec![]),
            Leaf::Admin => leaf(ADMIN, Some(MASTERS), client, vec![]),
        }))
    }

    /// What is on disk when it is still good, else a new pair, written before it is returned.
    pub(super) fn open_or_issue(
        &self,
        dir: &Path,
        which: Leaf,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<KeyMaterial, PkiError> {
        open_or_issue(dir, which.file(), &self.0[which as usize], authority, now)
    }
}

/// The pair in these files when it is still good, else a new one, written before it is returned.
pub(super) fn open_or_issue(
    dir: &Path,
    file: &str,
    wanted: &LeafRequest,
    authority: &Authority,
    now: OffsetDateTime,
) -> Result<KeyMaterial, PkiError> {
    let (cert_path, key_path) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
    if let (Some(cert_pem), Some(key_pem)) = (files::read(&cert_path)?, files::read_key(&key_path)?) {
        match inspect::why_renew(&cert_pem, &key_pem, &authority.cert_der, wanted, now) {
            None => return Ok(KeyMaterial { cert_pem, key_pem }),
            Some(why) => tracing::info!(certificate = file, why, "certificate renewed"),
        }
    }
    let material = authority.issue(wanted, now)?;
    // The certificate goes last: one that is there has its key.
    files::write(&key_path, &material.key_pem)?;
    files::write(&cert_path, &material.cert_pem)?;
    Ok(material)
}

/// What clients and pods call the API server.
fn api_server_names(options: &PkiOptions) -> Vec<String> {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).into();
    names.push(format!("kubernetes.default.svc.{}", options.cluster_domain));
    names.push(options.hostname.clone());
    names.extend(loopback());
    names.push(options.service_ip.to_string());
    names.extend(options.node_ips.iter().map(IpAddr::to_string));
    names.extend(options.extra_sans.iter().cloned());
    tidy(names)
}

fn node_names(options: &PkiOptions) -> Vec<String> {
    let mut names = vec![options.node_name.clone(), options.hostname.clone(), "localhost".into()];
    names.extend(loopback());
    names.extend(options.node_ips.iter().map(IpAddr::to_string));
    tidy(names)
}

fn loopback() -> [String; 2] {
    [Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()]
}

/// Without empty names and repetitions, in the same order.
fn tidy(names: Vec<String>) -> Vec<String> {
    let mut tidied: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !name.is_empty() && !tidied.contains(&name) {
            tidied.push(name);
        }
    }
    tidied
}
