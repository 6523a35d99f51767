//! Containers of all kinds in one pod, as far as they are most likely not meant so.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, ResourceRequirements, SecurityContext,
};

use super::{Subject, Warnings, fractional};
use crate::status::FieldPath;
use crate::validate::{list, text};

const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// How many ports of one number a port is compared with: of very many the first are enough.
const COMPARED: usize = 16;

/// What containers of all kinds have.
struct View<'a> {
    at: FieldPath,
    name: &'a str,
    env: &'a [EnvVar],
    ports: &'a [ContainerPort],
    resources: Option<&'a ResourceRequirements>,
    security: Option<&'a SecurityContext>,
}

impl<'a> View<'a> {
    fn new(of: &'a Container, at: FieldPath) -> Self {
        View {
            at,
            name: &of.name,
            env: list(&of.env),
            ports: list(&of.ports),
            resources: of.resources.as_ref(),
            security: of.security_context.as_ref(),
        }
    }

    fn ephemeral(of: &'a EphemeralContainer, at: FieldPath) -> Self {
        View {
            at,
            name: &of.name,
            env: list(&of.env),
            ports: list(&of.ports),
            resources: of.resources.as_ref(),
            security: of.security_context.as_ref(),
        }
    }
}

/// All containers of the spec at `path`.
pub(super) fn all(of: Subject<'_>, path: &FieldPath, warnings: &mut Warnings) {
    let spec = of.spec;
    let views = |field: &str, containers: &'_ [Container]| -> Vec<FieldPath> {
        (0..containers.len()).map(|index| path.child(field).index(index)).collect()
    };
    let init = list(&spec.init_containers);
    let mut all: Vec<View<'_>> =
        init.iter().zip(views("initContainers", init)).map(|(c, at)| View::new(c, at)).collect();
    all.extend(
        spec.containers.iter().zip(views("containers", &spec.containers)).map(|(c, at)| View::new(c, at)),
    );
    let at = path.child("ephemeralContainers");
    let ephemeral = list(&spec.ephemeral_containers).iter().enumerate();
    all.extend(ephemeral.map(|(index, c)| View::ephemeral(c, at.index(index))));
    let pod_seccomp = spec.security_context.as_ref().is_some_and(|c| c.seccomp_profile.is_some());
    if !pod_seccomp && of.has(SECCOMP_OF_POD) {
        warnings.push(seccomp(of, SECCOMP_OF_POD));
    }
    for view in &all {
        annotations(of, view, warnings);
        if let Some(resources) = view.resources {
            for name in ["memory", "ephemeral-storage"] {
                for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
                    // Paths are made where there is something to say of: every new pod comes this way.
                    if let Some(amount) = amounts.as_ref().and_then(|amounts| amounts.get(name)) {
                        let at = view.at.child("resources").child(field).key(name);
                        fractional(Some(amount), &at, warnings);
                    }
                }
            }
        }
        variables(view, warnings);
    }
    ports(&all, warnings);
}

fn seccomp(of: Subject<'_>, key: &str) -> String {
    format!("{}: non-functional in v1.27+; use the \"seccompProfile\" field instead", of.annotation(key))
}

/// Profiles that are told in annotations and not in fields.
fn annotations(of: Subject<'_>, view: &View<'_>, warnings: &mut Warnings) {
    if of.annotations.is_none_or(BTreeMap::is_empty) {
        return;
    }
    let key = format!("{SECCOMP_OF_CONTAINER}{}", view.name);
    if view.security.is_none_or(|c| c.seccomp_profile.is_none()) && of.has(&key) {
        warnings.push(seccomp(of, &key));
    }
    let pod = of.spec.security_context.as_ref().is_some_and(|c| c.app_armor_profile.is_some());
    let own = view.security.is_some_and(|c| c.app_armor_profile.is_some());
    let key = format!("{APP_ARMOR}{}", view.name);
    if of.is_template() && !pod && !own && of.has(&key) {
        let at = of.annotation(&key);
        warnings.push(format!("{at}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
    }
}

/// A variable that is there twice: the second may rest on the first.
fn variables(view: &View<'_>, warnings: &mut Warnings) {
    let mut seen = HashSet::new();
    for (index, variable) in view.env.iter().enumerate() {
        if seen.insert(variable.name.as_str()) {
            continue;
        }
        let (value, reference) = (text(&variable.value), format!("$({})", variable.name));
        if variable.value_from.is_some() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                view.at.child("env").index(index),
                variable.name
            ));
        }
    }
}

/// Ports of one number, of all containers.
fn ports(all: &[View<'_>], warnings: &mut Warnings) {
    let mut known: HashMap<(i32, &str), Vec<(FieldPath, &ContainerPort)>> = HashMap::new();
    for view in all {
        for (index, port) in view.ports.iter().enumerate() {
            let at = view.at.child("ports").index(index);
            let (number, ip) = (port.host_port.unwrap_or_default(), text(&port.host_ip));
            if !ip.is_empty() && number == 0 {
                // Upstream shows the port as Go does.
                warnings.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                    text(&port.name),
                    port.container_port,
                    text(&port.protocol)
                ));
            }
            let others = known.entry((port.container_port, text(&port.protocol))).or_default();
            for (other_at, other) in others.iter() {
                let (other_number, other_ip) = (other.host_port.unwrap_or_default(), text(&other.host_ip));
                let what = if number == other_number && ip == other_ip {
                    "duplicate"
                } else if number == 0 || other_number == 0 {
                    "overlapping"
                } else if number == other_number && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{at}: {what} port definition with {other_at}"));
            }
            if others.len() < COMPARED {
                others.push((at, port));
            }
        }
    }
}
