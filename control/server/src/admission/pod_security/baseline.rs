//! The checks of the level `baseline`: what is known to break out of a container.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Container, Pod, Violation, named, plural, quoted, setters, violation};

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Kernel settings that concern the pod alone, and the minor version that allowed them.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SE_LINUX_TYPES: &[(&str, u32)] = &[
    ("", 0),
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Since then seccomp is a field.
const SECCOMP_FIELD: u32 = 19;
/// Since then pods with users of their own may have an unmasked `/proc`.
const OWN_USERS: u32 = 35;

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

/// The bad values of a field that pod and containers have, and who sets them.
pub(super) fn bad_values<'a>(
    pod: Pod<'a>,
    pointer: &str,
    good: impl Fn(&str) -> bool,
) -> Option<(String, BTreeSet<&'a str>)> {
    let at = |value: Option<&'a Value>| value.and_then(Value::as_str).filter(|value| !good(value));
    let of_pod = at(pod.get(pointer));
    let of_container = |container: Container<'a>| at(container.get(pointer));
    let who = setters(of_pod.is_some(), &pod.names(|c| of_container(c).is_some()))?;
    let values = of_pod.into_iter().chain(pod.containers().filter_map(of_container)).collect();
    Some((who, values))
}

pub(super) fn app_armor(pod: Pod<'_>, _: u32) -> Option<Violation> {
    let good = |profile: &str| matches!(profile, "RuntimeDefault" | "Localhost");
    let (mut who, mut values) = match bad_values(pod, "/securityContext/appArmorProfile/type", good) {
        Some((who, values)) => (vec![who], values.into_iter().map(str::to_owned).collect()),
        None => (Vec::new(), Vec::new()),
    };
    let allowed = |profile: &str| {
        profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/")
    };
    let annotations =
        pod.annotations().filter(|(name, value)| name.starts_with(APP_ARMOR) && !allowed(value));
    let annotations: BTreeSet<String> =
        annotations.map(|(name, value)| format!("{name}={value:?}")).collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail =
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), go_quoted(&values));
    violation(reason, detail)
}

/// Quoted as upstream's `%q` does, which escapes quotes within.
fn go_quoted(values: &[String]) -> String {
    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")
}

pub(super) fn capabilities(pod: Pod<'_>, _: u32) -> Option<Violation> {
    added(pod, CAPABILITIES).map(|detail| Violation { reason: "non-default capabilities".into(), detail })
}

/// The containers that add other capabilities than these, and which.
pub(super) fn added(pod: Pod<'_>, allowed: &[&str]) -> Option<String> {
    let bad = |container: Container<'_>| -> BTreeSet<String> {
        let all = container.list("/securityContext/capabilities/add").filter_map(Value::as_str);
        all.filter(|name| !allowed.contains(name)).map(str::to_owned).collect()
    };
    let names = pod.names(|container| !bad(container).is_empty());
    let all: BTreeSet<String> = pod.containers().flat_map(bad).collect();
    (!names.is_empty()).then(|| {
        format!("{} must not include {} in securityContext.capabilities.add", named(&names), quoted(&all))
    })
}

pub(super) fn host_namespaces(pod: Pod<'_>, _: u32) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let shared: Vec<String> = shared
        .filter(|field| is_true(pod.get(&format!("/{field}"))))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_paths(pod: Pod<'_>, _: u32) -> Option<Violation> {
    let bad = pod.list("/volumes").filter(|volume| volume.get("hostPath").is_some_and(Value::is_object));
    let names: Vec<&str> = bad.map(|volume| text(volume.get("name"))).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)))
}

pub(super) fn host_ports(pod: Pod<'_>, _: u32) -> Option<Violation> {
    let ports = |container: Container<'_>| -> Vec<u64> {
        let all = container.list("/ports").filter_map(|port| port.get("hostPort")?.as_u64());
        all.filter(|port| *port != 0).collect()
    };
    let names = pod.names(|container| !ports(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = pod.containers().flat_map(ports).map(|port| port.to_string()).collect();
    let detail = format!(
        "{} {} {} {}",
        named(&names),
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", all.len()),
        Vec::from_iter(all.iter().map(String::as_str)).join(", ")
    );
    violation(plural("hostPort", "hostPorts", all.len()), detail)
}

pub(super) fn probe_hosts(pod: Pod<'_>, _: u32) -> Option<Violation> {
    const HANDLERS: &[&str] =
        &["livenessProbe", "readinessProbe", "startupProbe", "lifecycle/postStart", "lifecycle/preStop"];
    fn hosts(container: Container<'_>) -> BTreeSet<&str> {
        let places =
            HANDLERS.iter().flat_map(|h| [format!("/{h}/httpGet/host"), format!("/{h}/tcpSocket/host")]);
        let hosts = places.map(|place| text(container.get(&place)));
        hosts.filter(|host| !host.is_empty()).collect()
    }
    let names: BTreeSet<&str> = pod.names(|container| !hosts(container).is_empty()).into_iter().collect();
    if names.is_empty() {
        return None;
    }
    let all: BTreeSet<&str> = pod.containers().flat_map(hosts).collect();
    let detail = format!(
        "{} {} {} {}",
        named(&Vec::from_iter(names.iter().copied())),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
        quoted(&all)
    );
    violation("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: Pod<'_>, _: u32) -> Option<Violation> {
    let names = pod.names(|container| is_true(container.get("/securityContext/privileged")));
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", named(&names)))
}

pub(super) fn proc_mount(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= OWN_USERS && pod.has_own_users() { None } else { masked(pod) }
}

/// Containers that do not have the usual `/proc`.
pub(super) fn masked(pod: Pod<'_>) -> Option<Violation> {
    let mount = "/securityContext/procMount";
    let (_, values) = bad_values(pod, mount, |value| value == "Default")?;
    let names = pod.names(|c| c.get(mount).is_some_and(|value| value != "Default"));
    let detail = format!("{} must not set securityContext.procMount to {}", named(&names), quoted(&values));
    violation("procMount", detail)
}

pub(super) fn se_linux(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    let types = |options: &Value| {
        let wanted = text(options.get("type")).to_owned();
        let allowed = SE_LINUX_TYPES.iter().any(|(name, since)| *name == wanted && *since <= minor);
        (!allowed).then_some(wanted)
    };
    let sets = |options: &Value, field: &str| !text(options.get(field)).is_empty();
    let bad = |options: Option<&Value>| {
        options.is_some_and(|o| types(o).is_some() || sets(o, "user") || sets(o, "role"))
    };
    let place = "/securityContext/seLinuxOptions";
    let who = setters(bad(pod.get(place)), &pod.names(|container| bad(container.get(place))))?;
    let all: Vec<&Value> =
        pod.get(place).into_iter().chain(pod.containers().filter_map(|c| c.get(place))).collect();
    let bad_types: BTreeSet<String> = all.iter().filter_map(|options| types(options)).collect();
    let mut what = Vec::new();
    if !bad_types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", bad_types.len()), quoted(&bad_types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| sets(options, field)) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    violation("seLinuxOptions", detail)
}

/// Whether a seccomp profile of this type filters at all.
pub(super) fn filters(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

pub(super) fn seccomp(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < SECCOMP_FIELD {
        return seccomp_annotations(pod);
    }
    unfiltered(pod)
}

/// Pods and containers whose seccomp profile does not filter.
pub(super) fn unfiltered(pod: Pod<'_>) -> Option<Violation> {
    let (who, values) = bad_values(pod, "/securityContext/seccompProfile/type", filters)?;
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values));
    violation("seccompProfile", detail)
}

fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let allowed = |profile: &str| {
        matches!(profile, "runtime/default" | "docker/default") || profile.starts_with("localhost/")
    };
    let concerned = |name: &str| {
        let of_container = |name: &str| pod.containers().any(|container| container.name() == name);
        name == SECCOMP_POD || name.strip_prefix(SECCOMP_CONTAINER).is_some_and(of_container)
    };
    let bad = pod.annotations().filter(|(name, value)| concerned(name) && !allowed(value));
    let bad: BTreeSet<String> = bad.map(|(name, value)| format!("{name}={value:?}")).collect();
    if bad.is_empty() {
        return None;
    }
    let list = Vec::from_iter(bad.iter().map(String::as_str)).join(", ");
    violation(
        "seccompProfile",
        format!("forbidden {} {list}", plural("annotation", "annotations", bad.len())),
    )
}

pub(super) fn sysctls(pod: Pod<'_>, minor: u32) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= minor);
    let all = pod.list("/securityContext/sysctls").map(|sysctl| text(sysctl.get("name")));
    let bad: Vec<&str> = all.filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn host_process(pod: Pod<'_>, _: u32) -> Option<Violation> {
    let place = "/securityContext/windowsOptions/hostProcess";
    let who = setters(is_true(pod.get(place)), &pod.names(|container| is_true(container.get(place))))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
