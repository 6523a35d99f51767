//! Events, in both groups over one storage.

mod print;
mod rules;

use std::borrow::Cow;

use k8s_openapi::api::{core as core_api, events};
use serde_json::Value;

use super::{BASE, core};
use crate::meta::{self, NameRule};
use crate::resource::{Conversion, Resource};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};
use crate::validate::Errors;

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
    conversion: Some(Conversion { to_storage, from_storage, rules: &Typed::<WrittenEventRules>::new() }),
    printer: print::EVENTS_GROUP,
    ..BASE
};

/// What is true of core events.
pub(super) struct CoreEventRules;

impl Rules for CoreEventRules {
    type Object = core_api::v1::Event;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    // Events are named after their objects, of which some have any name.
    const NAME: NameRule = NameRule::PathSegment;
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
        rules::old(event, "reportingComponent", errors);
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

/// What is true of writes through events.k8s.io, about the stored form.
pub(super) struct WrittenEventRules;

impl Rules for WrittenEventRules {
    type Object = core_api::v1::Event;

    const CREATE_ON_UPDATE: bool = true;

    fn validate(event: &Self::Object, errors: &mut Errors) {
        rules::create(event, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        rules::update(new, old, errors);
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

    // What is written is judged in the stored form.
}

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
    // Always there in core, and left out here when nothing is said in them.
    for name in ["reportingController", "reportingInstance"] {
        if fields.get(name).and_then(Value::as_str) == Some("") {
            fields.remove(name);
        }
    }
}
