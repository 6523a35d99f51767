//! What is valid in a pod and most likely not meant.

mod containers;
mod volumes;

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, NodeAffinity, NodeSelectorTerm, PersistentVolumeClaimSpec,
    PodAffinityTerm, PodSpec, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{list, number};
use crate::addresses;
use crate::names;
use crate::status::FieldPath;

pub(crate) use volumes::OLD_PLUGINS;

/// What is said to the user.
pub(crate) type Warnings = Vec<String>;

/// Labels of nodes that have newer names: since when, and which.
const OLD_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "1.14", "kubernetes.io/os"),
    ("beta.kubernetes.io/instance-type", "1.17", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/region", "1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "1.17", "topology.kubernetes.io/zone"),
];

/// Annotations of pods that nothing reads any more, and the field to use.
const OLD_ANNOTATIONS: &[(&str, &str, &str)] = &[
    ("scheduler.alpha.kubernetes.io/critical-pod", "1.16", "priorityClassName"),
    ("security.alpha.kubernetes.io/sysctls", "1.11", "sysctls"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "1.11", "sysctls"),
];

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// A pod, or a template of one at the path `base`; a pod's is empty.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) annotations: Option<&'a BTreeMap<String, String>>,
    pub(crate) spec: &'a PodSpec,
    pub(crate) base: &'a FieldPath,
}

impl Subject<'_> {
    fn is_template(&self) -> bool {
        !self.base.as_str().is_empty()
    }

    fn has(&self, annotation: &str) -> bool {
        self.annotations.is_some_and(|all| all.contains_key(annotation))
    }

    fn annotation(&self, key: &str) -> FieldPath {
        self.base.child("metadata").child("annotations").key(key)
    }
}

/// Warnings about a pod or a template of one, in upstream's order.
pub(crate) fn pod_warnings(of: Subject<'_>, warnings: &mut Warnings) {
    let (spec, path) = (of.spec, of.base.child("spec"));
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(why) = old_label(key) {
            warnings.push(format!("{}: {why}", path.child("nodeSelector").key(key)));
        }
    }
    let affinity = path.child("affinity");
    if let Some(nodes) = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()) {
        node_affinity(nodes, &affinity.child("nodeAffinity"), warnings);
    }
    for (index, spread) in list(&spec.topology_spread_constraints).iter().enumerate() {
        let at = path.child("topologySpreadConstraints").index(index);
        if let Some(why) = old_label(&spread.topology_key) {
            warnings.push(format!("{}: {} is {why}", at.child("topologyKey"), spread.topology_key));
        }
        if spread.label_selector.is_none() {
            warnings.push(format!("{}: {NO_SELECTOR}", at.child("labelSelector")));
        }
    }
    for (key, since, field) in OLD_ANNOTATIONS.iter().filter(|(key, ..)| of.has(key)) {
        let at = of.annotation(key);
        warnings.push(format!("{at}: non-functional in v{since}+; use the \"{field}\" field instead"));
    }
    volumes::all(list(&spec.volumes), &path.child("volumes"), warnings);
    names_twice(spec, &path, warnings);
    for name in ["memory", "ephemeral-storage"] {
        let amount = spec.overhead.as_ref().and_then(|overhead| overhead.get(name));
        fractional(amount, &path.child("overhead").key(name), warnings);
    }
    containers::all(of, &path, warnings);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let at = path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    if let Some(wanted) = &spec.affinity {
        pod_affinity(wanted, &affinity, warnings);
    }
}

fn old_label(key: &str) -> Option<String> {
    let (_, since, new) = OLD_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since v{since}; use \"{new}\" instead"))
}

/// Terms that ask for nodes by old labels.
pub(crate) fn node_terms(terms: &[NodeSelectorTerm], path: &FieldPath, warnings: &mut Warnings) {
    for (index, term) in terms.iter().enumerate() {
        node_term(term, &path.index(index), warnings);
    }
}

fn node_term(term: &NodeSelectorTerm, path: &FieldPath, warnings: &mut Warnings) {
    let all = path.child("matchExpressions");
    for (index, expression) in list(&term.match_expressions).iter().enumerate() {
        if let Some(why) = old_label(&expression.key) {
            warnings.push(format!("{}: {} is {why}", all.index(index).child("key"), expression.key));
        }
    }
}

fn node_affinity(nodes: &NodeAffinity, path: &FieldPath, warnings: &mut Warnings) {
    if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
        let at = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        node_terms(&required.node_selector_terms, &at, warnings);
    }
    let preferred = list(&nodes.preferred_during_scheduling_ignored_during_execution);
    let at = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, term) in preferred.iter().enumerate() {
        node_term(&term.preference, &at.index(index).child("preference"), warnings);
    }
}

fn pod_affinity(affinity: &Affinity, path: &FieldPath, warnings: &mut Warnings) {
    type Terms<'a> = (&'a Option<Vec<PodAffinityTerm>>, &'a Option<Vec<WeightedPodAffinityTerm>>);
    let mut both = |(required, preferred): Terms<'_>, path: &FieldPath| {
        let at = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, _) in list(required).iter().enumerate().filter(|(_, term)| term.label_selector.is_none())
        {
            warnings.push(format!("{}: {NO_SELECTOR}", at.index(index).child("labelSelector")));
        }
        let at = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in list(preferred).iter().enumerate() {
            if term.pod_affinity_term.label_selector.is_none() {
                let at = at.index(index).child("podAffinityTerm").child("labelSelector");
                warnings.push(format!("{at}: {NO_SELECTOR}"));
            }
        }
    };
    if let Some(of) = &affinity.pod_affinity {
        let terms = (
            &of.required_during_scheduling_ignored_during_execution,
            &of.preferred_during_scheduling_ignored_during_execution,
        );
        both(terms, &path.child("podAffinity"));
    }
    if let Some(of) = &affinity.pod_anti_affinity {
        let terms = (
            &of.required_during_scheduling_ignored_during_execution,
            &of.preferred_during_scheduling_ignored_during_execution,
        );
        both(terms, &path.child("podAntiAffinity"));
    }
}

/// Addresses, and entries of lists that merge by a name which is there twice.
fn names_twice(spec: &PodSpec, path: &FieldPath, warnings: &mut Warnings) {
    let servers = spec.dns_config.as_ref().map_or(&[][..], |config| list(&config.nameservers));
    for (index, server) in servers.iter().enumerate() {
        address(server, &path.child("dnsConfig").child("nameservers").index(index), warnings);
    }
    let mut seen = HashSet::new();
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        if !seen.insert(alias.ip.as_str()) {
            let at = path.child("hostAliases").index(index).child("ip");
            warnings.push(format!("{at}: duplicate ip {:?}", alias.ip));
        }
        // Paths are made only where there is something to say of.
        if addresses::address_advice(&alias.ip, "").is_some() {
            address(&alias.ip, &path.child("hostAliases").index(index).child("ip"), warnings);
        }
    }
    let (secrets, all) = (list(&spec.image_pull_secrets), path.child("imagePullSecrets"));
    let mut seen = HashSet::new();
    for (index, LocalObjectReference { name }) in secrets.iter().enumerate() {
        if !seen.insert(name.as_str()) {
            warnings.push(format!("{}: duplicate name {name:?}", all.index(index).child("name")));
        }
    }
    for (index, _) in secrets.iter().enumerate().filter(|(_, secret)| secret.name.is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", all.index(index).child("name")));
    }
}

/// An amount of bytes that is not whole.
pub(crate) fn fractional(amount: Option<&Quantity>, at: &FieldPath, warnings: &mut Warnings) {
    if let Some(amount) = amount.filter(|amount| !number(amount).is_whole()) {
        warnings.push(format!("{at}: fractional byte value {:?} is invalid, must be an integer", amount.0));
    }
}

/// What a claim asks for in parts of bytes.
pub(crate) fn claim_warnings(spec: &PersistentVolumeClaimSpec, path: &FieldPath, warnings: &mut Warnings) {
    let Some(resources) = &spec.resources else { return };
    for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        let at = path.child("resources").child(field).key("storage");
        fractional(amounts.as_ref().and_then(|amounts| amounts.get("storage")), &at, warnings);
    }
}

/// A name that pods' host names are made of.
pub(crate) fn host_name(name: &str, what: &str, warnings: &mut Warnings) {
    let wrong = names::dns1123_label(name);
    if !wrong.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

/// An address that is written in another way than programs write it.
pub(crate) fn address(text: &str, at: &FieldPath, warnings: &mut Warnings) {
    warnings.extend(addresses::address_advice(text, at.as_str()));
}

/// A range that is written in another way than programs write it.
pub(crate) fn range(text: &str, at: &FieldPath, warnings: &mut Warnings) {
    warnings.extend(addresses::range_advice(text, at.as_str()));
}
