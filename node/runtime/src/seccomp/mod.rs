//! System call filters: chosen, translated to BPF, installed.

mod default;
mod localhost;
mod names;

use crate::caps::CapSet;
use crate::report::{LaunchError, Step};
use crate::spec::Seccomp;
use crate::sys::{self, BpfInstruction};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};
use std::collections::BTreeMap;

/// Rules by system call number; an empty list matches every call of that number.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters to be installed in this order. The kernel runs all and takes the strictest answer.
#[derive(Debug)]
pub(crate) struct Filters(Vec<Vec<BpfInstruction>>);

impl Filters {
    /// Translates the profile that `seccomp` names. The default one depends on the container's capabilities.
    pub(crate) fn build(seccomp: &Seccomp, capabilities: CapSet) -> Result<Self, LaunchError> {
        match seccomp {
            Seccomp::Unconfined => Ok(Self(Vec::new())),
            Seccomp::RuntimeDefault => default::filters(capabilities),
            Seccomp::Localhost(file) => localhost::filters(file),
        }
    }

    /// Installs them on this process.
    pub(crate) fn install(&self) -> Result<(), LaunchError> {
        self.0
            .iter()
            .try_for_each(|program| sys::seccomp_filter(program))
            .step(|| "install the seccomp filter")
    }
}

/// One program that answers `matched` for calls that match the rules and `otherwise` for all others.
///
/// seccompiler puts a check of the architecture before it that kills: calls of the 32-bit ABI end the process.
fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<Vec<BpfInstruction>, LaunchError> {
    let failed = |error: &dyn std::fmt::Display| {
        LaunchError::invalid(format!("cannot build the seccomp filter: {error}"))
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(|error| failed(&error))?;
    let program = BpfProgram::try_from(filter).map_err(|error| failed(&error))?;
    Ok(program.into_iter().map(|i| BpfInstruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect())
}
