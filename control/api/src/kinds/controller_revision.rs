//! ControllerRevisions: the history of DaemonSets and StatefulSets.

use k8s_openapi::api::apps::v1 as apps;

use super::prelude::*;

/// The row of controllerrevisions.
pub(super) const RESOURCE: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Controller", "Controller of the object"),
            Column::text("Revision", "apps.v1.ControllerRevision#revision"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "apps" / "v1",
        "ControllerRevision",
        "controllerrevision",
        "controllerrevisions",
        "apps",
        apps::ControllerRevision,
        ControllerRevisionRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let controller = meta::controller_of(object).map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
            let kind = owner.kind.to_lowercase();
            if group.is_empty() {
                format!("{kind}/{}", owner.name)
            } else {
                format!("{kind}.{group}/{}", owner.name)
            }
        },
    );
    vec![
        meta::name(object).into(),
        controller.into(),
        read::integer(object, "/revision").into(),
        age(object, now),
    ]
}

/// What is true of controllerrevisions.
pub(super) struct ControllerRevisionRules;

impl Rules for ControllerRevisionRules {
    type Object = apps::ControllerRevision;

    fn validate_presence(object: &Value, errors: &mut Errors) {
        if object.get("data").is_none_or(Value::is_null) {
            errors.push(FieldError::required(&FieldPath::root("data"), "data is mandatory"));
        }
    }

    fn validate(revision: &Self::Object, errors: &mut Errors) {
        not_negative(&FieldPath::root("revision"), revision.revision, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        validate::unchanged(&FieldPath::root("data"), &new.data, &old.data, errors);
    }
}
