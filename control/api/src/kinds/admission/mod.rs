//! The kinds of admissionregistration.k8s.io.

mod matching;
mod mutating;
mod policy;
mod policy_binding;
mod webhook;

pub(super) use mutating::{BINDING as MUTATING_BINDING, POLICY as MUTATING_POLICY};
pub(super) use policy::RESOURCE as POLICY;
pub(super) use policy_binding::RESOURCE as POLICY_BINDING;
pub(super) use webhook::{MUTATING, VALIDATING, web_address};
