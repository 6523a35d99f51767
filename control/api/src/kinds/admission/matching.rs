//! What webhooks and policies share: the rules that say which requests they are about.

use k8s_openapi::api::admissionregistration::v1 as admission;

use crate::kinds::prelude::*;

const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MAX_CONDITIONS: usize = 64;

/// Defaults of rules.
pub(super) fn default_rules(fields: &mut Fields, list: &str) {
    for rule in objects(fields, list) {
        set(rule, "scope", "*");
    }
}

/// Defaults of `matchConstraints` and `matchResources`.
pub(super) fn default_match(fields: &mut Fields) {
    set(fields, "matchPolicy", "Equivalent");
    make_object(fields, "namespaceSelector");
    make_object(fields, "objectSelector");
    default_rules(fields, "resourceRules");
    default_rules(fields, "excludeResourceRules");
}

/// How failures and equivalent requests are treated.
pub(super) fn policies(
    failure: &Option<String>,
    matching: &Option<String>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    if let Some(policy) = failure {
        one_of(&path.child("failurePolicy"), policy, FAILURE_POLICIES, errors);
    }
    if let Some(policy) = matching {
        one_of(&path.child("matchPolicy"), policy, MATCH_POLICIES, errors);
    }
}

/// A rule's fields, whatever type it is of.
pub(super) struct Rule<'a> {
    pub(super) operations: &'a [String],
    pub(super) groups: &'a [String],
    pub(super) versions: &'a [String],
    pub(super) resources: &'a [String],
    pub(super) scope: Option<&'a str>,
}

fn wildcard_alone(path: &FieldPath, list: &[String], what: &str, errors: &mut Errors) {
    if list.len() > 1 && list.iter().any(|entry| entry == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path, validate::shown(&list), why));
    }
}

/// One rule.
pub(super) fn rule(rule: &Rule<'_>, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("operations");
    if rule.operations.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    wildcard_alone(&at, rule.operations, "operations", errors);
    for (index, operation) in rule.operations.iter().enumerate() {
        one_of(&at.index(index), operation, OPERATIONS, errors);
    }
    for (field, list, what) in
        [("apiGroups", rule.groups, "API groups"), ("apiVersions", rule.versions, "API versions")]
    {
        let at = path.child(field);
        if list.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        wildcard_alone(&at, list, what, errors);
    }
    for (index, _) in rule.versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(FieldError::required(&path.child("apiVersions").index(index), ""));
    }
    resources(rule.resources, &path.child("resources"), errors);
    if let Some(scope) = rule.scope {
        one_of(&path.child("scope"), scope, &["*", "Cluster", "Namespaced"], errors);
    }
}

fn resources(resources: &[String], path: &FieldPath, errors: &mut Errors) {
    if resources.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut all_parts, mut part_of_all): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (index, text) in resources.iter().enumerate() {
        let at = path.index(index);
        if text.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let Some((resource, part)) = text.split_once('/') else { continue };
        if all_parts.contains(&resource) {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&at, text.as_str(), why));
        }
        if part_of_all.contains(&part) {
            let why = format!("if '*/{part}' is present, must not specify {text}");
            errors.push(FieldError::invalid(&at, text.as_str(), why));
        }
        if part == "*" {
            all_parts.push(resource);
        }
        if resource == "*" {
            part_of_all.push(part);
        }
    }
    let has = |wanted: &str| resources.iter().any(|r| r == wanted);
    if resources.len() > 1 && has("*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, validate::shown(&resources), why));
    }
    if has("*") && resources.iter().any(|r| r != "*" && !r.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, validate::shown(&resources), why));
    }
}

/// `matchConditions`; their expressions are not compiled here.
pub(super) fn conditions(conditions: &[admission::MatchCondition], path: &FieldPath, errors: &mut Errors) {
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, conditions.len(), MAX_CONDITIONS));
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if condition.expression.trim().is_empty() {
            errors.push(FieldError::required(&at.child("expression"), ""));
        }
        require_by(&at.child("name"), &condition.name, names::qualified_name, errors);
        if !seen.insert(&condition.name) {
            errors.push(FieldError::duplicate(&at.child("name"), condition.name.as_str()));
        }
    }
}

/// `matchConstraints` or `matchResources`.
pub(super) fn resources_matched(of: &admission::MatchResources, path: &FieldPath, errors: &mut Errors) {
    if let Some(policy) = &of.match_policy {
        one_of(&path.child("matchPolicy"), policy, MATCH_POLICIES, errors);
    }
    for (field, selector) in
        [("namespaceSelector", &of.namespace_selector), ("objectSelector", &of.object_selector)]
    {
        match selector {
            Some(selector) => validate::label_selector(selector, &path.child(field), errors),
            None => errors.push(FieldError::required(&path.child(field), "")),
        }
    }
    for (field, rules) in
        [("resourceRules", &of.resource_rules), ("excludeResourceRules", &of.exclude_resource_rules)]
    {
        for (index, entry) in validate::list(rules).iter().enumerate() {
            let at = path.child(field).index(index);
            let fields = Rule {
                operations: validate::list(&entry.operations),
                groups: validate::list(&entry.api_groups),
                versions: validate::list(&entry.api_versions),
                resources: validate::list(&entry.resources),
                scope: entry.scope.as_deref(),
            };
            rule(&fields, &at, errors);
            let names = validate::list(&entry.resource_names);
            let mut seen = HashSet::new();
            for (index, name) in names.iter().enumerate() {
                let at = at.child("resourceNames").index(index);
                refuse(&at, name, names::path_segment(name, false), errors);
                if !seen.insert(name) {
                    errors.push(FieldError::duplicate(&at, name.as_str()));
                }
            }
        }
    }
}
