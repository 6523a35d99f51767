//! The table of checks, which of them a standard has, and what they share.

use serde_json::Value;

use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};

/// Why a check does not let a pod pass: what it is, and in which places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// A few words.
    pub(super) reason: String,
    /// The places and values.
    pub(super) detail: String,
}

/// A pod's metadata and spec; of a workload, those of its template.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

/// Looks at a pod as of a minor version.
type Look = fn(Pod<'_>, u32) -> Option<Violation>;

/// One check.
struct Check {
    id: &'static str,
    level: Level,
    /// The first minor version that has it.
    since: u32,
    /// The check of the level below that this one makes needless.
    instead_of: &'static str,
    look: Look,
}

const fn base(id: &'static str, since: u32, look: Look) -> Check {
    Check { id, level: Level::Baseline, since, instead_of: "", look }
}

const fn strict(id: &'static str, since: u32, instead_of: &'static str, look: Look) -> Check {
    Check { id, level: Level::Restricted, since, instead_of, look }
}

/// Every check, in the order in which violations are named.
const CHECKS: &[Check] = &[
    base("appArmorProfile", 0, baseline::app_armor),
    base("capabilities_baseline", 0, baseline::capabilities),
    base("hostNamespaces", 0, baseline::host_namespaces),
    base("hostPathVolumes", 0, baseline::host_paths),
    base("hostPorts", 0, baseline::host_ports),
    base("hostProbesAndHostLifecycle", 34, baseline::probe_hosts),
    base("privileged", 0, baseline::privileged),
    base("procMount", 0, baseline::proc_mount),
    base("seLinuxOptions", 0, baseline::se_linux),
    base("seccompProfile_baseline", 0, baseline::seccomp),
    base("sysctls", 0, baseline::sysctls),
    base("windowsHostProcess", 0, baseline::host_process),
    strict("allowPrivilegeEscalation", 8, "", restricted::escalation),
    strict("capabilities_restricted", 22, "capabilities_baseline", restricted::capabilities),
    strict("procMount_restricted", 35, "procMount", restricted::proc_mount),
    strict("restrictedVolumes", 0, "hostPathVolumes", restricted::volumes),
    strict("runAsNonRoot", 0, "", restricted::non_root),
    strict("runAsUser", 23, "", restricted::user),
    strict("seccompProfile_restricted", 19, "seccompProfile_baseline", restricted::seccomp),
];

/// What the pod violates of the standard.
pub(super) fn evaluate(standard: Standard, pod: Pod<'_>) -> Vec<Violation> {
    let minor = match standard.version {
        Version::Minor(minor) => minor,
        Version::Latest => u32::MAX,
    };
    let applies = |check: &&Check| check.level <= standard.level && check.since <= minor;
    let replaced =
        |id: &str| CHECKS.iter().filter(applies).any(|check| !id.is_empty() && check.instead_of == id);
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let checks = CHECKS.iter().filter(applies).filter(|check| !replaced(check.id));
    checks.filter_map(|check| (check.look)(pod, minor)).collect()
}

/// All reasons.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// All reasons with their details.
pub(super) fn details(violations: &[Violation]) -> String {
    let one = |v: &Violation| {
        if v.detail.is_empty() { v.reason.clone() } else { format!("{} ({})", v.reason, v.detail) }
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

impl<'a> Pod<'a> {
    /// A value of the spec.
    pub(super) fn get(self, pointer: &str) -> Option<&'a Value> {
        self.spec.pointer(pointer).filter(|value| !value.is_null())
    }

    /// A list of the spec.
    pub(super) fn list(self, pointer: &str) -> impl Iterator<Item = &'a Value> {
        self.get(pointer).and_then(Value::as_array).into_iter().flatten()
    }

    /// Every container, those for debugging included.
    pub(super) fn containers(self) -> impl Iterator<Item = Container<'a>> {
        let lists = ["/initContainers", "/containers", "/ephemeralContainers"];
        lists.into_iter().flat_map(move |list| self.list(list)).map(Container)
    }

    /// The names of the containers of which `bad` holds, in order.
    pub(super) fn names(self, bad: impl Fn(Container<'a>) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| bad(*container)).map(Container::name).collect()
    }

    /// Annotations by name.
    pub(super) fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.metadata.get("annotations").and_then(Value::as_object).into_iter().flatten();
        all.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    pub(super) fn is_windows(self) -> bool {
        self.get("/os/name").and_then(Value::as_str) == Some("windows")
    }

    /// Whether its users are none of the host's.
    pub(super) fn has_own_users(self) -> bool {
        self.get("/hostUsers") == Some(&Value::Bool(false))
    }
}

/// A container.
#[derive(Clone, Copy)]
pub(super) struct Container<'a>(&'a Value);

impl<'a> Container<'a> {
    pub(super) fn name(self) -> &'a str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn get(self, pointer: &str) -> Option<&'a Value> {
        self.0.pointer(pointer).filter(|value| !value.is_null())
    }

    pub(super) fn list(self, pointer: &str) -> impl Iterator<Item = &'a Value> {
        self.get(pointer).and_then(Value::as_array).into_iter().flatten()
    }
}

/// `"a", "b"`.
pub(super) fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| format!("\"{}\"", text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The word, or its plural.
pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who sets something: the pod, containers, or both.
pub(super) fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let mut who = Vec::new();
    if pod {
        who.push("pod".to_owned());
    }
    if !containers.is_empty() {
        who.push(named(containers));
    }
    (!who.is_empty()).then(|| who.join(" and "))
}
