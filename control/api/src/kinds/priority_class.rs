//! PriorityClasses.

use k8s_openapi::api::scheduling::v1 as scheduling;

use super::prelude::*;

/// The row of priorityclasses.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["pc"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer("Value", "scheduling.v1.PriorityClass#value"),
            Column::boolean("Global-Default", "scheduling.v1.PriorityClass#globalDefault"),
            Column::AGE,
            Column::text("PreemptionPolicy", "scheduling.v1.PriorityClass#preemptionPolicy"),
        ],
        cells,
    },
    ..row!(
        "scheduling.k8s.io" / "v1",
        "PriorityClass",
        "priorityclass",
        "priorityclasses",
        "scheduling",
        scheduling::PriorityClass,
        PriorityClassRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        read::integer(object, "/value").into(),
        (object.get("globalDefault") == Some(&Value::Bool(true))).into(),
        age(object, now),
        read::text(object, "/preemptionPolicy").into(),
    ]
}

/// Highest priority that is not the system's.
const HIGHEST: i32 = 1_000_000_000;
/// Names that begin so are the system's, and these are all.
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// What is true of priorityclasses.
pub(super) struct PriorityClassRules;

impl Rules for PriorityClassRules {
    type Object = scheduling::PriorityClass;

    const SCOPE: Scope = Scope::Cluster;
    const CREATE_ON_UPDATE: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(class: &mut Value) {
        if let Some(fields) = class.as_object_mut() {
            set(fields, "preemptionPolicy", "PreemptLowerPriority");
        }
    }

    fn validate(class: &Self::Object, errors: &mut Errors) {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        if name.starts_with(SYSTEM_PREFIX) {
            if let Some(why) = not_the_systems(name, class) {
                let why = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden(&FieldPath::root("metadata").child("name"), why));
            }
        } else if class.value > HIGHEST {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden(&FieldPath::root("value"), why));
        }
        if let Some(policy) = &class.preemption_policy {
            let at = FieldPath::root("preemptionPolicy");
            if require(&at, policy, errors) {
                one_in_order(&at, policy, &["PreemptLowerPriority", "Never"], errors);
            }
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        if new.value != old.value {
            let why = "may not be changed in an update.";
            errors.push(FieldError::forbidden(&FieldPath::root("value"), why));
        }
        let at = FieldPath::root("preemptionPolicy");
        validate::unchanged(&at, &new.preemption_policy, &old.preemption_policy, errors);
    }
}

fn not_the_systems(name: &str, class: &scheduling::PriorityClass) -> Option<String> {
    let Some((_, value)) = SYSTEM.iter().find(|(system, _)| *system == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if class.value != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    (class.global_default == Some(true))
        .then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
