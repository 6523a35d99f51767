//! Events, in both groups over one storage.

mod print;

use std::borrow::Cow;

use k8s_openapi::api::{core as core_api, events};
use serde_json::Value;

use super::{BASE, core};
use crate::meta;
use crate::names;
use crate::resource::{Conversion, Resource};
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::validate::{Errors, refuse, require, text};

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
        let own = event.metadata.namespace.as_deref().unwrap_or_default();
        let object = event.involved_object.namespace.as_deref().unwrap_or_default();
        // An event lives where its object lives; one about an object without a namespace lives where events of such
        // are kept. Those that have a time of their own are of newer clients, who say who they are.
        let misplaced = match (event.event_time.is_some(), object) {
            (false, "") => !matches!(own, "" | "default"),
            (false, object) => object != own,
            (true, "") => !matches!(own, "default" | "kube-system"),
            (true, _) => false,
        };
        if misplaced {
            let at = FieldPath::root("involvedObject").child("namespace");
            errors.push(FieldError::invalid(&at, object, "does not match event.namespace"));
        }
        if event.event_time.is_some() {
            sender(event, errors);
        }
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

/// Who sent an event, and what about.
fn sender(event: &core_api::v1::Event, errors: &mut Errors) {
    let (at, component) = (FieldPath::root("reportingComponent"), text(&event.reporting_component));
    require(&at, component, errors);
    refuse(&at, component, names::qualified_name(component), errors);
    for (field, given) in [
        ("reportingInstance", text(&event.reporting_instance)),
        ("action", text(&event.action)),
        ("reason", text(&event.reason)),
    ] {
        let at = FieldPath::root(field);
        require(&at, given, errors);
        if given.len() > MAX_WORD {
            errors.push(FieldError::invalid(&at, "", format!("can have at most {MAX_WORD} characters")));
        }
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

    // What is written is judged in the stored form, by the rules above.
}

/// Longest name of a sender, action or reason, in bytes.
const MAX_WORD: usize = 128;

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
