//! Profiles in files: the `linux.seccomp` object of the OCI runtime specification, as Kubernetes' `Localhost` has it.

use super::{Filters, Rules, compile, names};
use crate::report::{LaunchError, Step};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use std::io::Read;
use std::path::Path;

/// Largest profile that is read.
const MAX_FILE: u64 = 1 << 20;

/// The filters of the profile in `file`.
pub(super) fn filters(file: &Path) -> Result<Filters, LaunchError> {
    let name = || format!("read the seccomp profile {}", file.display());
    let mut text = Vec::new();
    std::fs::File::open(file).step(name)?.take(MAX_FILE).read_to_end(&mut text).step(name)?;
    let profile: LinuxSeccomp = serde_json::from_slice(&text)
        .map_err(|error| LaunchError::invalid(format!("seccomp profile {}: {error}", file.display())))?;
    translate(&profile)
        .map_err(|error| LaunchError::invalid(format!("seccomp profile {}: {error}", file.display())))
}

/// One program for each action but allowing, which answers that action or nothing; and one that lets through whatever
/// is named at all, and answers the default action otherwise. The strictest answer wins, so that together they do what
/// the profile says as long as it names no call twice with actions where the laxer one is meant.
fn translate(profile: &LinuxSeccomp) -> Result<Filters, LaunchError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut named = Rules::new();
    let mut by_action: Vec<(SeccompAction, Rules)> = Vec::new();
    for group in profile.syscalls().iter().flatten() {
        let wanted = action(group.action(), group.errno_ret())?;
        let rule = rule(group.args().as_deref().unwrap_or_default())?;
        // Names of other architectures or newer kernels are passed over, as every runtime does.
        for number in group.names().iter().filter_map(|name| names::number(name)) {
            insert(&mut named, number, rule.as_ref());
            if wanted != SeccompAction::Allow && wanted != default {
                let position =
                    by_action.iter().position(|(known, _)| *known == wanted).unwrap_or_else(|| {
                        by_action.push((wanted.clone(), Rules::new()));
                        by_action.len() - 1
                    });
                insert(&mut by_action[position].1, number, rule.as_ref());
            } else if wanted == default && wanted != SeccompAction::Allow {
                named.remove(&number);
            }
        }
    }
    let mut programs = Vec::new();
    if default != SeccompAction::Allow {
        programs.push(compile(named, default, SeccompAction::Allow)?);
    }
    for (action, rules) in by_action {
        programs.push(compile(rules, SeccompAction::Allow, action)?);
    }
    Ok(Filters(programs))
}

/// Adds a rule; an unconditional one swallows the others.
fn insert(rules: &mut Rules, number: i64, rule: Option<&SeccompRule>) {
    match (rules.get_mut(&number), rule) {
        (Some(known), Some(rule)) if !known.is_empty() => known.push(rule.clone()),
        (Some(_), Some(_)) => {}
        (_, None) => {
            rules.insert(number, Vec::new());
        }
        (None, Some(rule)) => {
            rules.insert(number, vec![rule.clone()]);
        }
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<SeccompAction, LaunchError> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(errno),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        LinuxSeccompAction::ScmpActTrace => SeccompAction::Trace(errno),
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(LaunchError::invalid("SCMP_ACT_NOTIFY is not supported"));
        }
    })
}

/// All arguments' conditions together; `None` when there are none.
fn rule(args: &[LinuxSeccompArg]) -> Result<Option<SeccompRule>, LaunchError> {
    if args.is_empty() {
        return Ok(None);
    }
    let invalid = |error| LaunchError::invalid(format!("{error}"));
    let conditions: Result<Vec<_>, _> = args
        .iter()
        .map(|arg| {
            let (op, value) = match arg.op() {
                LinuxSeccompOperator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value()),
                LinuxSeccompOperator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value()),
                LinuxSeccompOperator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value()),
                LinuxSeccompOperator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value()),
                LinuxSeccompOperator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value()),
                LinuxSeccompOperator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value()),
                // Here the first value is the mask and the second is what it must leave.
                LinuxSeccompOperator::ScmpCmpMaskedEq => {
                    (SeccompCmpOp::MaskedEq(arg.value()), arg.value_two().unwrap_or(0))
                }
            };
            let index = u8::try_from(arg.index()).unwrap_or(u8::MAX);
            SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).map_err(invalid)
        })
        .collect();
    SeccompRule::new(conditions?).map(Some).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(json: &str) -> Result<usize, LaunchError> {
        translate(&serde_json::from_str(json).unwrap()).map(|filters| filters.0.len())
    }

    #[test]
    fn one_program_for_each_action() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["read","write","no_such_call"],"action":"SCMP_ACT_ALLOW"},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
            {"names":["mount"],"action":"SCMP_ACT_LOG"},
            {"names":["umount2"],"action":"SCMP_ACT_LOG"}]}"#;
        assert_eq!(programs(json).unwrap(), 2);
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
        assert_eq!(programs(json).unwrap(), 1);
        assert_eq!(programs(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap(), 0);
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        assert!(programs(json).unwrap_err().message.contains("NOTIFY"));
    }
}
