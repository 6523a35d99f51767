//! CSIDrivers.

use k8s_openapi::api::storage::v1 as storage;

use crate::kinds::prelude::*;

/// The row of csidrivers.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::boolean("AttachRequired", "storage.v1.CSIDriverSpec#attachRequired"),
            Column::boolean("PodInfoOnMount", "storage.v1.CSIDriverSpec#podInfoOnMount"),
            Column::boolean("StorageCapacity", "storage.v1.CSIDriverSpec#storageCapacity"),
            Column::text("TokenRequests", "storage.v1.CSIDriverSpec#tokenRequests"),
            Column::boolean("RequiresRepublish", "storage.v1.CSIDriverSpec#requiresRepublish"),
            Column::text("Modes", "storage.v1.CSIDriverSpec#volumeLifecycleModes"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "storage.k8s.io" / "v1",
        "CSIDriver",
        "csidriver",
        "csidrivers",
        "storage",
        storage::CSIDriver,
        DriverRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let flag = |field: &str, absent: bool| -> Value {
        object.pointer(field).and_then(Value::as_bool).unwrap_or(absent).into()
    };
    let tokens: Vec<&str> =
        read::list(object, "/spec/tokenRequests").iter().map(|t| read::text(t, "/audience")).collect();
    let tokens = if tokens.is_empty() { "<unset>".to_owned() } else { tokens.join(",") };
    let modes: Vec<&str> =
        read::list(object, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let modes = if modes.is_empty() { "<none>".to_owned() } else { modes.join(",") };
    vec![
        meta::name(object).into(),
        flag("/spec/attachRequired", true),
        flag("/spec/podInfoOnMount", false),
        flag("/spec/storageCapacity", false),
        tokens.into(),
        flag("/spec/requiresRepublish", false),
        modes.into(),
        age(object, now),
    ]
}

/// Shortest life of a token, in seconds.
const MIN_TOKEN_SECONDS: i64 = 600;
/// Longest life of a token, in seconds.
const MAX_TOKEN_SECONDS: i64 = 1 << 32;
/// Shortest wait between two updates of what a node can hold, in seconds.
const MIN_PERIOD_SECONDS: i64 = 10;

/// What is true of csidrivers.
pub(in crate::kinds) struct DriverRules;

impl Rules for DriverRules {
    type Object = storage::CSIDriver;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(driver: &mut Value) {
        let Some(spec) = spec_of(driver) else { return };
        set(spec, "attachRequired", true);
        for flag in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            set(spec, flag, false);
        }
        set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    }

    fn validate(driver: &Self::Object, errors: &mut Errors) {
        let (spec, path) = (&driver.spec, spec_path());
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        let policy = validate::text(&spec.fs_group_policy);
        one_of(&path.child("fsGroupPolicy"), policy, &policies, errors);
        tokens(validate::list(&spec.token_requests), &path.child("tokenRequests"), errors);
        let at = path.child("volumeLifecycleModes");
        for mode in validate::list(&spec.volume_lifecycle_modes) {
            one_in_order(&at, mode, &["Persistent", "Ephemeral"], errors);
        }
        if let Some(seconds) = spec.node_allocatable_update_period_seconds.filter(|s| *s < MIN_PERIOD_SECONDS)
        {
            let at = path.child("nodeAllocatableUpdatePeriodSeconds");
            let why = format!("must be greater than or equal to {MIN_PERIOD_SECONDS} seconds");
            errors.push(FieldError::invalid(&at, seconds, why));
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let (new, old, path) = (&new.spec, &old.spec, spec_path());
        // The driver is called in quite another order with it.
        validate::unchanged(
            // The path is upstream's.
            &path.child("attachedRequired"),
            &new.attach_required,
            &old.attach_required,
            errors,
        );
        let at = path.child("volumeLifecycleModes");
        validate::unchanged(&at, &new.volume_lifecycle_modes, &old.volume_lifecycle_modes, errors);
    }
}

/// Tokens of a driver, one for each audience.
fn tokens(tokens: &[storage::TokenRequest], path: &FieldPath, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let at = path.index(index);
        if !seen.insert(&token.audience) {
            errors.push(FieldError::duplicate(&at.child("audience"), token.audience.as_str()));
            continue;
        }
        let why = match token.expiration_seconds.unwrap_or(MIN_TOKEN_SECONDS) {
            seconds if seconds < MIN_TOKEN_SECONDS => "may not specify a duration less than 10 minutes",
            seconds if seconds > MAX_TOKEN_SECONDS => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        errors.push(FieldError::invalid(&at.child("expirationSeconds"), token.expiration_seconds, why));
    }
}
