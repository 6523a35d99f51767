//! Ephemeral containers: those that are added to a running pod to look into it. They are started as soon as the pod's
//! frame stands, whatever its init containers do, and never again; they decide nothing about the pod's phase.
//!
//! The API gives them a type of their own. Here they are taken for [`Container`]s without probes, hooks, ports and
//! resources, which that type has only so that they can be forbidden.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

use crate::state::{Containers, Run};

/// The pod's ephemeral containers, in the order in which they were added.
pub(crate) fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    declared(pod).iter().map(as_container).collect()
}

/// Whether a container of the pod is ephemeral.
pub(crate) fn is_ephemeral(pod: &Pod, name: &str) -> bool {
    find(pod, name).is_some()
}

/// The ephemeral container of a name.
pub(crate) fn ephemeral_container(pod: &Pod, name: &str) -> Option<Container> {
    find(pod, name).map(as_container)
}

/// The container whose processes an ephemeral container is to see, if it names one.
pub(crate) fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    find(pod, name)?.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// The first process of a container that runs, as the host sees it.
pub(crate) fn process_of(containers: &Containers, name: &str) -> Option<u32> {
    match containers.get(name)?.run {
        Run::Running { pid, .. } => Some(pid),
        Run::Absent | Run::Exited(_) => None,
    }
}

fn declared(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a EphemeralContainer> {
    declared(pod).iter().find(|container| container.name == name)
}

fn as_container(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        name: from.name,
        security_context: from.security_context,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ContainerState;
    use serde_json::json;

    #[test]
    fn they_keep_what_they_may_have_and_name_their_target() {
        let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [{ "name": "main" }],
            "ephemeralContainers": [
                { "name": "look", "image": "i", "tty": true, "stdin": true, "command": ["sh"],
                  "targetContainerName": "main", "resources": { "limits": { "cpu": "1" } } },
                { "name": "alone", "targetContainerName": "" },
            ] } }))
        .unwrap();
        let look = ephemeral_container(&pod, "look").unwrap();
        assert_eq!((look.tty, look.stdin, look.image.as_deref()), (Some(true), Some(true), Some("i")));
        assert_eq!((look.command.as_deref(), look.resources), (Some(&["sh".to_owned()][..]), None));
        assert_eq!((target_of(&pod, "look"), target_of(&pod, "alone")), (Some("main"), None));
        assert!(is_ephemeral(&pod, "alone") && !is_ephemeral(&pod, "main"));
        assert_eq!(ephemeral_containers(&pod).len(), 2);
    }

    #[test]
    fn only_what_runs_has_a_process() {
        let run = Run::Running { id: "x".into(), pid: 7, started_at: jiff::Timestamp::UNIX_EPOCH };
        let state = ContainerState { run, ..ContainerState::default() };
        let all = Containers::from([("a".to_owned(), state), ("b".to_owned(), ContainerState::default())]);
        assert_eq!(["a", "b", "c"].map(|name| process_of(&all, name)), [Some(7), None, None]);
    }
}
