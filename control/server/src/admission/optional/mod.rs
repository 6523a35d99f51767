//! Plugins that are off unless `--enable-admission-plugins` names them, as upstream has it; one or a few small ones a
//! file. PodTopologyLabels alone is on.

mod containers;
mod event_rate;
mod node_selector;
mod owners;
mod simple;
#[cfg(test)]
mod tests;
mod tolerations;
mod topology;

pub(crate) use containers::{AlwaysPullImages, ExtendedResourceToleration, LimitPodHardAntiAffinityTopology};
pub(crate) use event_rate::{EventRateLimit, Limits};
pub(crate) use node_selector::{NodeSelectors, PodNodeSelector};
pub(crate) use owners::OwnerReferencesPermissionEnforcement;
pub(crate) use simple::{AlwaysAdmit, AlwaysDeny, DenyServiceExternalIPs, NamespaceExists};
pub(crate) use tolerations::{PodTolerationRestriction, TolerationLists};
pub(crate) use topology::LABELS;
pub(crate) use topology::PodTopologyLabels;

/// Refuses a configuration whose `apiVersion` and `kind` are not the `expected` ones; the error says which they are.
fn check_form(expected: (&str, &str), found: (&str, &str)) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("expected {} of {}, found {:?} of {:?}", expected.1, expected.0, found.1, found.0))
}
