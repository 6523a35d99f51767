//! FlowSchemas.

use k8s_openapi::api::flowcontrol::v1 as flow;

use super::{NONE, condition_types, mandatory};
use crate::kinds::prelude::*;

/// The row of flowschemas.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    subresources: &[status(gvk("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("PriorityLevel", "flowcontrol.v1.PriorityLevelConfigurationReference#name"),
            Column::text("MatchingPrecedence", "flowcontrol.v1.FlowSchemaSpec#matchingPrecedence"),
            Column::text("DistinguisherMethod", "flowcontrol.v1.FlowSchemaSpec#distinguisherMethod"),
            Column::AGE,
            Column::text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
        ],
        cells,
    },
    ..row!(
        "flowcontrol.apiserver.k8s.io" / "v1",
        "FlowSchema",
        "flowschema",
        "flowschemas",
        "flowcontrol",
        flow::FlowSchema,
        SchemaRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let dangling =
        read::list(object, "/status/conditions").iter().find(|c| read::text(c, "/type") == "Dangling");
    let missing = dangling.map_or("?", |c| read::text(c, "/status"));
    let method = match read::text(object, "/spec/distinguisherMethod/type") {
        "" => NONE,
        method => method,
    };
    vec![
        meta::name(object).into(),
        read::text(object, "/spec/priorityLevelConfiguration/name").into(),
        read::integer(object, "/spec/matchingPrecedence").into(),
        method.into(),
        age(object, now),
        missing.into(),
    ]
}

const PRECEDENCE: i64 = 1000;
const MAX_PRECEDENCE: i32 = 10_000;
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// What is true of flowschemas.
pub(in crate::kinds) struct SchemaRules;

impl Rules for SchemaRules {
    type Object = flow::FlowSchema;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(schema: &mut Value) {
        if let Some(spec) = spec_of(schema) {
            defaults::set_nonzero(spec, "matchingPrecedence", PRECEDENCE);
        }
    }

    fn validate(schema: &Self::Object, errors: &mut Errors) {
        let empty = flow::FlowSchemaSpec::default();
        let (spec, path) = (schema.spec.as_ref().unwrap_or(&empty), spec_path());
        let (at, precedence) =
            (path.child("matchingPrecedence"), spec.matching_precedence.unwrap_or_default());
        if precedence <= 0 {
            errors.push(FieldError::invalid(&at, precedence, "must be a positive value"));
        }
        if precedence > MAX_PRECEDENCE {
            let why = format!("must not be greater than {MAX_PRECEDENCE}");
            errors.push(FieldError::invalid(&at, precedence, why));
        }
        if precedence == 1 && schema.metadata.name.as_deref() != Some("exempt") {
            let why = "only the schema named 'exempt' may have matchingPrecedence 1";
            errors.push(FieldError::invalid(&at, precedence, why));
        }
        if let Some(method) = &spec.distinguisher_method {
            let at = path.child("distinguisherMethod").child("type");
            one_of(&at, &method.type_, &["ByNamespace", "ByUser"], errors);
        }
        let (at, level) =
            (path.child("priorityLevelConfiguration").child("name"), &spec.priority_level_configuration.name);
        if level.is_empty() {
            errors.push(FieldError::required(&at, "must reference a priority level"));
        } else {
            refuse(&at, level, names::dns1123_subdomain(level), errors);
        }
        for (index, rule) in validate::list(&spec.rules).iter().enumerate() {
            flow_rule(rule, &path.child("rules").index(index), errors);
        }
        let name = schema.metadata.name.as_deref().unwrap_or_default();
        let fixed = mandatory::typed::<flow::FlowSchemaSpec>(mandatory::flow_schema(name));
        if fixed.is_some_and(|fixed| fixed != *spec) {
            let why = format!("spec of '{name}' must equal the fixed value");
            errors.push(FieldError::invalid(&path, validate::shown(spec), why));
        }
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let conditions = new.status.as_ref().map_or(&[][..], |s| validate::list(&s.conditions));
        condition_types(conditions.iter().map(|c| validate::text(&c.type_)), errors);
    }
}

fn flow_rule(rule: &flow::PolicyRulesWithSubjects, path: &FieldPath, errors: &mut Errors) {
    if rule.subjects.is_empty() {
        let why = "subjects must contain at least one value";
        errors.push(FieldError::required(&path.child("subjects"), why));
    }
    for (index, entry) in rule.subjects.iter().enumerate() {
        subject(entry, &path.child("subjects").index(index), errors);
    }
    let (resources, others) =
        (validate::list(&rule.resource_rules), validate::list(&rule.non_resource_rules));
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, why));
    }
    for (index, rule) in resources.iter().enumerate() {
        resource_rule(rule, &path.child("resourceRules").index(index), errors);
    }
    for (index, rule) in others.iter().enumerate() {
        let at = path.child("nonResourceRules").index(index);
        verbs(&rule.verbs, &at, errors);
        let urls_at = at.child("nonResourceURLs");
        some_or_all(
            &rule.non_resource_urls,
            &urls_at,
            "nonResourceURLs must contain at least one value",
            "non-resource URLs",
            errors,
        );
        if rule.non_resource_urls.iter().any(|url| url == "*") {
            continue;
        }
        for (index, url) in rule.non_resource_urls.iter().enumerate() {
            web_path(url, &urls_at.index(index), errors);
        }
    }
}

fn subject(subject: &flow::Subject, path: &FieldPath, errors: &mut Errors) {
    let present = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    if !present.iter().any(|(kind, ..)| *kind == subject.kind) {
        let kinds = ["Group", "ServiceAccount", "User"];
        errors.push(FieldError::not_supported(&path.child("kind"), subject.kind.as_str(), &kinds));
        return;
    }
    for (kind, field, is_there) in present {
        let at = path.child(field);
        match (kind == subject.kind, is_there) {
            (true, false) => {
                let why = format!("{field} is required when subject kind is '{kind}'");
                errors.push(FieldError::required(&at, why));
            }
            (false, true) => {
                let why = format!("{field} is forbidden when subject kind is not '{kind}'");
                errors.push(FieldError::forbidden(&at, why));
            }
            _ => {}
        }
    }
    if let Some(user) = subject.user.as_ref().filter(|_| subject.kind == "User") {
        require(&path.child("user").child("name"), &user.name, errors);
    }
    if let Some(group) = subject.group.as_ref().filter(|_| subject.kind == "Group") {
        require(&path.child("group").child("name"), &group.name, errors);
    }
    if let Some(account) = subject.service_account.as_ref().filter(|_| subject.kind == "ServiceAccount") {
        let at = path.child("serviceAccount");
        if require(&at.child("name"), &account.name, errors) && account.name != "*" {
            refuse(&at.child("name"), &account.name, names::dns1123_subdomain(&account.name), errors);
        }
        if account.namespace.is_empty() {
            let why = "must specify namespace for service account";
            errors.push(FieldError::required(&at.child("namespace"), why));
        } else {
            let at = at.child("namespace");
            refuse(&at, &account.namespace, names::dns1123_label(&account.namespace), errors);
        }
    }
}

/// A list that may not be empty, in which `*` stands alone.
fn some_or_all(list: &[String], path: &FieldPath, missing: &str, what: &str, errors: &mut Errors) {
    if list.is_empty() {
        errors.push(FieldError::required(path, missing));
    } else if list.len() > 1 && list.iter().any(|entry| entry == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path, validate::shown(&list), why));
    }
}

fn verbs(verbs: &[String], path: &FieldPath, errors: &mut Errors) {
    let at = path.child("verbs");
    some_or_all(verbs, &at, "verbs must contain at least one value", "verbs", errors);
    let all = verbs.iter().any(|verb| verb == "*");
    if !all && verbs.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        errors.push(FieldError::not_supported(&at, validate::shown(&verbs), VERBS));
    }
}

fn resource_rule(rule: &flow::ResourcePolicyRule, path: &FieldPath, errors: &mut Errors) {
    verbs(&rule.verbs, path, errors);
    let groups = path.child("apiGroups");
    let missing = "resource rules must supply at least one api group";
    some_or_all(&rule.api_groups, &groups, missing, "api groups", errors);
    let resources = path.child("resources");
    let missing = "resource rules must supply at least one resource";
    some_or_all(&rule.resources, &resources, missing, "resources", errors);
    let (at, namespaces) = (path.child("namespaces"), validate::list(&rule.namespaces));
    if namespaces.is_empty() {
        if rule.cluster_scope != Some(true) {
            let why = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(FieldError::required(&at, why));
        }
        return;
    }
    some_or_all(namespaces, &at, "", "namespaces", errors);
    for (index, name) in namespaces.iter().enumerate().filter(|(_, name)| *name != "*") {
        let wrong = names::dns1123_label(name).into_iter();
        let wrong =
            wrong.map(|why| format!("each member of this list must be '*' or a DNS-1123 label; {why}"));
        refuse(&at.index(index), name, wrong.collect(), errors);
    }
}

fn web_path(url: &str, path: &FieldPath, errors: &mut Errors) {
    let why = if url.is_empty() {
        "must not be empty"
    } else if url == "/" {
        return;
    } else if !url.starts_with('/') {
        "must start with slash"
    } else if url.contains(' ') {
        "must not contain white-space"
    } else if url.contains("//") {
        "must not contain double slash"
    } else if url.trim_end_matches("/*").contains('*') {
        "wildcard can only do suffix matching"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, url, why));
}
