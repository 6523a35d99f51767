//! Limits: Kubernetes' units, the kernel's units, and the files they are written to.

use crate::Mode;

/// Length of the period of a CPU quota, microseconds. Kubernetes' default.
const PERIOD_US: u64 = 100_000;
/// Smallest quota the kernel takes, microseconds.
const MIN_QUOTA_US: u64 = 1_000;
/// Bounds of version 1 shares.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// Which devices a control group may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DevicePolicy {
    /// What the parent may. For pods and QoS classes.
    #[default]
    Inherit,
    /// The usual list for an unprivileged container. It stays once it is set.
    Container,
    /// Everything the parent may, said explicitly. For privileged containers.
    All,
}

/// Limits of a control group, in Kubernetes' units. What is absent is left alone, or unlimited in a new group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU request in thousandths of a core: becomes a weight. 0 is the least weight there is.
    pub cpu_millis_request: Option<u64>,
    /// CPU limit in thousandths of a core: becomes a quota of each 100 ms. 0 is no limit.
    pub cpu_millis_limit: Option<u64>,
    /// Memory limit in bytes; no swap beyond it. 0 is no limit.
    pub memory_limit: Option<u64>,
    /// Memory request in bytes: what reclaim spares as long as it can (`memory.low`; version 1
    /// has nothing of the kind that is not about to be removed).
    pub memory_request: Option<u64>,
    /// Most processes and threads. 0 is no limit.
    pub pids_limit: Option<u64>,
    /// Devices.
    pub device_policy: DevicePolicy,
    /// On out-of-memory kill all processes of the group (version 2 only). For containers, not for pods.
    pub oom_group: bool,
}

/// CPU shares of version 1 for a request: 1024 for each core.
pub(crate) fn shares(millis: u64) -> u64 {
    (millis.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Weight of version 2 for a request: Kubernetes' linear map of shares [2, 262144] onto [1, 10000].
pub(crate) fn weight(millis: u64) -> u64 {
    1 + (shares(millis) - MIN_SHARES) * 9999 / (MAX_SHARES - MIN_SHARES)
}

/// Quota for a limit, microseconds of each period; `None` for no limit.
pub(crate) fn quota_us(millis: u64) -> Option<u64> {
    (millis > 0).then(|| (millis.saturating_mul(PERIOD_US) / 1000).max(MIN_QUOTA_US))
}

/// A value for a file of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Version 1 controller; empty in version 2.
    pub(crate) controller: &'static str,
    pub(crate) file: &'static str,
    pub(crate) value: String,
    /// Not every kernel has it (swap accounting, for one): passed over when the file is missing.
    pub(crate) optional: bool,
}

/// What to write for `limits`, in order.
pub(crate) fn settings(mode: Mode, limits: &Limits) -> Vec<Setting> {
    match mode {
        Mode::V2 => v2(limits),
        Mode::Hybrid => v1(limits),
    }
}

fn set(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { controller, file, value: value.to_string(), optional: false }
}

fn optional(setting: Setting) -> Setting {
    Setting { optional: true, ..setting }
}

fn or_max(value: u64) -> String {
    if value == 0 { "max".into() } else { value.to_string() }
}

fn v2(limits: &Limits) -> Vec<Setting> {
    let mut out = Vec::new();
    out.extend(limits.cpu_millis_request.map(|millis| set("", "cpu.weight", weight(millis))));
    out.extend(limits.cpu_millis_limit.map(|millis| {
        let quota = quota_us(millis).map_or_else(|| "max".into(), |quota| quota.to_string());
        set("", "cpu.max", format!("{quota} {PERIOD_US}"))
    }));
    out.extend(limits.memory_request.map(|bytes| set("", "memory.low", bytes)));
    if let Some(bytes) = limits.memory_limit {
        out.push(set("", "memory.max", or_max(bytes)));
        out.push(optional(set("", "memory.swap.max", if bytes == 0 { "max" } else { "0" })));
    }
    if limits.oom_group {
        out.push(set("", "memory.oom.group", 1));
    }
    out.extend(limits.pids_limit.map(|count| set("", "pids.max", or_max(count))));
    out
}

fn v1(limits: &Limits) -> Vec<Setting> {
    let mut out = Vec::new();
    out.extend(limits.cpu_millis_request.map(|millis| set("cpu", "cpu.shares", shares(millis))));
    if let Some(millis) = limits.cpu_millis_limit {
        out.push(set("cpu", "cpu.cfs_period_us", PERIOD_US));
        out.push(set(
            "cpu",
            "cpu.cfs_quota_us",
            quota_us(millis).map_or_else(|| "-1".into(), |quota| quota.to_string()),
        ));
    }
    if let Some(bytes) = limits.memory_limit {
        let value = if bytes == 0 { "-1".into() } else { bytes.to_string() };
        out.push(set("memory", "memory.limit_in_bytes", &value));
        // Memory and swap together: no more than memory alone.
        out.push(optional(set("memory", "memory.memsw.limit_in_bytes", &value)));
    }
    out.extend(limits.pids_limit.map(|count| set("pids", "pids.max", or_max(count))));
    match limits.device_policy {
        DevicePolicy::Inherit => {}
        DevicePolicy::All => out.push(optional(set("devices", "devices.allow", "a"))),
        DevicePolicy::Container => {
            out.push(optional(set("devices", "devices.deny", "a")));
            out.extend(carrack_runtime::device_access::CONTAINER_DEVICES.iter().map(|rule| {
                let number =
                    |number: Option<u32>| number.map_or_else(|| "*".into(), |number| number.to_string());
                let class = if rule.block { 'b' } else { 'c' };
                let access = if rule.mknod_only { "m" } else { "rwm" };
                let value = format!("{class} {}:{} {access}", number(rule.major), number(rule.minor));
                optional(set("devices", "devices.allow", value))
            }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_kubernetes_ones() {
        assert_eq!([0, 1, 100, 1000, 2500].map(shares), [2, 2, 102, 1024, 2560]);
        assert_eq!(shares(u64::MAX), MAX_SHARES);
        assert_eq!([0, 100, 1000, 256_000].map(weight), [1, 4, 39, 10_000]);
        assert_eq!(
            [0, 1, 5, 500, 2000].map(quota_us),
            [None, Some(1000), Some(1000), Some(50_000), Some(200_000)]
        );
    }

    #[test]
    fn files_of_both_versions() {
        let limits = Limits {
            cpu_millis_request: Some(500),
            cpu_millis_limit: Some(1000),
            memory_limit: Some(1 << 20),
            pids_limit: Some(0),
            oom_group: true,
            ..Limits::default()
        };
        let lines = |mode| -> Vec<String> {
            settings(mode, &limits).iter().map(|s| format!("{} {}", s.file, s.value)).collect()
        };
        assert_eq!(
            lines(Mode::V2),
            [
                "cpu.weight 20",
                "cpu.max 100000 100000",
                "memory.max 1048576",
                "memory.swap.max 0",
                "memory.oom.group 1",
                "pids.max max"
            ]
        );
        assert_eq!(
            lines(Mode::Hybrid),
            [
                "cpu.shares 512",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 100000",
                "memory.limit_in_bytes 1048576",
                "memory.memsw.limit_in_bytes 1048576",
                "pids.max max"
            ]
        );
    }

    #[test]
    fn device_rules_of_version_1() {
        let limits = Limits { device_policy: DevicePolicy::Container, ..Limits::default() };
        let values: Vec<_> = settings(Mode::Hybrid, &limits).into_iter().map(|s| s.value).collect();
        assert_eq!(values[..4], ["a", "c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert!(settings(Mode::V2, &limits).is_empty(), "version 2 uses a program instead");
    }
}
