//! When a container that has ended is started again: by its own rules, its own policy, and the pod's, in this order.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, ContainerStatus, Pod, PodStatus};

use crate::ephemeral::is_ephemeral;
use crate::state::{ContainerState, Containers, Run, any_container, init_containers, is_sidecar};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Whatever its exit code.
    Always,
    /// Unless its exit code was 0.
    OnFailure,
    Never,
}

impl Policy {
    fn named(name: Option<&str>) -> Option<Self> {
        match name? {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// When one container is to be started again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Restart<'a> {
    /// Rules about exit codes, which come before the policy.
    rules: &'a [ContainerRestartRule],
    policy: Policy,
    /// An init container that is no sidecar has done its work once it succeeded.
    until_success: bool,
}

impl<'a> Restart<'a> {
    /// Never, as ephemeral containers.
    pub(crate) const NEVER: Self = Self { rules: &[], policy: Policy::Never, until_success: false };

    /// Of a main container.
    pub(crate) fn of_main(pod: &Pod, container: &'a Container) -> Self {
        let pods = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        let own = Policy::named(container.restart_policy.as_deref());
        // Rules go with a policy of the container's own.
        let rules = own.and(container.restart_policy_rules.as_deref()).unwrap_or_default();
        let policy = own.or_else(|| Policy::named(pods)).unwrap_or(Policy::Always);
        Self { rules, policy, until_success: false }
    }

    /// Of an init container.
    pub(crate) fn of_init(pod: &Pod, container: &'a Container) -> Self {
        Self { until_success: !is_sidecar(container), ..Self::of_main(pod, container) }
    }

    /// Of a container of any sort.
    pub(crate) fn of(pod: &Pod, container: &'a Container) -> Self {
        if is_ephemeral(pod, &container.name) {
            return Self::NEVER;
        }
        match is_init(pod, &container.name) {
            true => Self::of_init(pod, container),
            false => Self::of_main(pod, container),
        }
    }

    /// Whether a run that ended with this code is followed by another.
    pub(crate) fn again(&self, code: i32) -> bool {
        !(self.until_success && code == 0) && self.allows(code)
    }

    /// Whether the API lets a container that ended with this code run again, in a new sandbox for instance.
    fn allows(&self, code: i32) -> bool {
        self.rules.iter().any(|rule| rule.action == "Restart" && concerns(rule, code))
            || match self.policy {
                Policy::Always => true,
                Policy::OnFailure => code != 0,
                Policy::Never => false,
            }
    }
}

fn concerns(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

fn is_init(pod: &Pod, name: &str) -> bool {
    init_containers(pod).iter().any(|init| init.name == name)
}

/// Takes the containers of a sandbox that is gone back to where they begin, but those that have ended for good. Init
/// containers run again in any case: what they prepared is gone with the sandbox.
pub(crate) fn begin_anew(pod: &Pod, containers: &mut Containers) {
    for (name, state) in containers {
        if !ended_for_good(pod, name, state)
            && let Run::Exited(exit) = std::mem::take(&mut state.run)
        {
            state.previous = Some(exit);
        }
    }
}

fn ended_for_good(pod: &Pod, name: &str, state: &ContainerState) -> bool {
    let (Some(exit), Some(container)) = (state.exit(), any_container(pod, name)) else { return false };
    !is_init(pod, name) && !Restart::of(pod, &container).again(exit.code)
}

/// What has been told to have ended for good is told so from then on, even if it runs again: as an init container does in
/// a new sandbox, or what an agent that lost its records starts. The API takes nothing else.
pub(crate) fn keep_ended(pod: &Pod, before: &PodStatus, status: &mut PodStatus) {
    let lists = [
        (&before.container_statuses, &mut status.container_statuses),
        (&before.init_container_statuses, &mut status.init_container_statuses),
        (&before.ephemeral_container_statuses, &mut status.ephemeral_container_statuses),
    ];
    for (before, now) in lists {
        for status in now.iter_mut().flatten() {
            let old = before.iter().flatten().find(|old| old.name == status.name);
            if let Some(old) = old.filter(|old| is_over(pod, old) && exit_code(status).is_none()) {
                *status = old.clone();
            }
        }
    }
}

fn is_over(pod: &Pod, status: &ContainerStatus) -> bool {
    let (Some(code), Some(container)) = (exit_code(status), any_container(pod, &status.name)) else {
        return false;
    };
    !Restart::of(pod, &container).allows(code)
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::state::Exit;
    use crate::status::{Facts, pod_status};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap()
    }

    fn exited(code: i32) -> ContainerState {
        let exit = Exit {
            id: "old".into(),
            code,
            signal: None,
            reason: "Completed".into(),
            message: None,
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Timestamp::UNIX_EPOCH,
        };
        ContainerState { run: Run::Exited(exit), ..ContainerState::default() }
    }

    #[test]
    fn rules_come_before_the_containers_policy_and_that_before_the_pods() {
        let pod = pod(json!({
            "restartPolicy": "OnFailure",
            "initContainers": [{ "name": "init" }, { "name": "side", "restartPolicy": "Always" }],
            "containers": [
                { "name": "plain" },
                { "name": "never", "restartPolicy": "Never" },
                { "name": "always", "restartPolicy": "Always" },
                { "name": "rules", "restartPolicy": "Never", "restartPolicyRules": [
                    { "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } },
                ] },
                { "name": "other", "restartPolicy": "Never", "restartPolicyRules": [
                    { "action": "Restart", "exitCodes": { "operator": "NotIn", "values": [0, 42] } },
                ] },
            ],
        }));
        let again = |name: &str| -> Vec<i32> {
            let container = any_container(&pod, name).unwrap();
            [0, 1, 42].into_iter().filter(|code| Restart::of(&pod, &container).again(*code)).collect()
        };
        assert_eq!(again("plain"), [1, 42]);
        assert_eq!(again("never"), [0; 0]);
        assert_eq!(again("always"), [0, 1, 42]);
        assert_eq!(again("rules"), [42]);
        assert_eq!(again("other"), [1]);
        assert_eq!(again("init"), [1, 42]);
        assert_eq!(again("side"), [0, 1, 42]);
    }

    #[test]
    fn in_a_new_sandbox_what_has_succeeded_stays_so() {
        let pod = pod(json!({
            "restartPolicy": "OnFailure",
            "initContainers": [{ "name": "init" }],
            "containers": [{ "name": "done" }, { "name": "lost" }],
        }));
        let names = [("init", 0), ("done", 0), ("lost", 137)];
        let mut containers: Containers =
            names.into_iter().map(|(name, code)| (name.to_owned(), exited(code))).collect();
        begin_anew(&pod, &mut containers);
        assert_eq!(containers["init"].run, Run::Absent);
        assert_eq!(containers["lost"].run, Run::Absent);
        assert_eq!(containers["done"].exit().map(|exit| exit.code), Some(0));
        assert!(!crate::plan::initialized(&pod, &containers), "init containers run again");
    }

    #[test]
    fn the_api_is_never_told_that_what_had_ended_for_good_waits_or_runs() {
        let mut pod = pod(json!({
            "restartPolicy": "Never",
            "initContainers": [{ "name": "init" }],
            "containers": [{ "name": "done" }, { "name": "again", "restartPolicy": "Always" }],
        }));
        let names = [("init", 0), ("done", 1), ("again", 1)];
        let all: Containers = names.into_iter().map(|(name, code)| (name.to_owned(), exited(code))).collect();
        let told =
            |pod: &Pod, all: &Containers| pod_status(pod, all, &Facts::default(), Timestamp::UNIX_EPOCH);
        let mut before = told(&pod, &all);
        before.phase = Some("Running".into());
        pod.status = Some(before);
        let status = told(&pod, &Containers::new());
        let code = |list: &Option<Vec<ContainerStatus>>, name: &str| {
            exit_code(list.iter().flatten().find(|status| status.name == name).unwrap())
        };
        assert_eq!(code(&status.init_container_statuses, "init"), Some(0));
        assert_eq!(code(&status.container_statuses, "done"), Some(1));
        assert_eq!(code(&status.container_statuses, "again"), None);
    }
}
