//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::matching;
use crate::kinds::prelude::*;

const PRINTER: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::integer(
            "Webhooks",
            "Webhooks indicates the number of webhooks registered in this configuration",
        ),
        Column::AGE,
    ],
    cells,
};

/// The row of validatingwebhookconfigurations.
pub(in crate::kinds) const VALIDATING: Resource = Resource {
    printer: PRINTER,
    categories: &["api-extensions"],
    ..row!(
        "admissionregistration.k8s.io" / "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfiguration",
        "validatingwebhookconfigurations",
        "admissionregistration",
        admission::ValidatingWebhookConfiguration,
        ValidatingRules
    )
};

/// The row of mutatingwebhookconfigurations.
pub(in crate::kinds) const MUTATING: Resource = Resource {
    printer: PRINTER,
    categories: &["api-extensions"],
    ..row!(
        "admissionregistration.k8s.io" / "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfiguration",
        "mutatingwebhookconfigurations",
        "admissionregistration",
        admission::MutatingWebhookConfiguration,
        MutatingRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), read::list(object, "/webhooks").len().into(), age(object, now)]
}

/// Seconds that a webhook gets to answer.
const TIMEOUT_SECONDS: i64 = 10;
const MAX_TIMEOUT_SECONDS: i32 = 30;

/// What is true of validatingwebhookconfigurations.
pub(in crate::kinds) struct ValidatingRules;

impl Rules for ValidatingRules {
    type Object = admission::ValidatingWebhookConfiguration;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(configuration: &mut Value) {
        let Some(fields) = configuration.as_object_mut() else { return };
        objects(fields, "webhooks").for_each(default_webhook);
    }

    fn validate(configuration: &Self::Object, errors: &mut Errors) {
        let hooks = validate::list(&configuration.webhooks).iter().map(|hook| Webhook {
            name: &hook.name,
            client: &hook.client_config,
            rules: validate::list(&hook.rules),
            policies: (&hook.failure_policy, &hook.match_policy),
            selectors: (hook.namespace_selector.as_ref(), hook.object_selector.as_ref()),
            side_effects: &hook.side_effects,
            timeout: hook.timeout_seconds,
            versions: &hook.admission_review_versions,
            conditions: validate::list(&hook.match_conditions),
        });
        all(hooks, errors);
    }
}

/// What is true of mutatingwebhookconfigurations.
pub(in crate::kinds) struct MutatingRules;

impl Rules for MutatingRules {
    type Object = admission::MutatingWebhookConfiguration;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(configuration: &mut Value) {
        let Some(fields) = configuration.as_object_mut() else { return };
        for hook in objects(fields, "webhooks") {
            default_webhook(hook);
            set(hook, "reinvocationPolicy", "Never");
        }
    }

    fn validate(configuration: &Self::Object, errors: &mut Errors) {
        let list = validate::list(&configuration.webhooks);
        let hooks = list.iter().map(|hook| Webhook {
            name: &hook.name,
            client: &hook.client_config,
            rules: validate::list(&hook.rules),
            policies: (&hook.failure_policy, &hook.match_policy),
            selectors: (hook.namespace_selector.as_ref(), hook.object_selector.as_ref()),
            side_effects: &hook.side_effects,
            timeout: hook.timeout_seconds,
            versions: &hook.admission_review_versions,
            conditions: validate::list(&hook.match_conditions),
        });
        all(hooks, errors);
        for (index, hook) in list.iter().enumerate() {
            if let Some(policy) = &hook.reinvocation_policy {
                let at = FieldPath::root("webhooks").index(index).child("reinvocationPolicy");
                one_of(&at, policy, &["IfNeeded", "Never"], errors);
            }
        }
    }
}

fn default_webhook(hook: &mut Fields) {
    set(hook, "failurePolicy", "Fail");
    set(hook, "matchPolicy", "Equivalent");
    make_object(hook, "namespaceSelector");
    make_object(hook, "objectSelector");
    set(hook, "timeoutSeconds", TIMEOUT_SECONDS);
    matching::default_rules(hook, "rules");
    if let Some(service) = object(hook, "clientConfig").and_then(|c| object(c, "service")) {
        set(service, "port", 443);
    }
}

/// A webhook's fields, whichever kind it is of.
struct Webhook<'a> {
    name: &'a str,
    client: &'a admission::WebhookClientConfig,
    rules: &'a [admission::RuleWithOperations],
    policies: (&'a Option<String>, &'a Option<String>),
    selectors: (Option<&'a LabelSelector>, Option<&'a LabelSelector>),
    side_effects: &'a str,
    timeout: Option<i32>,
    versions: &'a [String],
    conditions: &'a [admission::MatchCondition],
}

fn all<'a>(hooks: impl Iterator<Item = Webhook<'a>>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, hook) in hooks.enumerate() {
        let at = FieldPath::root("webhooks").index(index);
        webhook(&hook, &at, errors);
        if !seen.insert(hook.name) {
            errors.push(FieldError::duplicate(&at.child("name"), hook.name));
        }
    }
}

fn webhook(hook: &Webhook<'_>, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("name");
    if require(&at, hook.name, errors) {
        let wrong = names::dns1123_subdomain(hook.name);
        let unqualified = wrong.is_empty() && hook.name.split('.').count() < 3;
        refuse(&at, hook.name, wrong, errors);
        if unqualified {
            let why = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid(&at, hook.name, why));
        }
    }
    for (index, entry) in hook.rules.iter().enumerate() {
        let fields = matching::Rule {
            operations: validate::list(&entry.operations),
            groups: validate::list(&entry.api_groups),
            versions: validate::list(&entry.api_versions),
            resources: validate::list(&entry.resources),
            scope: entry.scope.as_deref(),
        };
        matching::rule(&fields, &path.child("rules").index(index), errors);
    }
    matching::policies(hook.policies.0, hook.policies.1, path, errors);
    let (at, effects) = (path.child("sideEffects"), ["None", "NoneOnDryRun"]);
    if hook.side_effects.is_empty() {
        let why = format!("must specify one of {}", effects.join(", "));
        errors.push(FieldError::required(&at, why));
    } else {
        one_of(&at, hook.side_effects, &effects, errors);
    }
    if let Some(seconds) = hook.timeout.filter(|s| !(1..=MAX_TIMEOUT_SECONDS).contains(s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, why));
    }
    for (field, selector) in [("namespaceSelector", hook.selectors.0), ("objectSelector", hook.selectors.1)] {
        if let Some(selector) = selector {
            validate::label_selector(selector, &path.child(field), errors);
        }
    }
    client(hook.client, &path.child("clientConfig"), errors);
    matching::conditions(hook.conditions, &path.child("matchConditions"), errors);
    versions(hook.versions, &path.child("admissionReviewVersions"), errors);
}

fn client(client: &admission::WebhookClientConfig, path: &FieldPath, errors: &mut Errors) {
    match (&client.url, &client.service) {
        (None, None) | (Some(_), Some(_)) => {
            errors.push(FieldError::required(path, "exactly one of url or service is required"));
        }
        (Some(url), None) => web_address(url, &path.child("url"), errors),
        (None, Some(service)) => {
            let at = path.child("service");
            if service.name.is_empty() {
                errors.push(FieldError::required(&at.child("name"), "service name is required"));
            }
            if service.namespace.is_empty() {
                errors.push(FieldError::required(&at.child("namespace"), "service namespace is required"));
            }
            if let Some(port) = service.port.filter(|port| !(1..=65535).contains(port)) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(&at.child("port"), port, why));
            }
            if let Some(text) = service.path.as_deref().filter(|text| !text.starts_with('/')) {
                errors.push(FieldError::invalid(&at.child("path"), text, "must start with a '/'"));
            }
        }
    }
}

/// A URL that a webhook is called by.
pub(in crate::kinds) fn web_address(url: &str, path: &FieldPath, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, scheme, why));
        return;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        let why = format!("host must be specified{FORM}");
        errors.push(FieldError::invalid(path, "", why));
    }
    if host.contains('@') {
        let user = host.split('@').next().unwrap_or_default();
        errors.push(FieldError::invalid(path, user, "user information is not permitted in the URL"));
    }
    if rest.contains('#') {
        errors.push(FieldError::invalid(path, url, "fragments are not permitted in the URL"));
    }
    if rest.contains('?') {
        errors.push(FieldError::invalid(path, url, "query parameters are not permitted in the URL"));
    }
}

/// Versions of AdmissionReview that this server speaks or will.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

fn versions(versions: &[String], path: &FieldPath, errors: &mut Errors) {
    if versions.is_empty() {
        let why = format!("must specify one of {}", REVIEWS.join(", "));
        errors.push(FieldError::required(path, why));
        return;
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&at, version.as_str(), "duplicate version"));
            continue;
        }
        refuse(&at, version, names::dns1035_label(version), errors);
    }
    if !versions.iter().any(|version| REVIEWS.contains(&version.as_str())) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, validate::shown(&versions), why));
    }
}
