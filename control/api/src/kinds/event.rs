//! Events, in both groups over one storage.

mod print;

use std::borrow::Cow;

use k8s_openapi::api::{core as core_api, events};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{BASE, core};
use crate::meta;
use crate::resource::{Conversion, Resource};
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::validate::{Errors, require, require_one_of};

/// The row of core events, which is also how they are stored.
pub(super) const CORE: Resource = Resource {
    kind: "Event",
    list_kind: "EventList",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage_prefix: "/registry/events/",
    storage: core("v1", "Event"),
    strategy: &Typed::<CoreEventRules>::new(),
    schema: TypeRef::of::<core_api::v1::Event>("io.k8s.api.core.v1.Event"),
    printer: print::CORE,
    ..BASE
};

/// The row of events.k8s.io.
pub(super) const EVENTS_GROUP: Resource = Resource {
    group: "events.k8s.io",
    api_version: "events.k8s.io/v1",
    kind: "Event",
    list_kind: "EventList",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage_prefix: "/registry/events/",
    storage: core("v1", "Event"),
    strategy: &Typed::<EventRules>::new(),
    schema: TypeRef::of::<events::v1::Event>("io.k8s.api.events.v1.Event"),
    conversion: Some(Conversion { to_storage, from_storage }),
    printer: print::EVENTS_GROUP,
    ..BASE
};

/// What is true of core events.
pub(super) struct CoreEventRules;

impl Rules for CoreEventRules {
    type Object = core_api::v1::Event;

    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [&'static str] = &[
        "metadata.name",
        "metadata.namespace",
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ];

    fn validate(event: &Self::Object, errors: &mut Errors) {
        let object = &event.involved_object;
        namespace(&event.metadata, object.namespace.as_deref(), &FieldPath::root("involvedObject"), errors);
    }

    fn selectable<'a>(event: &'a Value, field: &str) -> Cow<'a, str> {
        match field {
            "source" => match meta::text_at(event, "source.component") {
                Cow::Borrowed("") => meta::text_at(event, "reportingComponent"),
                component => component,
            },
            _ => meta::text_at(event, field),
        }
    }
}

/// An event lives where its object lives; one about an object without a namespace lives in `default` or where its
/// sender is at home.
fn namespace(metadata: &ObjectMeta, object: Option<&str>, path: &FieldPath, errors: &mut Errors) {
    let own = metadata.namespace.as_deref().unwrap_or_default();
    let object = object.unwrap_or_default();
    if !object.is_empty() && object != own {
        let at = path.child("namespace");
        errors.push(FieldError::invalid(&at, object, "does not match event.namespace"));
    }
}

/// What is true of events of events.k8s.io.
pub(super) struct EventRules;

impl Rules for EventRules {
    type Object = events::v1::Event;

    const CREATE_ON_UPDATE: bool = true;
    const SELECTABLE: &'static [&'static str] = &[
        "metadata.name",
        "metadata.namespace",
        "reason",
        "regarding.apiVersion",
        "regarding.fieldPath",
        "regarding.kind",
        "regarding.name",
        "regarding.namespace",
        "regarding.resourceVersion",
        "regarding.uid",
        "reportingController",
        "type",
    ];

    fn validate(event: &Self::Object, errors: &mut Errors) {
        let object = event.regarding.as_ref().and_then(|r| r.namespace.as_deref());
        namespace(&event.metadata, object, &FieldPath::root("regarding"), errors);
        if event.event_time.is_none() {
            errors.push(FieldError::required(&FieldPath::root("eventTime"), ""));
        }
        for (field, text, limit) in [
            ("reportingController", &event.reporting_controller, 63),
            ("reportingInstance", &event.reporting_instance, 128),
            ("action", &event.action, 128),
            ("reason", &event.reason, 128),
        ] {
            let at = FieldPath::root(field);
            if require(&at, text.as_deref().unwrap_or_default(), errors)
                && text.as_ref().is_some_and(|t| t.len() > limit)
            {
                let why = format!("can have at most {limit} characters");
                errors.push(FieldError::invalid(&at, text.as_deref(), why));
            }
        }
        let note = event.note.as_deref().unwrap_or_default();
        if note.len() > MAX_NOTE {
            let why = format!("can have at most {MAX_NOTE} characters");
            errors.push(FieldError::invalid(&FieldPath::root("note"), "", why));
        }
        let kind = event.type_.as_deref().unwrap_or_default();
        require_one_of(&FieldPath::root("type"), kind, &["Normal", "Warning"], errors);
    }

    // Core clients update the same objects and leave out what is only wanted of new ones.
    fn validate_update(_new: &Self::Object, _old: &Self::Object, _errors: &mut Errors) {}
}

/// Longest note, in bytes.
const MAX_NOTE: usize = 1024;

/// Fields by their name in events.k8s.io and in core.
const RENAMED: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
];

fn to_storage(event: &mut Value) {
    let Some(fields) = event.as_object_mut() else { return };
    fields.insert("apiVersion".into(), "v1".into());
    for (there, here) in RENAMED {
        if let Some(value) = fields.remove(*there) {
            fields.insert((*here).to_owned(), value);
        }
    }
}

fn from_storage(event: &mut Value) {
    let Some(fields) = event.as_object_mut() else { return };
    fields.insert("apiVersion".into(), "events.k8s.io/v1".into());
    for (there, here) in RENAMED {
        if let Some(value) = fields.remove(*here) {
            fields.insert((*there).to_owned(), value);
        }
    }
}
