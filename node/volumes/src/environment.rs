//! The environment of a container: `env`, `envFrom`, `$(VAR)` and the service variables.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::error::EnvError;
use crate::sources::Sources;

/// What the agent knows about a pod that its API object may not say yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Name of this node.
    pub node_name: String,
    /// Addresses of the pod, the main one first.
    pub pod_ips: Vec<String>,
    /// Addresses of the node, the main one first.
    pub host_ips: Vec<String>,
}

/// Resolves the environment that the API describes for a container, without what the image adds.
///
/// `envFrom` comes first and `env` wins over it; `$(VAR)` in `env` values means earlier entries and the
/// service variables; service variables come last, where nothing else took the name.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts,
    service_env: &[(String, String)],
) -> Result<Vec<(String, String)>, EnvError> {
    let _ = (pod, container, sources, facts, service_env);
    Err(EnvError::Unsupported("not built yet".to_owned()))
}

/// Replaces `$(VAR)` in a command, an argument or a `subPathExpr`; `$$` is a plain `$`, and a variable that
/// is not in `variables` stays as it is written.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let _ = variables;
    text.to_owned()
}
