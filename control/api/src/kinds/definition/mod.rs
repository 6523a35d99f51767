//! CustomResourceDefinition: the kind that makes kinds. What becomes of one is in [`crate::custom`].

mod check;
mod conversion;
mod openapi;
mod shape;
mod versions;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;

use super::prelude::*;
use crate::custom::{FINALIZER, condition};
use crate::schema::TypeRef;
use crate::table::read::{list, text};

pub(super) const RESOURCE: Resource = Resource {
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    subresources: &[status(gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"))],
    schema: TypeRef::of::<apiextensions::CustomResourceDefinition>(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ),
    storage_prefix: "/registry/apiextensions.k8s.io/customresourcedefinitions/",
    printer: Printer::CREATED,
    ..row!(
        "apiextensions.k8s.io" / "v1",
        "CustomResourceDefinition",
        "customresourcedefinition",
        "customresourcedefinitions",
        "apiextensions",
        apiextensions::CustomResourceDefinition,
        DefinitionRules
    )
};

pub(super) struct DefinitionRules;

impl Rules for DefinitionRules {
    /// Schemas are judged as they are written: types would lose what is absent.
    type Object = Value;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const SELECTABLE: &'static [&'static str] = &["metadata.name"];

    fn default(definition: &mut Value) {
        let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else { return };
        if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
                if !kind.is_empty() && names.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                    names.insert(field.into(), value.into());
                }
            }
        }
        let conversion = spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
        if let Some(service) = conversion.pointer_mut("/webhook/clientConfig/service")
            && let Some(service) = service.as_object_mut()
        {
            service.entry("port").or_insert_with(|| 443.into());
        }
        if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
            spec.remove("preserveUnknownFields");
        }
    }

    fn prepare_create(definition: &mut Value) {
        store_version(definition);
    }

    fn prepare_update(new: &mut Value, _old: &Value) {
        store_version(new);
    }

    fn prepare_delete(definition: &mut Value, now: Timestamp) {
        let mut finalizers: Vec<Value> = crate::meta::finalizers(definition).map(Into::into).collect();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
            crate::meta::set(definition, "finalizers", finalizers);
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will be initiated by \
                       the controller";
        crate::custom::set_condition(
            definition,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            message,
            now,
        );
    }

    fn validate(definition: &Value, errors: &mut Errors) {
        check::identity(definition, errors);
        check::spec(&definition["spec"], None, errors);
        check::rest(definition, None, errors);
    }

    fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
        check::spec(&new["spec"], Some(&old["spec"]), errors);
        check::rest(new, Some(old), errors);
        let spec = FieldPath::root("spec");
        let mut fixed = vec!["/group", "/names/plural"];
        if condition(old, "Established") == "True" {
            fixed.extend(["/scope", "/names/kind"]);
        }
        for pointer in fixed {
            let (is, was) = (text(&new["spec"], pointer), text(&old["spec"], pointer));
            if is != was {
                let path = pointer.split('/').skip(1).fold(spec.clone(), |path, field| path.child(field));
                errors.push(FieldError::invalid(&path, is, crate::names::IMMUTABLE));
            }
        }
    }

    fn validate_status_update(new: &Value, _old: &Value, errors: &mut Errors) {
        let path = FieldPath::root("status").child("acceptedNames");
        check::names(&new["status"]["acceptedNames"], &path, errors);
    }

    fn warnings(definition: &Value, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        for version in list(definition, "/spec/versions") {
            openapi::warnings(&version["schema"]["openAPIV3Schema"], warnings);
        }
    }
}

/// Notes the storage version among those that objects may be stored in.
fn store_version(definition: &mut Value) {
    let storage = list(definition, "/spec/versions").iter().find(|v| v["storage"] == true);
    let Some(name) = storage.map(|v| v["name"].clone()) else { return };
    let Some(fields) = definition.as_object_mut() else { return };
    let status = fields.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else { return };
    status.entry("acceptedNames").or_insert_with(|| json!({"kind": "", "plural": ""}));
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(stored) = stored.as_array_mut().filter(|stored| !stored.contains(&name)) {
        stored.push(name);
    }
}
