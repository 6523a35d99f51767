//! Which container of a pod is meant, and what to say when it is not clear or not there.

use serde_json::Value;

use crate::ApiError;
use crate::authn::text;

/// The lists of a pod's containers, with the words for each.
const LISTS: [(&str, &str); 3] = [
    ("containers", "choose one of"),
    ("initContainers", "or one of the init containers"),
    ("ephemeralContainers", "or one of the ephemeral containers"),
];

/// The container that a request means: the one it names, or the only one.
pub(super) fn choose<'a>(pod: &'a Value, asked: Option<&'a str>) -> Result<&'a str, ApiError> {
    let name = text(pod, "/metadata/name");
    if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
        return if LISTS.iter().any(|(list, _)| names(pod, list).any(|known| known == asked)) {
            Ok(asked)
        } else {
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    let mut containers = names(pod, "containers");
    match (containers.next(), containers.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, {}",
            choices(pod)
        ))),
    }
}

/// Why a container that is not running yet has nothing to show; `None` when the pod's status does not say that it
/// waits. `ContainerCreating` while nothing is known of it.
pub(super) fn waiting(pod: &Value, container: &str) -> Option<String> {
    let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    let status = statuses
        .iter()
        .filter_map(|list| pod.pointer(&format!("/status/{list}"))?.as_array())
        .flatten()
        .find(|status| text(status, "/name") == container);
    let reason = match status {
        None => "ContainerCreating",
        Some(status) => {
            status.pointer("/state/waiting")?;
            match text(status, "/state/waiting/reason") {
                "" => "ContainerCreating",
                reason => reason,
            }
        }
    };
    let name = text(pod, "/metadata/name");
    Some(format!("container {container:?} in pod {name:?} is waiting to start: {reason}"))
}

fn choices(pod: &Value) -> String {
    let lists = LISTS.iter().filter_map(|(list, words)| {
        let names: Vec<&str> = names(pod, list).collect();
        (!names.is_empty()).then(|| format!("{words}: [{}]", names.join(" ")))
    });
    lists.collect::<Vec<_>>().join(" ")
}

fn names<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    containers.into_iter().flatten().map(|container| text(container, "/name"))
}
