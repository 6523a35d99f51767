//! Which requests a webhook or a policy is about: its rules, its selectors, and what no webhook or policy sees.
//!
//! All of it is a function of the request and the objects in it; whoever calls looks the namespace up, when
//! [`Matching::namespace`] says that it is needed.

use std::borrow::Cow;

use carrack_api::select::{LabelSelector, SelectorError};
use carrack_api::{Catalogue, meta};
use serde::Deserialize;
use serde_json::Value;

use crate::{Attributes, Operation};

/// The group of webhook configurations and policies.
pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// Whether requests about this resource are exempt from all webhooks and policies: nobody may lock the door behind
/// which the key is.
pub fn exempt(group: &str, resource: &str) -> bool {
    const CONFIGURATIONS: [&str; 6] = [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];
    group == GROUP && CONFIGURATIONS.contains(&resource)
}

/// What rules look at.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// What happens.
    pub operation: Operation,
    /// API group, empty for core.
    pub group: Cow<'a, str>,
    /// API version.
    pub version: Cow<'a, str>,
    /// Plural name.
    pub resource: Cow<'a, str>,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty. For namespaces themselves it may be their own name.
    pub namespace: &'a str,
    /// The object's name; empty while it is not known.
    pub name: &'a str,
}

impl<'a> Target<'a> {
    /// The target of a request.
    pub fn of(attributes: &'a Attributes, operation: Operation) -> Self {
        Self {
            operation,
            group: Cow::Borrowed(&attributes.api_group),
            version: Cow::Borrowed(&attributes.version),
            resource: Cow::Borrowed(&attributes.resource),
            subresource: &attributes.subresource,
            namespace: &attributes.namespace,
            name: &attributes.name,
        }
    }

    /// The resource as it is asked for.
    pub fn form(&self) -> Form {
        let own = |text: &Cow<'_, str>| text.clone().into_owned();
        Form { group: own(&self.group), version: own(&self.version), resource: own(&self.resource) }
    }

    fn as_form(&self, form: &Form) -> Target<'a> {
        let own = |text: &str| Cow::Owned(text.to_owned());
        Target {
            group: own(&form.group),
            version: own(&form.version),
            resource: own(&form.resource),
            ..self.clone()
        }
    }

    fn is_namespace(&self) -> bool {
        self.resource == "namespaces"
    }
}

/// A resource in one version: `apps`, `v1`, `deployments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name.
    pub resource: String,
}

/// All forms in which the objects of a resource are served, with the subresource (unless it is empty), the one asked
/// for included.
pub fn forms(kinds: &Catalogue, target: &Target<'_>) -> Vec<Form> {
    let asked = kinds.find(&target.group, &target.version, &target.resource);
    let Some(prefix) = asked.map(|row| row.storage_prefix).filter(|prefix| !prefix.is_empty()) else {
        return vec![target.form()];
    };
    let rows = kinds.rows().filter(|row| row.storage_prefix == prefix);
    rows.filter(|row| target.subresource.is_empty() || row.subresource(target.subresource).is_some())
        .map(|row| Form {
            group: row.group.to_owned(),
            version: row.version.to_owned(),
            resource: row.plural.to_owned(),
        })
        .collect()
}

/// One rule, as webhooks (`rules`) and policies (`resourceRules`, `excludeResourceRules`) write it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `CREATE`, `UPDATE`, `DELETE`, `CONNECT` or `*`.
    pub operations: Vec<String>,
    /// Groups or `*`.
    pub api_groups: Vec<String>,
    /// Versions or `*`.
    pub api_versions: Vec<String>,
    /// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` (no subresource) or `*/*`.
    pub resources: Vec<String>,
    /// `Cluster`, `Namespaced`, or `*`, which is the default.
    pub scope: Option<String>,
    /// Names; empty for all. Policies alone have it.
    pub resource_names: Vec<String>,
}

impl Rule {
    /// Whether the rule is about the target.
    pub fn matches(&self, target: &Target<'_>) -> bool {
        let listed = |list: &[String], wanted: &str| list.iter().any(|entry| entry == "*" || entry == wanted);
        self.in_scope(target)
            && listed(&self.operations, operation_name(target.operation))
            && listed(&self.api_groups, &target.group)
            && listed(&self.api_versions, &target.version)
            && self.resources.iter().any(|entry| resource_matches(entry, target))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == target.name))
    }

    /// A namespace's path reads as being in it, and it is of the cluster all the same.
    fn in_scope(&self, target: &Target<'_>) -> bool {
        let of_cluster =
            target.namespace.is_empty() || (target.group.is_empty() && target.resource == "namespaces");
        match self.scope.as_deref() {
            Some("Cluster") => of_cluster,
            Some("Namespaced") => !of_cluster,
            _ => true,
        }
    }
}

/// An entry without a slash is about the resource alone.
fn resource_matches(entry: &str, target: &Target<'_>) -> bool {
    let (resource, part) = entry.split_once('/').unwrap_or((entry, ""));
    (resource == "*" || resource == target.resource) && (part == "*" || part == target.subresource)
}

/// An operation as rules and AdmissionReviews write it.
pub fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Where the labels are that a namespace selector is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceLabels<'a> {
    /// Nowhere: there is nothing to match.
    None,
    /// In the new object, which is a namespace.
    Object,
    /// In the stored namespace of this name.
    Stored(&'a str),
}

/// Everything that says which requests a webhook or policy is about, but for CEL expressions.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// Whether no rules at all stand for every request, as in policies.
    all_without_rules: bool,
    /// Whether requests by other versions of a resource count (`matchPolicy: Equivalent`).
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Matching {
    /// Of one entry of `webhooks`.
    pub fn of_webhook(webhook: &Value) -> Result<Self, SelectorError> {
        Self::read(webhook, "rules", false)
    }

    /// Of a policy's `matchConstraints` or a binding's `matchResources`.
    pub fn of_policy(constraints: &Value) -> Result<Self, SelectorError> {
        Self::read(constraints, "resourceRules", true)
    }

    fn read(of: &Value, rules: &str, all_without_rules: bool) -> Result<Self, SelectorError> {
        let rules_in = |field: &str| match of.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(list) => {
                Vec::<Rule>::deserialize(list).map_err(|why| SelectorError::Syntax(why.to_string()))
            }
        };
        let selector = |field: &str| match of.get(field) {
            None | Some(Value::Null) => Ok(LabelSelector::everything()),
            some => LabelSelector::from_value(some),
        };
        Ok(Self {
            rules: rules_in(rules)?,
            exclude: rules_in("excludeResourceRules")?,
            all_without_rules,
            equivalent: of.get("matchPolicy").and_then(Value::as_str) != Some("Exact"),
            namespaces: selector("namespaceSelector")?,
            objects: selector("objectSelector")?,
        })
    }

    /// The form of the resource that the rules are about, which is another one than the request's when they match
    /// an equivalent; `None` when they do not match. `forms` are the resource's forms, see [`forms`].
    pub fn form(&self, target: &Target<'_>, forms: &[Form]) -> Option<Form> {
        if self.first(&self.exclude, target, forms).is_some() {
            return None;
        }
        if self.rules.is_empty() && self.all_without_rules {
            return Some(target.form());
        }
        self.first(&self.rules, target, forms)
    }

    /// The request's own form where a rule has it, else the first equivalent in the order of the rules.
    fn first(&self, rules: &[Rule], target: &Target<'_>, forms: &[Form]) -> Option<Form> {
        if rules.iter().any(|rule| rule.matches(target)) {
            return Some(target.form());
        }
        let asked = target.form();
        let others = forms.iter().filter(|form| self.equivalent && **form != asked);
        let others: Vec<(&Form, Target<'_>)> = others.map(|form| (form, target.as_form(form))).collect();
        rules.iter().find_map(|rule| {
            let found = others.iter().find(|(_, target)| rule.matches(target))?;
            Some(found.0.clone())
        })
    }

    /// Which namespace's labels decide, by [`Matching::in_namespace`].
    pub fn namespace<'a>(&self, target: &Target<'a>) -> NamespaceLabels<'a> {
        if self.namespaces.is_everything() || (target.namespace.is_empty() && !target.is_namespace()) {
            return NamespaceLabels::None;
        }
        if !target.is_namespace() {
            return NamespaceLabels::Stored(target.namespace);
        }
        let written = matches!(target.operation, Operation::Create | Operation::Update);
        match (target.subresource, written) {
            ("", true) => NamespaceLabels::Object,
            _ => NamespaceLabels::Stored(target.name),
        }
    }

    /// Whether a namespace is one that is meant.
    pub fn in_namespace(&self, namespace: &Value) -> bool {
        selects(&self.namespaces, namespace)
    }

    /// Whether the object is one that is meant: as it is, or as it was before.
    pub fn selects(&self, new: Option<&Value>, old: Option<&Value>) -> bool {
        self.objects.is_everything()
            || [new, old].into_iter().flatten().any(|object| selects(&self.objects, object))
    }
}

/// Options of connections have no metadata, and no selector is about them.
fn selects(selector: &LabelSelector, object: &Value) -> bool {
    let labels = meta::labels(object);
    let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    object.get("metadata").is_some() && selector.matches(label)
}

#[cfg(test)]
mod tests;
