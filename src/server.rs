//! Puts the API server together: the store, who may come in, what is changed and judged on the way in, the way to nodes.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use carrack_server::authn::{Authn, Objects, issuer};
use carrack_server::authz::{NodeAuthorizer, Rbac};
use carrack_server::kubelet::NodeClient;
use carrack_server::pki::Pki;
use carrack_server::{ApiServer, Authorizer, Config, StoreObjects, admission};
use carrack_store::Store;

use crate::parts::Settings;

/// Where the store is.
pub(crate) fn store_options(settings: &Settings) -> carrack_store::Options {
    carrack_store::Options::new(settings.up.place.data_dir.join("store"))
}

/// An API server over `store`, with the objects that every cluster has.
pub(crate) async fn assemble(settings: &Settings, pki: &Pki, store: Store) -> Result<ApiServer> {
    let objects: Arc<dyn Objects> = Arc::new(StoreObjects::new(store.clone()));
    let rbac = Rbac::start(store.clone()).await.context("the access policy")?;
    let nodes = NodeAuthorizer::start(store.clone()).await.context("what pods lead their nodes to")?;
    let authorizers: Vec<Arc<dyn Authorizer>> = vec![nodes, rbac.clone()];
    let pod_security = match &settings.up.admission_control_config_file {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            admission::read_config(&text).with_context(|| format!("{}", file.display()))?
        }
        None => admission::PodSecurityConfig::default(),
    };
    let authn = Arc::new(Authn::new(pki, &issuer(&settings.up.cluster_domain), objects.clone())?);
    let api = ApiServer::new(Config {
        store,
        advertise_address: IpAddr::V4(settings.node_ip),
        secure_port: settings.up.port,
        service_cidr: settings.up.service_cidr.clone(),
        dns_address: IpAddr::V4(settings.up.cluster_dns),
        authenticator: authn.clone(),
        admission: admission::plugins_with(&objects, &rbac, &authorizers, pod_security),
        authorizers,
        tokens: authn,
        nodes: Arc::new(NodeClient::new(pki.kubelet_client_tls()?)),
    })?;
    api.start().await?;
    Ok(api)
}
