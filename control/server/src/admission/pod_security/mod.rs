//! PodSecurity: pods keep to the standard that their namespace's labels ask for; who makes workloads is warned.
//!
//! The standards are upstream's "Pod Security Standards", each check as of the version that a label names.

mod baseline;
mod checks;
mod config;
mod policy;
mod restricted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_api::{FieldError, meta, status};
use serde_json::Value;

pub use config::PodSecurityConfig;
pub use policy::{Level, Policy, Standard, Version};

use super::display_name;
use crate::audit;
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Attributes, Operation};
use checks::{Pod, details, evaluate, reasons};

/// Pods that a change of a namespace's labels looks at, and how long it may look; upstream's figures.
const MOST_PODS: usize = 3000;
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Subresources of pods that do not change what a pod may do.
const IGNORED: &[&str] = &["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"];

/// Kinds that make pods, and where they hold the template.
const WORKLOADS: &[(&str, &str, &str)] = &[
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("batch", "jobs", "/spec/template"),
];

/// The plugin.
pub struct PodSecurity {
    objects: Arc<dyn Objects>,
    config: PodSecurityConfig,
}

impl PodSecurity {
    /// Looks namespaces and pods up in `objects`.
    pub fn new(objects: Arc<dyn Objects>, config: PodSecurityConfig) -> Self {
        Self { objects, config }
    }

    /// The policy of the namespace that the request is in, and what is wrong with its labels.
    async fn policy(&self, namespace: &str) -> Result<(Policy, Vec<FieldError>), ApiError> {
        let found = self.objects.get("", "namespaces", "", namespace).await?;
        let found =
            found.ok_or_else(|| ApiError::internal(format!("failed to lookup namespace {namespace:?}")))?;
        Ok(Policy::of(&found, self.config.defaults))
    }

    /// The policy that a pod or workload is judged by; `None` where nothing judges it.
    async fn applicable(
        &self,
        what: &Attributes,
        enforce: bool,
    ) -> Result<Option<(Policy, Vec<FieldError>)>, ApiError> {
        if let Some(why) = self.config.exempts_request(&what.namespace, &what.user.name) {
            note("exempt", why);
            return Ok(None);
        }
        let (policy, errors) = self.policy(&what.namespace).await?;
        if errors.is_empty() && policy.is_privileged(enforce) {
            if enforce {
                note("enforce-policy", &Standard::default().to_string());
            }
            return Ok(None);
        }
        Ok(Some((policy, errors)))
    }

    /// A pod, or the template of a workload, which is only warned of.
    async fn judge(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        template: &Value,
        enforce: bool,
    ) -> Result<Vec<String>, ApiError> {
        let Some((policy, errors)) = self.applicable(request.attributes, enforce).await? else {
            return Ok(Vec::new());
        };
        if enforce && request.old.is_some_and(|old| !is_significant(object, old)) {
            return Ok(Vec::new());
        }
        let (Some(metadata), Some(spec)) =
            (template.get("metadata").or(Some(&Value::Null)), template.get("spec"))
        else {
            return Ok(Vec::new());
        };
        if self.config.exempts_runtime(spec) {
            note("exempt", "runtimeClass");
            return Ok(Vec::new());
        }
        if !errors.is_empty() {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = if errors.len() == 1 { errors.concat() } else { format!("[{}]", errors.join(", ")) };
            note("error", &format!("Failed to parse policy: {all}"));
        }
        let pod = Pod { metadata, spec };
        let audited = evaluate(policy.audit, pod);
        if !audited.is_empty() {
            let why = format!("would violate PodSecurity \"{}\": {}", policy.audit, details(&audited));
            note("audit-violations", &why);
        }
        if enforce {
            note("enforce-policy", &policy.enforce.to_string());
            let violations = evaluate(policy.enforce, pod);
            if !violations.is_empty() {
                let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&violations));
                return Err(ApiError::forbidden("", "pods", display_name(request, Some(object)), &why));
            }
        }
        let warned = evaluate(policy.warn, pod);
        if warned.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![format!("would violate PodSecurity \"{}\": {}", policy.warn, details(&warned))])
    }

    /// A namespace whose labels are set or changed.
    async fn namespace(
        &self,
        request: &AdmissionRequest<'_>,
        namespace: &Value,
    ) -> Result<Vec<String>, ApiError> {
        let (policy, errors) = Policy::of(namespace, self.config.defaults);
        let before = request.old.map(|old| Policy::of(old, self.config.defaults));
        let known = before.as_ref().is_some_and(|(_, known)| *known == errors);
        if !errors.is_empty() && !known {
            return Err(status::invalid("", "Namespace", meta::name(namespace), &errors).into());
        }
        let name = meta::name(namespace);
        let is_exempt = self.config.exempts_request(name, "").is_some();
        let ignored = || self.ignored(namespace, policy).into_iter().collect();
        let Some((before, _)) = before else {
            return Ok(if is_exempt { ignored() } else { Vec::new() });
        };
        let (new, old) = (policy.enforce, before.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(Vec::new());
        }
        if is_exempt {
            return Ok(ignored());
        }
        self.pods_that_violate(name, new).await
    }

    /// The warning that the labels of an exempt namespace mean nothing; those that ask for nothing are left out.
    fn ignored(&self, namespace: &Value, policy: Policy) -> Option<String> {
        if policy.is_privileged(true) || policy == self.config.defaults {
            return None;
        }
        let asked = policy.labelled(namespace);
        Some(format!(
            "namespace {:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            meta::name(namespace),
            asked.join(", ")
        ))
    }

    /// Warnings of the pods there are, those with the same violations together.
    async fn pods_that_violate(&self, namespace: &str, standard: Standard) -> Result<Vec<String>, ApiError> {
        let end = Instant::now() + LONGEST_LOOK;
        let mut pods = self.objects.list("", "pods", namespace).await?;
        pods.retain(|pod| !self.config.exempts_runtime(&pod["spec"]));
        let mut looked = 0;
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for pod in pods.iter().take(MOST_PODS) {
            looked += 1;
            let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
            let violations = evaluate(standard, Pod { metadata, spec });
            if !violations.is_empty() {
                by_reason.entry(reasons(&violations)).or_default().push(meta::name(pod));
            }
            if Instant::now() > end {
                break;
            }
        }
        let mut warnings = Vec::new();
        if looked < pods.len() {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {looked} of {} existing pods",
                pods.len()
            ));
        }
        if !by_reason.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
            ));
        }
        let mut of_pods: Vec<String> = by_reason.iter().map(|(reason, names)| named(names, reason)).collect();
        of_pods.sort_unstable();
        warnings.extend(of_pods);
        Ok(warnings)
    }
}

/// Tells the audit log.
fn note(what: &str, value: &str) {
    audit::annotate(&format!("pod-security.kubernetes.io/{what}"), value);
}

/// The first of the pods by name, how many more there are, and what they violate.
fn named(pods: &[&str], reason: &str) -> String {
    let first = pods.iter().min().copied().unwrap_or_default();
    match pods.len() {
        1 => format!("{first}: {reason}"),
        2 => format!("{first} (and 1 other pod): {reason}"),
        many => format!("{first} (and {} other pods): {reason}", many - 1),
    }
}

/// Whether an update of a pod changes what is judged: images, the containers themselves, and annotations of old.
fn is_significant(new: &Value, old: &Value) -> bool {
    let annotations = |pod: &Value| -> BTreeMap<String, Value> {
        let all = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
        let judged = all.filter(|(name, _)| name.contains("seccomp.security.alpha.kubernetes.io/"));
        judged.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let images = |pod: &Value| -> Vec<(String, String)> {
        let lists = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
        let all = lists.into_iter().flat_map(|list| super::list(pod, list));
        all.map(|c| (text(c, "/name").to_owned(), text(c, "/image").to_owned())).collect()
    };
    annotations(new) != annotations(old) || images(new) != images(old)
}

#[async_trait::async_trait]
impl Admission for PodSecurity {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let judged = matches!(request.operation, Operation::Create | Operation::Update);
        let Some(object) = object.filter(|_| judged) else { return Ok(Vec::new()) };
        let (group, resource) = (what.api_group.as_str(), what.resource.as_str());
        match (group, resource, what.subresource.as_str()) {
            ("", "namespaces", "") => self.namespace(request, object).await,
            ("", "pods", part) if !IGNORED.contains(&part) => self.judge(request, object, object, true).await,
            (_, _, "") => {
                let workload = WORKLOADS.iter().find(|(g, r, _)| (*g, *r) == (group, resource));
                match workload.and_then(|(_, _, place)| object.pointer(place)) {
                    Some(template) => self.judge(request, object, template, false).await,
                    None => Ok(Vec::new()),
                }
            }
            _ => Ok(Vec::new()),
        }
    }
}
