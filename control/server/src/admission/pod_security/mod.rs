//! PodSecurity: pods keep to the standard that their namespace's labels ask for; who makes workloads is warned.
//!
//! The standards are upstream's "Pod Security Standards", each check as of the version that a label names.

mod baseline;
mod checks;
mod policy;
mod restricted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_api::{meta, status};
use serde_json::Value;

pub use policy::{Level, Policy, Standard, Version};

use super::display_name;
use crate::audit;
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Operation};
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

/// What applies where labels say nothing, and to whom nothing applies.
#[derive(Clone, Debug, Default)]
pub struct PodSecurityConfig {
    /// For namespaces without labels.
    pub defaults: Policy,
    /// Users whose pods are not looked at. Controllers make pods too: their names exempt everybody's workloads.
    pub usernames: Vec<String>,
    /// Namespaces that are not looked at.
    pub namespaces: Vec<String>,
    /// Runtime classes whose pods are not looked at.
    pub runtime_classes: Vec<String>,
}

impl PodSecurityConfig {
    /// Reads a `PodSecurityConfiguration` of `pod-security.admission.config.k8s.io/v1`. An error names the field that
    /// is wrong.
    pub fn read(config: &Value) -> Result<Self, String> {
        let kind = (text(config, "/apiVersion"), text(config, "/kind"));
        if kind != ("pod-security.admission.config.k8s.io/v1", "PodSecurityConfiguration") {
            return Err(format!(
                "expected PodSecurityConfiguration of pod-security.admission.config.k8s.io/v1, found {} of {}",
                kind.1, kind.0
            ));
        }
        let mut defaults = Policy::default();
        for (mode, standard) in
            [("enforce", &mut defaults.enforce), ("audit", &mut defaults.audit), ("warn", &mut defaults.warn)]
        {
            let (level, version) = (format!("/defaults/{mode}"), format!("/defaults/{mode}-version"));
            if let Some(named) = config.pointer(&level).and_then(Value::as_str) {
                standard.level = Level::parse(named).ok_or_else(|| {
                    format!("defaults.{mode}: {named:?} is no level; use privileged, baseline or restricted")
                })?;
            }
            if let Some(named) = config.pointer(&version).and_then(Value::as_str) {
                standard.version = Version::parse(named).ok_or_else(|| {
                    format!("defaults.{mode}-version: {named:?} is neither latest nor v1.x")
                })?;
            }
        }
        let names = |field: &str| -> Vec<String> {
            let list = config.pointer(&format!("/exemptions/{field}")).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(PodSecurityConfig {
            defaults,
            usernames: names("usernames"),
            namespaces: names("namespaces"),
            runtime_classes: names("runtimeClasses"),
        })
    }

    fn exempts_runtime(&self, spec: &Value) -> bool {
        exempt(&self.runtime_classes, text(spec, "/runtimeClassName"))
    }
}

fn exempt(list: &[String], name: &str) -> bool {
    !name.is_empty() && list.iter().any(|exempt| exempt == name)
}

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

    /// The policy of the namespace that the request is in.
    async fn policy(&self, namespace: &str) -> Result<Policy, ApiError> {
        let found = self.objects.get("", "namespaces", "", namespace).await?;
        let found =
            found.ok_or_else(|| ApiError::internal(format!("failed to lookup namespace {namespace}")))?;
        let (policy, errors) = Policy::of(&found, self.config.defaults);
        if !errors.is_empty() {
            tracing::debug!(namespace, ?errors, "labels of pod security that mean nothing");
        }
        Ok(policy)
    }

    /// A pod, or the template of a workload, which is only warned of.
    async fn judge(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        template: &Value,
        enforce: bool,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        if exempt(&self.config.namespaces, &what.namespace) || exempt(&self.config.usernames, &what.user.name)
        {
            return Ok(Vec::new());
        }
        let policy = self.policy(&what.namespace).await?;
        let (Some(metadata), Some(spec)) =
            (template.get("metadata").or(Some(&Value::Null)), template.get("spec"))
        else {
            return Ok(Vec::new());
        };
        if self.config.exempts_runtime(spec) {
            return Ok(Vec::new());
        }
        let pod = Pod { metadata, spec };
        if enforce {
            audit::annotate("pod-security.kubernetes.io/enforce-policy", &policy.enforce.to_string());
            let violations = evaluate(policy.enforce, pod);
            if !violations.is_empty() {
                let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&violations));
                return Err(ApiError::forbidden("", "pods", display_name(request, Some(object)), &why));
            }
        }
        let audited = evaluate(policy.audit, pod);
        if !audited.is_empty() {
            let why = format!("would violate PodSecurity \"{}\": {}", policy.audit, details(&audited));
            audit::annotate("pod-security.kubernetes.io/audit-violations", &why);
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
        let Some((before, _)) = before else { return Ok(Vec::new()) };
        let (new, old) = (policy.enforce, before.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(Vec::new());
        }
        let name = meta::name(namespace);
        if exempt(&self.config.namespaces, name) {
            return Ok(Vec::new());
        }
        self.pods_that_violate(name, new).await
    }

    /// Warnings of the pods there are, those with the same violations together.
    async fn pods_that_violate(&self, namespace: &str, standard: Standard) -> Result<Vec<String>, ApiError> {
        let end = Instant::now() + LONGEST_LOOK;
        let pods = self.objects.list("", "pods", namespace).await?;
        let mut looked = 0;
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for pod in pods.iter().take(MOST_PODS) {
            looked += 1;
            let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
            if !self.config.exempts_runtime(spec) {
                let violations = evaluate(standard, Pod { metadata, spec });
                if !violations.is_empty() {
                    by_reason.entry(reasons(&violations)).or_default().push(meta::name(pod));
                }
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
            ("", "pods", part) if !IGNORED.contains(&part) => {
                if request.old.is_some_and(|old| !is_significant(object, old)) {
                    return Ok(Vec::new());
                }
                self.judge(request, object, object, true).await
            }
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
