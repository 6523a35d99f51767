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
        columns: &[
            Column::NAME,
            Column::integer("Secrets", "How many secrets the account names."),
            Column::AGE,
        ],
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
}
