//! APIServices: which server answers for a group and version, this one or another behind a Service.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as api;

use crate::kinds::prelude::*;
use crate::schema::TypeRef;

const KIND: crate::GroupVersionKind = gvk("apiregistration.k8s.io", "v1", "APIService");

/// The row of apiservices.
pub(super) const RESOURCE: Resource = Resource {
    categories: &["api-extensions"],
    subresources: &[status(KIND)],
    storage_prefix: "/registry/apiregistration.k8s.io/apiservices/",
    schema: TypeRef::of::<api::APIService>("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Service", "The reference to the service that hosts this API endpoint."),
            Column::text("Available", "Whether this service is available."),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "apiregistration.k8s.io" / "v1",
        "APIService",
        "apiservice",
        "apiservices",
        "apiregistration",
        api::APIService,
        ApiServiceRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = match object.pointer("/spec/service").filter(|service| service.is_object()) {
        Some(service) => format!("{}/{}", read::text(service, "/namespace"), read::text(service, "/name")),
        None => "Local".to_owned(),
    };
    let mut conditions = read::list(object, "/status/conditions").iter();
    let available = conditions.find(|condition| condition["type"] == "Available");
    let available = match available {
        None => "Unknown".to_owned(),
        Some(condition) if condition["status"] == "True" => "True".to_owned(),
        Some(condition) => {
            format!("{} ({})", read::text(condition, "/status"), read::text(condition, "/reason"))
        }
    };
    vec![meta::name(object).into(), service.into(), available.into(), age(object, now)]
}

/// What is true of apiservices.
pub(super) struct ApiServiceRules;

impl Rules for ApiServiceRules {
    type Object = api::APIService;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    // `v1.` is the name of the core group's version.
    const NAME: NameRule = NameRule::PathSegment;
    const HAS_STATUS: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(object: &mut Value) {
        let Some(spec) = spec_of(object) else { return };
        if let Some(service) = crate::defaults::object(spec, "service") {
            set(service, "port", 443);
        }
    }

    fn prepare_create(object: &mut Value) {
        // What this server answers itself is there from the beginning.
        if object.pointer("/spec/service").is_some_and(Value::is_object) {
            return;
        }
        let condition = json!({
            "type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available",
            "lastTransitionTime": object.pointer("/metadata/creationTimestamp"),
        });
        if let Some(fields) = object.as_object_mut() {
            fields.insert("status".into(), json!({"conditions": [condition]}));
        }
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        let empty = api::APIServiceSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        group_and_version(name, spec, errors);
        for (field, value, most) in [
            ("groupPriorityMinimum", spec.group_priority_minimum, 20_000),
            ("versionPriority", spec.version_priority, 1000),
        ] {
            if !(1..=most).contains(&value) {
                let why = format!("must be positive and less than {most}");
                errors.push(FieldError::invalid(&spec_path().child(field), value, why));
            }
        }
        service(spec, errors);
    }

    fn validate_status_update(new: &Self::Object, _: &Self::Object, errors: &mut Errors) {
        let conditions = new.status.as_ref().map_or(&[][..], |status| validate::list(&status.conditions));
        for (index, condition) in conditions.iter().enumerate() {
            let at = status_path().child("conditions").index(index).child("status");
            one_of(&at, &condition.status, &["True", "False", "Unknown"], errors);
        }
    }
}

fn group_and_version(name: &str, spec: &api::APIServiceSpec, errors: &mut Errors) {
    let group = spec.group.as_deref().unwrap_or_default();
    let version = spec.version.as_deref().unwrap_or_default();
    let required = format!("{version}.{group}");
    if name != required {
        let why = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(FieldError::invalid(&FieldPath::root("metadata").child("name"), name, why));
    }
    let at = spec_path().child("group");
    match (group, version) {
        ("", "v1") => {}
        ("", _) => {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required(&at, why));
        }
        _ => refuse(&at, group, names::dns1123_subdomain(group), errors),
    }
    refuse(&spec_path().child("version"), version, names::dns1035_label(version), errors);
}

fn service(spec: &api::APIServiceSpec, errors: &mut Errors) {
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let bundle_at = spec_path().child("caBundle");
    let insecure_at = spec_path().child("insecureSkipTLSVerify");
    let Some(service) = &spec.service else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&bundle_at, format!("{bundle} bytes"), why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&insecure_at, true, why));
        }
        return;
    };
    let at = spec_path().child("service");
    for (field, value) in [("namespace", &service.namespace), ("name", &service.name)] {
        if value.as_deref().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    if insecure && bundle > 0 {
        errors.push(FieldError::invalid(&insecure_at, true, "may not be true if caBundle is present"));
    }
}
