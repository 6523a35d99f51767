//! Turns a container of a pod into what the runtime is asked to make. No I/O: the image, the environment and the
//! sources of the mounts are given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use carrack_cgroups::Limits;
use carrack_images::ImageConfig;
use carrack_runtime::{
    Capabilities, CgroupPaths, Devices, Mount, MountKind, PidNamespace, Propagation, Root, Seccomp, Spec,
    User,
};
use carrack_volumes::{Amount, Volume, expand};
use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, ResourceRequirements, SeccompProfile, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::status::qos_class;

/// Why a container can not be made as it is described: the message of `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// Neither the container nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// `runAsNonRoot`, and the user would be root.
    #[error("container has runAsNonRoot and image will run as root (container: {0})")]
    Root(String),
    /// `runAsNonRoot`, and the image names its user.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
    )]
    NamedUser {
        /// The image's user.
        user: String,
    },
    /// Something that this node does not do yet.
    #[error("{0} is not supported by this node yet")]
    Unsupported(String),
    /// An ephemeral container names a container to look at that does not run.
    #[error("unable to find target container {0:?}: it does not run")]
    Target(String),
    /// A path for a Localhost profile that would leave the directory of profiles.
    #[error("the seccomp profile \"{0}\" must be a relative path without \"..\"")]
    Profile(String),
}

/// What `container_spec` puts together.
pub(crate) struct Parts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// How the image wants to be run.
    pub image: &'a ImageConfig,
    /// The layers and the container's own directories.
    pub root: Root,
    /// What the API says of the environment, resolved.
    pub environment: Vec<(String, String)>,
    /// What is bound into the container beside the default mounts.
    pub mounts: Vec<Mount>,
    /// A process whose process namespace it joins instead of having its own.
    pub target: Option<u32>,
    /// Where it counts.
    pub cgroups: CgroupPaths,
    /// Directory of `Localhost` seccomp profiles.
    pub seccomp_dir: PathBuf,
    /// The node's memory in bytes, for OOM scores.
    pub node_memory: u64,
}

/// The runtime's description of a container.
pub(crate) fn container_spec(parts: Parts<'_>) -> Result<Spec, SpecError> {
    let Parts { pod, container, image, .. } = parts;
    let security = container.security_context.clone().unwrap_or_default();
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let pod_security = pod_spec.security_context.clone().unwrap_or_default();
    if pod_spec.host_users == Some(false) {
        return Err(SpecError::Unsupported("hostUsers: false".to_owned()));
    }
    let mut spec = Spec::new(parts.root, command(container, image, &parts.environment)?);
    spec.env = environment(image, parts.environment);
    spec.cwd = working_dir(container, image);
    spec.user = user(container, image, &security, &pod_security)?;
    spec.mounts.extend(parts.mounts);
    spec.readonly_root = security.read_only_root_filesystem.unwrap_or(false);
    spec.capabilities = capabilities(&security);
    spec.no_new_privs = security.allow_privilege_escalation == Some(false);
    spec.seccomp = seccomp(&security, &pod_security, &parts.seccomp_dir)?;
    spec.oom_score_adj = oom_score_adj(pod, container, parts.node_memory);
    spec.devices = Devices::Default;
    let shared = pod_spec.share_process_namespace.unwrap_or(false) || pod_spec.host_pid.unwrap_or(false);
    spec.pid = match parts.target {
        _ if shared => PidNamespace::Inherit,
        Some(pid) => PidNamespace::Of(pid),
        None => PidNamespace::Private,
    };
    spec.cgroups = parts.cgroups;
    spec.tty = container.tty.unwrap_or(false);
    if security.proc_mount.as_deref() == Some("Unmasked") {
        spec.masked_paths.clear();
        spec.readonly_paths.clear();
    }
    if security.privileged == Some(true) {
        spec.make_privileged();
    }
    Ok(spec)
}

/// The container's command and arguments, each replacing the image's: a command alone leaves out the image's arguments.
fn command(
    container: &Container,
    image: &ImageConfig,
    environment: &[(String, String)],
) -> Result<Vec<String>, SpecError> {
    let own = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        let list = list.as_ref().filter(|l| !l.is_empty())?;
        Some(list.iter().map(|text| expand(text, environment)).collect())
    };
    let args = match (own(&container.command), own(&container.args)) {
        (Some(command), args) => [command, args.unwrap_or_default()].concat(),
        (None, Some(args)) => [image.entrypoint.clone(), args].concat(),
        (None, None) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    };
    if args.is_empty() { Err(SpecError::NoCommand) } else { Ok(args) }
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image's variables, then the container's over them; a PATH in any case.
fn environment(image: &ImageConfig, own: Vec<(String, String)>) -> Vec<String> {
    let name_of = |entry: &str| entry.split_once('=').map_or(entry.to_owned(), |(name, _)| name.to_owned());
    let mut list: Vec<String> =
        image.env.iter().filter(|entry| !own.iter().any(|(n, _)| *n == name_of(entry))).cloned().collect();
    list.extend(own.into_iter().map(|(name, value)| format!("{name}={value}")));
    if !list.iter().any(|entry| entry.starts_with("PATH=")) {
        list.insert(0, DEFAULT_PATH.to_owned());
    }
    list
}

fn working_dir(container: &Container, image: &ImageConfig) -> PathBuf {
    let own = container.working_dir.as_deref().filter(|d| !d.is_empty());
    let dir = own.unwrap_or(&image.working_dir);
    PathBuf::from(if dir.is_empty() { "/" } else { dir })
}

fn user(
    container: &Container,
    image: &ImageConfig,
    security: &SecurityContext,
    pod: &PodSecurityContext,
) -> Result<User, SpecError> {
    let id = |value: Option<i64>| value.and_then(|v| u32::try_from(v).ok());
    let uid = id(security.run_as_user.or(pod.run_as_user));
    let gid = id(security.run_as_group.or(pod.run_as_group));
    if security.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        let name = image.user.split(':').next().unwrap_or_default();
        match (uid, name.parse::<u32>()) {
            (Some(0), _) => return Err(SpecError::Root(container.name.clone())),
            (Some(_), _) => {}
            (None, Ok(0)) => return Err(SpecError::Root(container.name.clone())),
            (None, Ok(_)) => {}
            (None, Err(_)) if name.is_empty() => return Err(SpecError::Root(container.name.clone())),
            (None, Err(_)) => return Err(SpecError::NamedUser { user: name.to_owned() }),
        }
    }
    let groups = pod.supplemental_groups.iter().flatten().copied().chain(pod.fs_group);
    Ok(User {
        image_user: image.user.clone(),
        uid,
        gid,
        supplemental_groups: groups.filter_map(|g| u32::try_from(g).ok()).collect(),
        strict_groups: pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        umask: None,
    })
}

fn capabilities(security: &SecurityContext) -> Capabilities {
    let caps = security.capabilities.clone().unwrap_or_default();
    Capabilities { privileged: false, add: caps.add.unwrap_or_default(), drop: caps.drop.unwrap_or_default() }
}

/// The container's profile, or the pod's; the runtime's default where neither names one.
fn seccomp(
    security: &SecurityContext,
    pod: &PodSecurityContext,
    dir: &std::path::Path,
) -> Result<Seccomp, SpecError> {
    let Some(profile) = security.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()) else {
        return Ok(Seccomp::RuntimeDefault);
    };
    let SeccompProfile { type_, localhost_profile } = profile;
    match type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "Localhost" => {
            let name = localhost_profile.as_deref().unwrap_or_default();
            let plain =
                PathBuf::from(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if name.is_empty() || !plain {
                return Err(SpecError::Profile(name.to_owned()));
            }
            Ok(Seccomp::Localhost(dir.join(name)))
        }
        _ => Ok(Seccomp::RuntimeDefault),
    }
}

/// The score by which the kernel picks victims: -997 for guaranteed and critical pods, 1000 for best effort, and in
/// between the less the more memory the container asks for.
fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i32 {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= 2_000_000_000);
    match qos_class(pod) {
        _ if critical => -997,
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request =
                container.resources.as_ref().and_then(|r| bytes(r.requests.as_ref(), "memory")).unwrap_or(0);
            let share = i128::from(request) * 1000 / i128::from(node_memory.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// The limits of a container's control group.
pub(crate) fn container_limits(resources: Option<&ResourceRequirements>) -> Limits {
    let (requests, limits) = match resources {
        Some(r) => (r.requests.as_ref(), r.limits.as_ref()),
        None => (None, None),
    };
    Limits {
        cpu_millis_request: milli(requests, "cpu"),
        cpu_millis_limit: milli(limits, "cpu"),
        memory_request: bytes(requests, "memory"),
        memory_limit: bytes(limits, "memory"),
        ..Limits::default()
    }
}

/// The limits of a pod's control group: the sum over its containers, where each of them has one.
pub(crate) fn pod_limits(pod: &Pod, pids_limit: Option<u64>) -> Limits {
    let all: Vec<Limits> =
        crate::state::all_containers(pod).map(|c| container_limits(c.resources.as_ref())).collect();
    let sum = |get: fn(&Limits) -> Option<u64>| all.iter().map(get).sum::<Option<u64>>();
    let some =
        |get: fn(&Limits) -> Option<u64>| Some(all.iter().filter_map(get).sum::<u64>()).filter(|n| *n > 0);
    Limits {
        cpu_millis_request: some(|l| l.cpu_millis_request),
        cpu_millis_limit: sum(|l| l.cpu_millis_limit),
        memory_request: some(|l| l.memory_request),
        memory_limit: sum(|l| l.memory_limit),
        pids_limit,
        ..Limits::default()
    }
}

/// Thousandths of a quantity in a list.
pub(crate) fn milli(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<u64> {
    u64::try_from(Amount::parse(&list?.get(name)?.0)?.thousandths()).ok()
}

/// Whole units of a quantity in a list.
pub(crate) fn bytes(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<u64> {
    u64::try_from(Amount::parse(&list?.get(name)?.0)?.units()).ok()
}

/// A `volumeMounts` entry as a mount; `source` is the path on the host.
pub(crate) fn volume_mount(mount: &VolumeMount, volume: &Volume, source: PathBuf) -> Mount {
    let read_only = mount.read_only.unwrap_or(false) || volume.read_only;
    Mount {
        read_only,
        recursive_read_only: read_only
            && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::None,
        },
        ..Mount::new(mount.mount_path.clone(), MountKind::Bind { source })
    }
}
