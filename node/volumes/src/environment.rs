//! The environment of a container: `env`, `envFrom`, `$(VAR)` and the service variables.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource, Pod};

use crate::error::EnvError;
use crate::fields;
use crate::sources::{NotLookedUp, Sources};

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
    let mut variables = Variables::default();
    for source in container.env_from.iter().flatten() {
        env_from(&mut variables, source, sources)?;
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value_from, variable.value.as_deref()) {
            (Some(source), None | Some("")) => {
                match value_from(pod, container, sources, facts, source)? {
                    Some(value) => value,
                    // An optional source that is not there: the variable is not set.
                    None => continue,
                }
            }
            (_, text) => {
                let service = |name: &str| service_env.iter().find(|(key, _)| key == name);
                let lookup = |name: &str| {
                    variables
                        .get(name)
                        .or_else(|| service(name).map(|(_, value)| value.as_str()))
                        .map(str::to_owned)
                };
                expand_with(text.unwrap_or_default(), lookup).0
            }
        };
        variables.set(variable.name.clone(), value);
    }
    for (name, value) in service_env {
        if variables.get(name).is_none() {
            variables.set(name.clone(), value.clone());
        }
    }
    Ok(variables.list)
}

/// Replaces `$(VAR)` in a command, an argument or a `subPathExpr`; `$$` is a plain `$`, and a variable that
/// is not in `variables` stays as it is written.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let lookup =
        |name: &str| variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    expand_with(text, lookup).0
}

/// Expands, and names the first variable that was not found.
pub(crate) fn expand_with(text: &str, lookup: impl Fn(&str) -> Option<String>) -> (String, Option<String>) {
    let mut expanded = String::new();
    let mut missing = None;
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let name = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        rest = match (name, after.strip_prefix('$')) {
            (_, Some(after)) => {
                expanded.push('$');
                after
            }
            (Some((name, after)), None) => {
                match lookup(name) {
                    Some(value) => expanded.push_str(&value),
                    None => {
                        expanded.push_str(&format!("$({name})"));
                        missing.get_or_insert_with(|| name.to_owned());
                    }
                }
                after
            }
            (None, None) => {
                expanded.push('$');
                after
            }
        };
    }
    expanded.push_str(rest);
    (expanded, missing)
}

/// Variables in the order in which their names first came up.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|index| self.list[*index].1.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.index.get(&name) {
            Some(index) => self.list[*index].1 = value,
            None => {
                self.index.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }
}

fn env_from(variables: &mut Variables, source: &EnvFromSource, sources: &Sources) -> Result<(), EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_ref {
        match sources.config_map(&reference.name)? {
            Some(found) => {
                for (key, value) in found.data.iter().flatten() {
                    variables.set(format!("{prefix}{key}"), value.clone());
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError::ConfigMapNotFound(reference.name.clone())),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match sources.secret(&reference.name)? {
            Some(found) => {
                for (key, value) in found.data.iter().flatten() {
                    variables.set(format!("{prefix}{key}"), text(&reference.name, key, &value.0)?);
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError::SecretNotFound(reference.name.clone())),
        }
    }
    Ok(())
}

/// The value of a `valueFrom`; `None` for an optional one that is not there.
fn value_from(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts,
    source: &EnvVarSource,
) -> Result<Option<String>, EnvError> {
    let namespace = || pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        let value = fields::environment_field(pod, facts, &field.field_path);
        let unsupported = || EnvError::Unsupported(format!("unsupported fieldPath: {}", field.field_path));
        return value.ok_or_else(unsupported).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        let value = fields::resource(pod, Some(container), &sources.allocatable, selector);
        return value.map(Some).map_err(EnvError::Unsupported);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let (name, key) = (reference.name.clone(), reference.key.clone());
        return match sources.config_map(&name)? {
            None if optional => Ok(None),
            None => Err(EnvError::ConfigMapNotFound(name)),
            Some(found) => match found.data.as_ref().and_then(|data| data.get(&key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(EnvError::ConfigMapKey { namespace: namespace(), name, key }),
            },
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let (name, key) = (reference.name.clone(), reference.key.clone());
        return match sources.secret(&name)? {
            None if optional => Ok(None),
            None => Err(EnvError::SecretNotFound(name)),
            Some(found) => match found.data.as_ref().and_then(|data| data.get(&key)) {
                Some(value) => text(&name, &key, &value.0).map(Some),
                None if optional => Ok(None),
                None => Err(EnvError::SecretKey { namespace: namespace(), name, key }),
            },
        };
    }
    let kinds = serde_json::to_value(source).ok();
    let kind =
        kinds.as_ref().and_then(|value| value.as_object()?.keys().next()).map_or("nothing", String::as_str);
    Err(EnvError::Unsupported(format!("valueFrom {kind} is not supported by this node yet")))
}

fn text(secret: &str, key: &str, bytes: &[u8]) -> Result<String, EnvError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let not_text = || EnvError::NotText { name: secret.to_owned(), key: key.to_owned() };
    text.map(str::to_owned).ok_or_else(not_text)
}

impl From<NotLookedUp> for EnvError {
    fn from(NotLookedUp(what): NotLookedUp) -> EnvError {
        EnvError::NotLookedUp(what)
    }
}

#[cfg(test)]
mod tests;
