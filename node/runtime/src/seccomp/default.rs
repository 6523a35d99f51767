//! The default profile: what containerd and Docker allow containers, as a table of what they do not.

use super::{Filters, Rules, compile, names};
use crate::caps::CapSet;
use crate::report::LaunchError;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// Calls that need one of some capabilities (any of them; none listed: never allowed).
const RESTRICTED: &[(&[&str], &[&str])] = &[
    (
        &["SYS_ADMIN"],
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount2",
            "unshare",
        ],
    ),
    (&["SYS_ADMIN", "BPF"], &["bpf"]),
    (&["SYS_ADMIN", "PERFMON"], &["perf_event_open"]),
    (&["SYS_ADMIN", "SYSLOG"], &["syslog"]),
    (&["SYS_ADMIN", "DAC_READ_SEARCH"], &["name_to_handle_at"]),
    (&["DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (&["SYS_BOOT"], &["reboot"]),
    (&["SYS_CHROOT"], &["chroot"]),
    (&["SYS_MODULE"], &["delete_module", "finit_module", "init_module"]),
    (&["SYS_NICE"], &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (&["SYS_PACCT"], &["acct"]),
    (&["SYS_PTRACE"], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&["SYS_RAWIO"], &["ioperm", "iopl"]),
    (&["SYS_TIME"], &["clock_settime", "settimeofday"]),
    (&["SYS_TTY_CONFIG"], &["vhangup"]),
    (
        &[],
        &[
            // Not kept apart by namespaces: keys, kernels, swap, other processes' memory placement.
            "add_key",
            "keyctl",
            "request_key",
            "kexec_file_load",
            "kexec_load",
            "migrate_pages",
            "move_pages",
            "pivot_root",
            "swapoff",
            "swapon",
            // A large and much attacked surface that filters cannot see into.
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "userfaultfd",
            // Obsolete, or never implemented.
            "_sysctl",
            "afs_syscall",
            "getpmsg",
            "nfsservctl",
            "putpmsg",
            "security",
            "sysfs",
            "tuxcall",
            "uselib",
            "ustat",
            "vserver",
        ],
    ),
];

/// `clone` flags that make namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// `personality` values allowed: Linux, Linux 32-bit, their UNAME26 variants, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filters for a container of these capabilities.
pub(super) fn filters(capabilities: CapSet) -> Result<Filters, LaunchError> {
    let denied = |name: &str| {
        RESTRICTED
            .iter()
            .filter(|(_, calls)| calls.contains(&name))
            .any(|(needed, _)| !needed.iter().any(|capability| capabilities.has(capability)))
    };
    let mut rules = Rules::new();
    for (name, number) in names::all().filter(|(name, _)| !denied(name)) {
        rules.insert(number, conditions(name, capabilities)?);
    }
    let eperm = SeccompAction::Errno(libc::EPERM as u32);
    let mut programs = vec![compile(rules, eperm, SeccompAction::Allow)?];
    if !capabilities.has("SYS_ADMIN") {
        // Its flags are in memory, out of a filter's sight. ENOSYS makes C libraries fall back to clone.
        let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
        programs.push(compile(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?);
    }
    Ok(Filters(programs))
}

/// What arguments an allowed call may have; empty for any.
fn conditions(name: &str, capabilities: CapSet) -> Result<Vec<SeccompRule>, LaunchError> {
    match name {
        "clone" if !capabilities.has("SYS_ADMIN") => {
            Ok(vec![argument_zero(SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(NAMESPACES), 0)?])
        }
        "personality" => PERSONALITIES
            .iter()
            .map(|value| argument_zero(SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value))
            .collect(),
        // Virtual machine sockets know no network namespaces.
        "socket" => {
            Ok(vec![argument_zero(SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_VSOCK as u64)?])
        }
        _ => Ok(Vec::new()),
    }
}

fn argument_zero(length: SeccompCmpArgLen, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, LaunchError> {
    let invalid = |error| LaunchError::invalid(format!("cannot build the seccomp filter: {error}"));
    let condition = SeccompCondition::new(0, length, op, value).map_err(invalid)?;
    SeccompRule::new(vec![condition]).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Capabilities;

    #[test]
    fn every_restricted_call_is_known() {
        for name in RESTRICTED.iter().flat_map(|(_, calls)| *calls) {
            assert!(names::number(name).is_some(), "{name} is not in the table of names");
        }
    }

    #[test]
    fn fits_the_kernel_limit_for_any_capabilities() {
        for privileged in [false, true] {
            let set = CapSet::resolve(&Capabilities { privileged, ..Capabilities::default() }).unwrap();
            for program in filters(set).unwrap().0 {
                assert!(program.len() <= 4096, "{} instructions", program.len());
            }
        }
    }
}
