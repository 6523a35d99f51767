//! Puts the API server together: the store, who may come in, what is changed and judged on the way in, the way to nodes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrack_server::authn::{Authn, Objects, issuer, read_authentication};
use carrack_server::authz::changeable::Changeable;
use carrack_server::authz::{NodeAuthorizer, Rbac, config};
use carrack_server::encryption::Encryption;
use carrack_server::join::Joining;
use carrack_server::kubelet::NodeClient;
use carrack_server::pki::Pki;
use carrack_server::{ApiServer, Authorizer, Config, ReloadError, StoreObjects, admission};
use carrack_store::{Range, Store};
use tokio_util::sync::CancellationToken;

use crate::parts::Settings;

/// How long a start insists where the store has no leader for a moment, and the pause between two tries.
const INSIST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// The store as the API server sees it: what is to be encrypted, is. The configuration is followed until `shutdown`.
/// Also gives what does it, and the file that says how.
async fn sealed(
    settings: &Settings,
    store: &Store,
    shutdown: &CancellationToken,
) -> Result<(Store, Arc<Encryption>, PathBuf)> {
    let (path, encryption) = match &settings.server.encryption_provider_config {
        Some(path) => (path.clone(), Encryption::load(path)?),
        None => {
            let path = settings.dirs.data_dir.join("encryption.yaml");
            if !path.exists() {
                refuse_lost_key(&path, store).await?;
            }
            let encryption = Encryption::load_or_create(&path)?;
            (path, encryption)
        }
    };
    let encryption = Arc::new(encryption);
    encryption.start().await;
    tokio::spawn(encryption.clone().follow(path.clone(), shutdown.clone()));
    Ok((store.sealed(encryption.clone()), encryption, path))
}

/// A new key would not read what an old one encrypted: better to say so than to begin with Secrets that nobody can read.
async fn refuse_lost_key(path: &Path, store: &Store) -> Result<()> {
    let secrets = insist(|| store.range(Range::prefix("/registry/secrets/"))).await?;
    if secrets.kvs.iter().any(|kv| kv.value.starts_with(b"k8s:enc:")) {
        bail!(
            "the store holds encrypted Secrets and {} with their key is missing: put it back from where it was copied \
             to, or name another EncryptionConfiguration by --encryption-provider-config",
            path.display()
        );
    }
    Ok(())
}

/// Tries again while the store has no leader for a moment.
async fn insist<T, E, F: Future<Output = Result<T, E>>>(mut start: impl FnMut() -> F) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match start().await {
            Err(_) if began.elapsed() < INSIST => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
}

/// Believes other issuers when the file names others. What it says of anonymous requests counts from the start, as
/// upstream.
fn follow_authentication(api: &ApiServer, path: &Path, own: String, authn: Arc<Authn>) {
    let file = path.to_owned();
    api.follow("authentication", path.to_owned(), move || {
        let read = read_authentication(&file, &own).map_err(|why| ReloadError::Wrong(why.to_string()));
        let authn = authn.clone();
        async move { authn.adopt(read?.jwt).await }
    });
}

/// An API server over `store`, with the objects that every cluster has.
pub(crate) async fn assemble(
    settings: &Settings,
    pki: &Pki,
    store: &Store,
    shutdown: &CancellationToken,
) -> Result<ApiServer> {
    let (store, encryption, encryption_file) = sealed(settings, store, shutdown).await?;
    let objects: Arc<dyn Objects> = Arc::new(StoreObjects::new(store.clone()));
    let rbac = insist(|| Rbac::start(store.clone())).await.context("the access policy")?;
    let nodes = insist(|| NodeAuthorizer::start(store.clone())).await;
    let nodes = nodes.context("what pods lead their nodes to")?;
    let nodes: Arc<dyn Authorizer> = nodes;
    let roles: Arc<dyn Authorizer> = rbac.clone();
    let (configured, chosen) = settings.server.admission()?;
    let common = &settings.cluster.settings;
    let access = &settings.server.access;
    let choices = access.authorization()?;
    let mut authorizers = config::authorizers(&choices, &nodes, &roles)?;
    let changeable = Arc::new(Changeable::new(&choices, authorizers.clone()));
    if access.authorization_file().is_some() {
        authorizers = vec![changeable.clone()];
    }
    let own = issuer(&common.cluster_domain);
    let authn = Authn::new(pki, &own, objects.clone())?.with(access.authentication(&own)?)?;
    let authn = Arc::new(authn);
    let config = Config {
        store,
        advertise_address: IpAddr::V4(settings.node_ip),
        secure_port: common.port,
        service_cidr: common.service_cidr.clone(),
        dns_address: IpAddr::V4(common.cluster_dns),
        authenticator: authn.clone(),
        admission: admission::plugins_with(&objects, &rbac, &authorizers, &configured, &chosen)
            .context("admission")?,
        authorizers,
        tokens: authn.clone(),
        nodes: Arc::new(NodeClient::new(pki.kubelet_client_tls()?)),
    };
    let api = ApiServer::with_front_proxy(config, Some(pki.front_proxy()))?;
    api.set_webhook_credentials(configured.webhooks);
    api.set_admission_steps(admission::Steps::new(chosen, configured.limited_resources));
    let keys = pki.dir().to_owned();
    api.set_certificate_signer(pki.certificate_signer());
    api.let_join(Joining::new(common.clone(), pki.ca_pem(), keys, encryption_file));
    api.ask("kms-providers", move || encryption.health());
    if let Some(audit) = settings.server.audit.open()? {
        api.set_audit(audit);
    }
    if let Some(path) = access.authentication_file() {
        follow_authentication(&api, path, own, authn);
    }
    if let Some(path) = access.authorization_file() {
        let access = access.clone();
        api.follow("authorization", path.to_owned(), move || {
            let adopted = access.authorization().and_then(|choices| {
                let authorizers = config::authorizers(&choices, &nodes, &roles)?;
                Ok((choices, authorizers))
            });
            let adopted = adopted.map_err(|why| ReloadError::Wrong(format!("{why:#}")));
            let adopted = adopted.and_then(|(choices, authorizers)| changeable.adopt(&choices, authorizers));
            std::future::ready(adopted)
        });
    }
    api.start().await?;
    Ok(api)
}
