//! Capabilities: names, the default set, and what Kubernetes' add and drop make of it.

use crate::report::{LaunchError, Step};
use crate::spec::Capabilities;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Names in the order of their numbers, from linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless told otherwise: containerd's and Docker's list.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapSet(u64);

impl CapSet {
    /// What `wanted` amounts to. Adding `ALL` starts from everything, dropping `ALL` starts from nothing; then single
    /// names are added, then dropped. Names are looked at without regard to case.
    pub(crate) fn resolve(wanted: &Capabilities) -> Result<Self, LaunchError> {
        let all = Self((1 << NAMES.len()) - 1);
        if wanted.privileged {
            return Ok(all);
        }
        let has_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        let mut set = if has_all(&wanted.drop) {
            Self(0)
        } else if has_all(&wanted.add) {
            all
        } else {
            DEFAULT.iter().filter_map(|name| bit(name)).fold(Self(0), |set, bit| Self(set.0 | bit))
        };
        for name in named(&wanted.add) {
            set.0 |= known(name)?;
        }
        for name in named(&wanted.drop) {
            set.0 &= !known(name)?;
        }
        Ok(set)
    }

    /// Whether the capability of this name (upper case, without `CAP_`) is in it.
    pub(crate) fn has(self, name: &str) -> bool {
        bit(name).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Takes everything else out of the bounding set, for this process and what it becomes.
    pub(crate) fn limit_bounding(self) -> Result<(), LaunchError> {
        for number in 0..NAMES.len() {
            if self.0 & (1 << number) != 0 {
                continue;
            }
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                // A kernel older than the capability has none to take away.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(errno) => return Err(LaunchError::step("limit the capabilities", errno)),
            }
        }
        Ok(())
    }

    /// Makes these the effective and permitted capabilities and empties the inheritable and ambient ones. What is not
    /// in the bounding set of this very process (a kernel without it, a host that is itself a container) is left out.
    pub(crate) fn apply(self) -> Result<(), LaunchError> {
        let held = rustix::thread::capabilities(None).step(|| "read the capabilities")?;
        let set = CapabilitySet::from_bits_retain(self.0) & held.permitted;
        let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
        rustix::thread::clear_ambient_capability_set().step(|| "clear the ambient capabilities")?;
        rustix::thread::set_capabilities(None, sets).step(|| "set the capabilities")
    }
}

fn named(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| !name.eq_ignore_ascii_case("ALL"))
}

fn bit(name: &str) -> Option<u64> {
    NAMES.iter().position(|known| known.eq_ignore_ascii_case(name)).map(|number| 1 << number)
}

fn known(name: &str) -> Result<u64, LaunchError> {
    let bare =
        name.get(..4).filter(|prefix| prefix.eq_ignore_ascii_case("CAP_")).map_or(name, |_| &name[4..]);
    bit(bare).ok_or_else(|| LaunchError::invalid(format!("unknown capability {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<u64, LaunchError> {
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        CapSet::resolve(&Capabilities { privileged: false, add: strings(add), drop: strings(drop) })
            .map(|set| set.0)
    }

    #[test]
    fn add_and_drop_follow_containerd() {
        assert_eq!(set(&[], &[]).unwrap(), 0xa804_25fb, "Docker's well-known mask");
        assert_eq!(set(&[], &["ALL"]).unwrap(), 0);
        assert_eq!(set(&["NET_ADMIN"], &["all"]).unwrap(), 1 << 12);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).unwrap(), ((1 << 41) - 1) & !(1 << 21));
        assert_eq!(set(&["cap_sys_time"], &["CHOWN"]).unwrap(), (0xa804_25fb | 1 << 25) & !1);
        assert_eq!(set(&["ALL"], &["ALL"]).unwrap(), 0);
        assert!(set(&["NO_SUCH"], &[]).is_err());
    }
}
