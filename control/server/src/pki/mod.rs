//! The cluster's keys and certificates: made at first start, reloaded and renewed later.
//!
//! | file | subject | for |
//! |---|---|---|
//! | `ca` | `kubernetes` | signs all the others |
//! | `apiserver` | `kube-apiserver` | the API server's TLS front |
//! | `apiserver-kubelet-client` | `kube-apiserver-kubelet-client`, `system:masters` | API server → nodes |
//! | `kubelet` | `system:node:<name>`, `system:nodes` | the node's HTTPS API |
//! | `kubelet-client` | `system:node:<name>`, `system:nodes` | node → API server |
//! | `admin` | `kubernetes-admin`, `system:masters` | the administrator's kubeconfig |
//! | `front-proxy-ca` | `front-proxy-ca` | signs the next one |
//! | `front-proxy-client` | `front-proxy-client` | API server → aggregated API servers |
//! | `store-ca` | `store-ca` | signs the next one |
//! | `store` | the node's name | members of the store, to each other |
//! | `sa.key`, `sa.pub` | | signs and checks ServiceAccount tokens (ES256) |
//!
//! Keys are ECDSA P-256 in PKCS#8. Every file is mode 0600 in a directory of mode 0700, and is replaced by
//! writing a temporary file, syncing it and renaming it. A crash between two writes leaves at worst a pair that
//! does not match, which the next start makes again. The authority is never replaced by itself: every client
//! trusts it, so what is wrong with it is an error that says what to do.

mod accounts;
mod der;
mod files;
mod front_proxy;
mod inspect;
mod issue;
mod kubeconfig;
mod leaves;
mod pem;
mod requests;
mod shared;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::KeyPair;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ServerConfig};
use time::{Duration, OffsetDateTime};

pub use accounts::{ServiceAccountKeys, VerifyingKey};
pub use front_proxy::FrontProxy;
pub use issue::{KeyMaterial, LEAF_LIFETIME, Usage};
pub use requests::{CertificateSigner, Requested};
pub(crate) use shared::export as export_shared;
pub use shared::{SharedKeys, import as import_shared};
pub use store::StoreTls;
pub(crate) use tls::provider;

use issue::{Authority, LeafRequest};
use leaves::{Leaf, Leaves};
use tls::LiveKey;

/// What the certificates have to say about this host and this cluster.
#[derive(Debug, Clone)]
pub struct PkiOptions {
    /// The name of the Node object.
    pub node_name: String,
    /// The addresses under which the node and the API server are reached.
    pub node_ips: Vec<IpAddr>,
    /// The address of the `kubernetes` service, the first of the service range.
    pub service_ip: IpAddr,
    /// The DNS domain of the cluster, `cluster.local` by default.
    pub cluster_domain: String,
    /// The host's name.
    pub hostname: String,
    /// Further DNS names and addresses for the API server's certificate.
    pub extra_sans: Vec<String>,
}

/// Why keys or certificates could not be made, read or used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PkiError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "{} can be read by others than its owner (mode {mode:04o}): a key that may have leaked is not used; \
         if you trust it, run: chmod {wanted:o} {}", path.display(), path.display()
    )]
    TooOpen { path: PathBuf, mode: u32, wanted: u32 },
    #[error("{} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("{} cannot be used: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error(
        "the cluster's authority {} cannot be used: {why}; put back the right certificate and key, or, to begin \
         a new cluster, remove them (every client then needs a new kubeconfig)", path.display()
    )]
    Authority { path: PathBuf, why: &'static str },
    #[error("cannot make a certificate for {names}: {source}")]
    BadName { names: String, source: rcgen::Error },
    #[error("cannot sign: {0}")]
    Sign(String),
    #[error("TLS: {0}")]
    Tls(String),
}

impl PkiError {
    fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }

    fn malformed(path: &Path, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), why: why.into() }
    }

    fn sign(error: rcgen::Error) -> Self {
        Self::Sign(error.to_string())
    }

    fn tls(error: rustls::Error) -> Self {
        Self::Tls(error.to_string())
    }
}

/// The cluster's keys, open for use.
pub struct Pki {
    dir: PathBuf,
    authority: Arc<Authority>,
    leaves: Leaves,
    front_proxy: front_proxy::Keys,
    store: store::Keys,
    accounts: Arc<ServiceAccountKeys>,
    /// What is on disk, by [`Leaf`]; also held while renewing, so that two renewals do not cross.
    materials: Mutex<Vec<KeyMaterial>>,
    live: Vec<Arc<LiveKey>>,
}

impl Pki {
    /// Opens the keys in `dir`, making what is missing and renewing what ends soon or no longer fits `options`.
    pub fn open_or_create(dir: &Path, options: &PkiOptions) -> Result<Self, PkiError> {
        Self::open_at(dir, options, OffsetDateTime::now_utc())
    }

    fn open_at(dir: &Path, options: &PkiOptions, now: OffsetDateTime) -> Result<Self, PkiError> {
        files::secure_dir(dir)?;
        let authority = Arc::new(open_authority(dir, "ca", "kubernetes", now)?);
        let front = open_authority(dir, front_proxy::AUTHORITY, front_proxy::AUTHORITY, now)?;
        let front_proxy = front_proxy::Keys::open(dir, front, now)?;
        let store = open_authority(dir, store::AUTHORITY, store::AUTHORITY, now)?;
        let store = store::Keys::open(dir, store, options, now)?;
        let accounts = Arc::new(ServiceAccountKeys::open_or_create(dir)?);
        let leaves = Leaves::new(options);
        let materials = Leaf::ALL
            .iter()
            .map(|leaf| leaves.open_or_issue(dir, *leaf, &authority, now))
            .collect::<Result<Vec<_>, _>>()?;
        let live = materials.iter().map(LiveKey::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            dir: dir.into(),
            authority,
            leaves,
            front_proxy,
            store,
            accounts,
            materials: Mutex::new(materials),
            live,
        })
    }

    /// Renews what ends soon, on disk and in the configurations handed out; connections that come later see the
    /// new certificates. Returns when it should be called again.
    pub fn renew(&self) -> Result<OffsetDateTime, PkiError> {
        self.renew_at(OffsetDateTime::now_utc())
    }

    fn renew_at(&self, now: OffsetDateTime) -> Result<OffsetDateTime, PkiError> {
        let mut materials = self.materials.lock();
        for leaf in Leaf::ALL {
            let fresh = self.leaves.open_or_issue(&self.dir, leaf, &self.authority, now)?;
            self.live[leaf as usize].replace(&fresh)?;
            materials[leaf as usize] = fresh;
        }
        self.front_proxy.renew(&self.dir, now)?;
        self.store.renew(&self.dir, now)?;
        let next = materials.iter().filter_map(|material| inspect::not_after(&material.cert_pem)).min();
        Ok(next.unwrap_or(now) - inspect::RENEW_BEFORE)
    }

    /// Keeps the certificates fresh for as long as it is polled: renews, then sleeps until the next is due. A
    /// failure is logged and tried again after an hour; the certificates in use have months left by then.
    pub async fn keep_fresh(&self) {
        const RETRY: std::time::Duration = std::time::Duration::from_secs(3600);
        loop {
            let wait = match self.renew() {
                Ok(next) => (next - OffsetDateTime::now_utc()).try_into().unwrap_or(RETRY).max(RETRY),
                Err(error) => {
                    tracing::error!(%error, "certificates could not be renewed; trying again in an hour");
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// TLS for the API server's front: HTTP/2 and HTTP/1.1; a client certificate is checked when there is one,
    /// and a client without is let in, to be judged by its token.
    pub fn server_tls(&self) -> Result<Arc<ServerConfig>, PkiError> {
        self.server_tls_with(None)
    }

    /// The same, which also lets in clients with certificates of another authority (PEM): proxies that speak for others.
    /// Who they are is not decided here.
    pub fn server_tls_with(&self, proxies: Option<&str>) -> Result<Arc<ServerConfig>, PkiError> {
        let authorities = format!("{}\n{}", self.authority.cert_pem, proxies.unwrap_or_default());
        tls::server(&authorities, self.live(Leaf::ApiServer))
    }

    /// TLS for connections from the API server to nodes: their certificate must be the cluster's.
    pub fn kubelet_client_tls(&self) -> Result<Arc<ClientConfig>, PkiError> {
        tls::node_client(&self.authority.cert_pem, self.live(Leaf::KubeletClient))
    }

    /// Checks the chain of a client certificate: what [`crate::authn`] asks before it believes a name.
    pub fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
        tls::client_verifier(&self.authority.cert_pem)
    }

    /// The certificate and key that this node's HTTPS API serves with. Clients of it are checked against
    /// [`Self::ca_pem`].
    pub fn node_serving_tls(&self) -> KeyMaterial {
        self.material(Leaf::NodeServing)
    }

    /// The certificate and key with which this node calls the API server.
    pub fn node_client_tls(&self) -> KeyMaterial {
        self.material(Leaf::NodeClient)
    }

    /// The authority's certificate: what `kube-root-ca.crt` and every kubeconfig carry.
    pub fn ca_pem(&self) -> &str {
        &self.authority.cert_pem
    }

    /// Signs requests for certificates.
    pub fn certificate_signer(&self) -> CertificateSigner {
        CertificateSigner(self.authority.clone())
    }

    /// What the API server shows to aggregated API servers.
    pub fn front_proxy(&self) -> FrontProxy {
        self.front_proxy.shown(self.ca_pem())
    }

    /// TLS between members of the store.
    pub fn store_tls(&self) -> Result<StoreTls, PkiError> {
        self.store.tls()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The keys of ServiceAccount tokens.
    pub fn service_account_keys(&self) -> Arc<ServiceAccountKeys> {
        Arc::clone(&self.accounts)
    }

    /// Signs a client certificate for `user` in `groups`.
    pub fn sign_client(
        &self,
        user: &str,
        groups: &[String],
        lifetime: Duration,
    ) -> Result<KeyMaterial, PkiError> {
        if user.is_empty() {
            return Err(PkiError::Sign("a client certificate needs a user name".into()));
        }
        let request = LeafRequest {
            common_name: user.into(),
            organizations: groups.to_vec(),
            usage: Usage::Client,
            names: Vec::new(),
            lifetime,
        };
        self.authority.issue(&request, OffsetDateTime::now_utc())
    }

    /// The administrator's kubeconfig. `server` is the API server's URL; `others` are further servers by name, each of
    /// which gets a context.
    pub fn admin_kubeconfig(&self, server: &str, others: &[(String, String)]) -> String {
        kubeconfig::render(server, others, self.ca_pem(), leaves::ADMIN, &self.material(Leaf::Admin))
    }

    /// A kubeconfig for any identity, with a certificate of its own.
    pub fn kubeconfig(
        &self,
        server: &str,
        user: &str,
        groups: &[String],
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        let identity = self.sign_client(user, groups, lifetime)?;
        Ok(kubeconfig::render(server, &[], self.ca_pem(), user, &identity))
    }

    /// Writes a kubeconfig (or any secret text) to `path`: mode 0600, whole or not at all.
    pub fn write_secret(path: &Path, text: &str) -> Result<(), PkiError> {
        files::write(path, text)
    }

    fn material(&self, leaf: Leaf) -> KeyMaterial {
        self.materials.lock()[leaf as usize].clone()
    }

    fn live(&self, leaf: Leaf) -> Arc<LiveKey> {
        Arc::clone(&self.live[leaf as usize])
    }
}

/// Checks client certificates against the authorities in `pem`.
pub(crate) fn verifier_of(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    tls::client_verifier(pem)
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// An authority in `dir`, made when there is neither key nor certificate.
fn open_authority(
    dir: &Path,
    file: &str,
    common_name: &str,
    now: OffsetDateTime,
) -> Result<Authority, PkiError> {
    let (cert_path, key_path) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
    let refuse = |why| PkiError::Authority { path: cert_path.clone(), why };
    let (key_pem, cert_pem) = match (files::read_key(&key_path)?, files::read(&cert_path)?) {
        (Some(key), Some(cert)) => (key, cert),
        (None, Some(_)) => return Err(refuse("its key is missing beside it")),
        // The key is written first: without a certificate, the first start was cut off between the two.
        (key, None) => make_authority((&key_path, &cert_path), common_name, key, now)?,
    };
    let der = pem::first_certificate(&cert_pem).ok_or_else(|| refuse("it holds no certificate"))?;
    if let Some(why) = inspect::authority_problem(&der, &key_pem, now) {
        return Err(refuse(why));
    }
    let key =
        KeyPair::from_pem(&key_pem).map_err(|error| PkiError::malformed(&key_path, error.to_string()))?;
    Authority::new(cert_pem, key)
}

fn make_authority(
    (key_path, cert_path): (&Path, &Path),
    common_name: &str,
    key_pem: Option<String>,
    now: OffsetDateTime,
) -> Result<(String, String), PkiError> {
    let key = match &key_pem {
        Some(pem) => {
            KeyPair::from_pem(pem).map_err(|error| PkiError::malformed(key_path, error.to_string()))?
        }
        None => issue::new_key()?,
    };
    if key_pem.is_none() {
        files::write(key_path, &key.serialize_pem())?;
    }
    let cert_pem = issue::self_signed_authority(common_name, &key, now)?;
    files::write(cert_path, &cert_pem)?;
    Ok((key_pem.unwrap_or_else(|| key.serialize_pem()), cert_pem))
}
