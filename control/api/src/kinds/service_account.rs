//! ServiceAccounts.

use jiff::Timestamp;
use k8s_openapi::api::core as core_api;
use serde_json::Value;

use super::{BASE, POST, core, gvk};
use crate::meta;
use crate::resource::{Resource, Subresource};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, list};
use crate::table::{Column, Printer};

/// The row of serviceaccounts.
pub(super) const RESOURCE: Resource = Resource {
    kind: "ServiceAccount",
    list_kind: "ServiceAccountList",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        kind: gvk("authentication.k8s.io", "v1", "TokenRequest"),
        verbs: POST,
    }],
    storage_prefix: "/registry/serviceaccounts/",
    storage: core("v1", "ServiceAccount"),
    strategy: &Typed::<ServiceAccountRules>::new(),
    schema: TypeRef::of::<core_api::v1::ServiceAccount>("io.k8s.api.core.v1.ServiceAccount"),
    printer: Printer {
        columns: &[Column::NAME, Column::text("Secrets", "core.v1.ServiceAccount#secrets"), Column::AGE],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), list(object, "/secrets").len().into(), age(object, now)]
}

/// What is true of serviceaccounts.
pub(super) struct ServiceAccountRules;

impl Rules for ServiceAccountRules {
    type Object = core_api::v1::ServiceAccount;

    fn prepare_create(account: &mut Value) {
        names_alone(account);
    }

    fn prepare_update(new: &mut Value, _old: &Value) {
        names_alone(new);
    }

    fn warnings(new: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";
        if new.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ENFORCED)) {
            let why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
            warnings.push(format!("metadata.annotations[{ENFORCED}]: {why}"));
        }
    }
}

/// Secrets of an account are in its namespace and are known by their names, whatever else is said of them.
fn names_alone(account: &mut Value) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}
