//! Leases.

use jiff::Timestamp;
use k8s_openapi::api::coordination;
use serde_json::Value;

use super::{BASE, gvk};
use crate::meta;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, text};
use crate::table::{Column, Printer};
use crate::validate::{Errors, not_negative};

/// The row of leases.
pub(super) const RESOURCE: Resource = Resource {
    group: "coordination.k8s.io",
    api_version: "coordination.k8s.io/v1",
    kind: "Lease",
    list_kind: "LeaseList",
    plural: "leases",
    singular: "lease",
    storage_prefix: "/registry/leases/",
    storage: gvk("coordination.k8s.io", "v1", "Lease"),
    strategy: &Typed::<LeaseRules>::new(),
    schema: TypeRef::of::<coordination::v1::Lease>("io.k8s.api.coordination.v1.Lease"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Holder", "coordination.v1.LeaseSpec#holderIdentity"),
            Column::AGE,
        ],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), text(object, "/spec/holderIdentity").into(), age(object, now)]
}

/// What is true of leases.
pub(super) struct LeaseRules;

impl Rules for LeaseRules {
    type Object = coordination::v1::Lease;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_create(lease: &mut Value) {
        drop_gated(lease, None);
    }

    fn prepare_update(new: &mut Value, old: &Value) {
        drop_gated(new, Some(old));
    }

    fn validate(lease: &Self::Object, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        let Some(spec) = &lease.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds.filter(|s| *s <= 0) {
            let at = path.child("leaseDurationSeconds");
            errors.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
        }
        if let Some(count) = spec.lease_transitions {
            not_negative(&path.child("leaseTransitions"), i64::from(count), errors);
        }
        // An empty holder says that nobody holds the lease; upstream's clients release theirs so.
    }
}

/// Elections by strategy are behind a gate that is closed in 1.35: what is new of them is dropped, as upstream has it.
fn drop_gated(lease: &mut Value, old: Option<&Value>) {
    let Some(spec) = lease.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["strategy", "preferredHolder"] {
        let known = old.and_then(|old| old.get("spec")?.get(field)).is_some_and(|value| !value.is_null());
        if !known {
            spec.remove(field);
        }
    }
}
