//! What a pod's volumes and environment need from the API, and what the agent found.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Which ServiceAccount token a volume wants. The agent asks the API server's TokenRequest for it, bound to
/// the pod, and again well before it expires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenKey {
    /// The audience; empty means the API server's own.
    pub audience: String,
    /// Requested life in seconds.
    pub expiration_seconds: i64,
}

/// The API objects, in the pod's namespace, that a pod refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Names of ConfigMaps, of volumes and of environments.
    pub config_maps: BTreeSet<String>,
    /// Names of Secrets, of volumes and of environments; not the image pull secrets.
    pub secrets: BTreeSet<String>,
    /// ServiceAccount tokens of projected volumes.
    pub tokens: BTreeSet<TokenKey>,
}

/// The objects that [`Needs`] names, as the agent found them.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps by name; `None` when the API server says there is none. A name that is absent has not
    /// been looked up yet, which is an error to use.
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    /// Secrets by name; as for ConfigMaps.
    pub secrets: BTreeMap<String, Option<Secret>>,
    /// ServiceAccount tokens.
    pub tokens: BTreeMap<TokenKey, String>,
    /// What the node can give to pods: the limits that a container without limits reports.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// An object that was not handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotLookedUp(pub(crate) String);

impl Sources {
    /// A ConfigMap, or `None` if there is none of the name.
    pub(crate) fn config_map(&self, name: &str) -> Result<Option<&ConfigMap>, NotLookedUp> {
        let found = self.config_maps.get(name).ok_or_else(|| NotLookedUp(format!("configmap \"{name}\"")))?;
        Ok(found.as_ref())
    }

    /// A Secret, or `None` if there is none of the name.
    pub(crate) fn secret(&self, name: &str) -> Result<Option<&Secret>, NotLookedUp> {
        let found = self.secrets.get(name).ok_or_else(|| NotLookedUp(format!("secret \"{name}\"")))?;
        Ok(found.as_ref())
    }
}
