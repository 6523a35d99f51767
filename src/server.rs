//! Puts the API server together: the store, who may come in, what is changed and judged on the way in, the way to nodes.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use carrack_server::authn::{Authn, Objects, issuer};
use carrack_server::authz::{NodeAuthorizer, Rbac, config};
use carrack_server::encryption::Encryption;
use carrack_server::kubelet::NodeClient;
use carrack_server::pki::Pki;
use carrack_server::{ApiServer, Authorizer, Config, StoreObjects, admission};
use carrack_store::{Range, Store};
use tokio_util::sync::CancellationToken;

use crate::parts::Settings;

/// Where the store is.
pub(crate) fn store_options(settings: &Settings) -> carrack_store::Options {
    carrack_store::Options::new(settings.up.place.data_dir.join("store"))
}

/// The store as the API server sees it: what is to be encrypted, is. The configuration is followed until `shutdown`.
async fn sealed(settings: &Settings, store: &Store, shutdown: &CancellationToken) -> Result<Store> {
    let (path, encryption) = match &settings.up.encryption_provider_config {
        Some(path) => (path.clone(), Encryption::load(path)?),
        None => {
            let path = settings.up.place.data_dir.join("encryption.yaml");
            if !path.exists() {
                refuse_lost_key(&path, store).await?;
            }
            let encryption = Encryption::load_or_create(&path)?;
            (path, encryption)
        }
    };
    let encryption = Arc::new(encryption);
    tokio::spawn(encryption.clone().follow(path, shutdown.clone()));
    Ok(store.sealed(encryption))
}

/// A new key would not read what an old one encrypted: better to say so than to begin with Secrets that nobody can read.
async fn refuse_lost_key(path: &Path, store: &Store) -> Result<()> {
    let secrets = store.range(Range::prefix("/registry/secrets/")).await?;
    if secrets.kvs.iter().any(|kv| kv.value.starts_with(b"k8s:enc:")) {
        bail!(
            "the store holds encrypted Secrets and {} with their key is missing: put it back from where it was copied \
             to, or name another EncryptionConfiguration by --encryption-provider-config",
            path.display()
        );
    }
    Ok(())
}

/// An API server over `store`, with the objects that every cluster has.
pub(crate) async fn assemble(
    settings: &Settings,
    pki: &Pki,
    store: &Store,
    shutdown: &CancellationToken,
) -> Result<ApiServer> {
    let store = sealed(settings, store, shutdown).await?;
    let objects: Arc<dyn Objects> = Arc::new(StoreObjects::new(store.clone()));
    let rbac = Rbac::start(store.clone()).await.context("the access policy")?;
    let nodes = NodeAuthorizer::start(store.clone()).await.context("what pods lead their nodes to")?;
    let nodes: Arc<dyn Authorizer> = nodes;
    let roles: Arc<dyn Authorizer> = rbac.clone();
    let configured = match &settings.up.admission_control_config_file {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            admission::read_config(&text).with_context(|| format!("{}", file.display()))?
        }
        None => admission::AdmissionConfig::default(),
    };
    let access = &settings.up.access;
    let authorizers = config::authorizers(&access.authorization()?, &nodes, &roles)?;
    let own = issuer(&settings.up.cluster_domain);
    let authn = Authn::new(pki, &own, objects.clone())?.with(access.authentication(&own)?)?;
    let authn = Arc::new(authn);
    let config = Config {
        store,
        advertise_address: IpAddr::V4(settings.node_ip),
        secure_port: settings.up.port,
        service_cidr: settings.up.service_cidr.clone(),
        dns_address: IpAddr::V4(settings.up.cluster_dns),
        authenticator: authn.clone(),
        admission: admission::plugins_with(&objects, &rbac, &authorizers, configured.pod_security),
        authorizers,
        tokens: authn,
        nodes: Arc::new(NodeClient::new(pki.kubelet_client_tls()?)),
    };
    let api = ApiServer::with_front_proxy(config, Some(pki.front_proxy()))?;
    api.set_webhook_credentials(configured.webhooks);
    if let Some(audit) = settings.up.audit.open()? {
        api.set_audit(audit);
    }
    api.start().await?;
    Ok(api)
}
