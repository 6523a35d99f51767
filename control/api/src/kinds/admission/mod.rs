//! The kinds of admissionregistration.k8s.io.

mod matching;
mod policy;
mod policy_binding;
mod webhook;

pub(super) use policy::RESOURCE as POLICY;
pub(super) use policy_binding::RESOURCE as POLICY_BINDING;
pub(super) use webhook::{MUTATING, VALIDATING, web_address};
