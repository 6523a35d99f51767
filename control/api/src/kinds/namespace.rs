//! Namespaces.

use jiff::Timestamp;
use k8s_openapi::api::core as core_api;
use serde_json::{Value, json};

use super::{BASE, core, status};
use crate::meta::{self, NameRule};
use crate::names;
use crate::resource::{Resource, Scope, Subresource, Verb};
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{self, age, text};
use crate::table::{Column, Printer};
use crate::validate::{Errors, list, refuse};

/// The row of namespaces.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Namespace",
    list_kind: "NamespaceList",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    scope: Scope::Cluster,
    // Upstream has no deletion of all namespaces at once.
    verbs: &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch],
    subresources: &[
        Subresource { name: "finalize", kind: core("v1", "Namespace"), verbs: &[Verb::Update] },
        status(core("v1", "Namespace")),
    ],
    storage_prefix: "/registry/namespaces/",
    storage: core("v1", "Namespace"),
    strategy: &Typed::<NamespaceRules>::new(),
    schema: TypeRef::of::<core_api::v1::Namespace>("io.k8s.api.core.v1.Namespace"),
    printer: Printer {
        columns: &[Column::NAME, Column::text("Status", "The status of the namespace"), Column::AGE],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), text(object, "/status/phase").into(), age(object, now)]
}

/// The label that lets selectors choose a namespace by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What is true of namespaces.
pub(super) struct NamespaceRules;

impl Rules for NamespaceRules {
    type Object = core_api::v1::Namespace;

    const SCOPE: Scope = Scope::Cluster;
    const NAME: NameRule = NameRule::Label;
    const HAS_STATUS: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "status.phase"];

    fn default(namespace: &mut Value) {
        let name = meta::name(namespace).to_owned();
        let Some(metadata) = meta::metadata_mut(namespace).filter(|_| !name.is_empty()) else { return };
        if let Some(labels) = crate::defaults::make_object(metadata, "labels") {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }

    fn prepare_create(namespace: &mut Value) {
        // A generated name is known only now.
        Self::default(namespace);
        let Some(fields) = namespace.as_object_mut() else { return };
        fields.insert("status".into(), json!({"phase": "Active"}));
        let Some(spec) = crate::defaults::make_object(fields, "spec") else { return };
        let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(all) = finalizers.as_array_mut()
            && !all.iter().any(|f| f == "kubernetes")
        {
            all.push("kubernetes".into());
        }
    }

    fn prepare_update(new: &mut Value, old: &Value) {
        // Only the `finalize` subresource changes these.
        if let Some(finalizers) = old.pointer("/spec/finalizers") {
            let finalizers = finalizers.clone();
            let Some(fields) = new.as_object_mut() else { return };
            if let Some(spec) = crate::defaults::make_object(fields, "spec") {
                spec.insert("finalizers".into(), finalizers);
            }
        }
    }

    fn validate(namespace: &Self::Object, errors: &mut Errors) {
        let finalizers = namespace.spec.as_ref().map(|spec| list(&spec.finalizers)).unwrap_or_default();
        let path = FieldPath::root("spec").child("finalizers");
        finalizers.iter().for_each(|name| finalizer(name, &path, errors));
    }

    // Nothing of a namespace but its metadata can be changed so.
    fn validate_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut Errors) {}

    fn prepare_part_update(part: &str, new: &mut Value, old: &Value) -> bool {
        let finalizers = new.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
        new.clone_from(old);
        let spec = new.as_object_mut().and_then(|fields| crate::defaults::make_object(fields, "spec"));
        if let Some(spec) = spec {
            spec.insert("finalizers".into(), finalizers);
        }
        part == "finalize"
    }

    fn validate_part_update(_part: &str, new: &Value, _old: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec").child("finalizers");
        for (index, name) in read::list(new, "/spec/finalizers").iter().enumerate() {
            finalizer(name.as_str().unwrap_or_default(), &path.index(index), errors);
        }
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let (allowed, deleted) =
            if new.metadata.deletion_timestamp.is_none() { ("Active", "") } else { ("Terminating", "not ") };
        let phase = new.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if phase != allowed {
            let why = format!("may only be '{allowed}' if `deletionTimestamp` is {deleted}empty");
            // The path is upstream's.
            errors.push(FieldError::invalid(&FieldPath::root("status").child("Phase"), phase, why));
        }
    }
}

/// Finalizers without a domain.
const STANDARD: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

fn finalizer(name: &str, path: &FieldPath, errors: &mut Errors) {
    refuse(path, name, names::qualified_name(name), errors);
    if !name.contains('/') && !STANDARD.contains(&name) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, name, why));
    }
}
