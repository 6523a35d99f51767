//! From a Service's name and port to the addresses behind it, by the objects of this server.
//!
//! What a Service leads to is decided by [`endpoints`], a pure function of the Service, its EndpointSlices and its
//! Endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::ApiError;
use crate::authn::{Objects, text};

/// Where a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoints {
    /// To these, ready ones only; never empty.
    Addresses(Vec<SocketAddr>),
    /// To a name that DNS knows (`type: ExternalName`).
    Name(String, u16),
}

/// Why a Service leads nowhere.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("service {0:?} not found")]
    NoService(String),
    #[error("no service port {port} found for service {service:?}")]
    NoPort { service: String, port: u16 },
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    #[error("service {service:?} cannot be looked up: {why}")]
    Objects { service: String, why: ApiError },
}

/// Looks Services up.
pub(crate) struct Resolver {
    objects: Arc<dyn Objects>,
    /// Turns with each connection, so that all endpoints get some.
    turn: AtomicUsize,
}

impl Resolver {
    pub(super) fn new(objects: Arc<dyn Objects>) -> Self {
        Resolver { objects, turn: AtomicUsize::new(0) }
    }

    /// Where `port` of the Service leads, the next endpoint in turn first.
    pub(crate) async fn resolve(
        &self,
        namespace: &str,
        name: &str,
        port: u16,
    ) -> Result<Endpoints, ResolveError> {
        let failed = |why| ResolveError::Objects { service: name.to_owned(), why };
        let service = self.objects.get("", "services", namespace, name).await.map_err(failed)?;
        let service = service.ok_or_else(|| ResolveError::NoService(name.to_owned()))?;
        let slices = self.objects.list("discovery.k8s.io", "endpointslices", namespace).await;
        let slices = slices.map_err(failed)?;
        let own: Vec<&Value> =
            slices.iter().map(|slice| &**slice).filter(|slice| is_of(slice, name)).collect();
        let legacy = match own.is_empty() {
            true => self.objects.get("", "endpoints", namespace, name).await.map_err(failed)?,
            false => None,
        };
        let mut found = endpoints(&service, port, &own, legacy.as_deref())?;
        if let Endpoints::Addresses(addresses) = &mut found {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(turn);
        }
        Ok(found)
    }
}

/// Whether an EndpointSlice is of the Service of that name.
pub(crate) fn is_of(slice: &Value, service: &str) -> bool {
    text(slice, "/metadata/labels/kubernetes.io~1service-name") == service
}

/// Where `port` of `service` leads. `legacy` is its Endpoints object, which counts where nobody made slices of it.
pub(crate) fn endpoints(
    service: &Value,
    port: u16,
    slices: &[&Value],
    legacy: Option<&Value>,
) -> Result<Endpoints, ResolveError> {
    let name = || text(service, "/metadata/name").to_owned();
    if text(service, "/spec/type") == "ExternalName" {
        return Ok(Endpoints::Name(text(service, "/spec/externalName").to_owned(), port));
    }
    let ports = items(service, "/spec/ports");
    let known = ports.iter().find(|entry| entry.get("port").and_then(Value::as_u64) == Some(port.into()));
    let known = known.ok_or_else(|| ResolveError::NoPort { service: name(), port })?;
    let port_name = text(known, "/name");
    let mut addresses: Vec<SocketAddr> = slices.iter().flat_map(|slice| of_slice(slice, port_name)).collect();
    if let (true, Some(legacy)) = (slices.is_empty(), legacy) {
        addresses = items(legacy, "/subsets").iter().flat_map(|set| of_subset(set, port_name)).collect();
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(ResolveError::NoEndpoints(name()));
    }
    Ok(Endpoints::Addresses(addresses))
}

/// The elements of a list by pointer; none when it is not there.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The number of the port that has the name, in a list of ports of endpoints.
pub(crate) fn number(ports: &[Value], name: &str) -> Option<u16> {
    let port = ports.iter().find(|port| text(port, "/name") == name)?;
    port.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok())
}

fn sockets<'a>(addresses: impl Iterator<Item = &'a str>, port: u16) -> Vec<SocketAddr> {
    let parsed = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    parsed.map(|address| SocketAddr::new(address, port)).collect()
}

fn of_slice(slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    let Some(port) = number(items(slice, "/ports"), port_name) else { return Vec::new() };
    // Not to know is to be ready.
    let ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
    let endpoints = items(slice, "/endpoints").iter().filter(ready);
    sockets(endpoints.flat_map(|e| items(e, "/addresses")).filter_map(Value::as_str), port)
}

fn of_subset(subset: &Value, port_name: &str) -> Vec<SocketAddr> {
    let Some(port) = number(items(subset, "/ports"), port_name) else { return Vec::new() };
    sockets(items(subset, "/addresses").iter().map(|address| text(address, "/ip")), port)
}
