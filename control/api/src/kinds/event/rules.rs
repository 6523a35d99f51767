//! What events may look like: what all of them have to keep, and what those that come through events.k8s.io have to.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde::Serialize;

use crate::names;
use crate::status::{FieldError, FieldPath};
use crate::validate::{self, Errors, refuse, require, text};

/// Longest name of a sender, action or reason, and longest message, in bytes.
const MAX_WORD: usize = 128;
const MAX_MESSAGE: usize = 1024;

/// What every event keeps; the sender is called `sender_field` in the version that was written.
pub(super) fn old(event: &core::Event, sender_field: &str, errors: &mut Errors) {
    let own = text(&event.metadata.namespace);
    let object = text(&event.involved_object.namespace);
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
        sender(event, sender_field, errors);
    }
}

/// Who sent an event, and what about.
fn sender(event: &core::Event, field: &str, errors: &mut Errors) {
    let (at, component) = (FieldPath::root(field), text(&event.reporting_component));
    require(&at, component, errors);
    refuse(&at, component, names::qualified_name(component), errors);
    for (field, given) in [
        ("reportingInstance", text(&event.reporting_instance)),
        ("action", text(&event.action)),
        ("reason", text(&event.reason)),
    ] {
        require(&FieldPath::root(field), given, errors);
        at_most(field, given, MAX_WORD, errors);
    }
    at_most("message", text(&event.message), MAX_MESSAGE, errors);
}

fn at_most(field: &str, given: &str, most: usize, errors: &mut Errors) {
    if given.len() > most {
        let why = format!("can have at most {most} characters");
        errors.push(FieldError::invalid(&FieldPath::root(field), "", why));
    }
}

/// A new event through events.k8s.io: it has a time, and nothing that is deprecated. Paths are those of the stored form,
/// as upstream has them.
pub(super) fn create(event: &core::Event, errors: &mut Errors) {
    old(event, "reportingController", errors);
    series(event, errors);
    if event.event_time.is_none() {
        errors.push(FieldError::required(&FieldPath::root("eventTime"), ""));
    }
    let kind = text(&event.type_);
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid(&FieldPath::root("type"), "", why));
    }
    let source = event.source.as_ref();
    let has_source =
        source.is_some_and(|source| !text(&source.component).is_empty() || !text(&source.host).is_empty());
    let deprecated = [
        ("firstTimestamp", event.first_timestamp.is_some()),
        ("lastTimestamp", event.last_timestamp.is_some()),
        ("count", event.count.unwrap_or_default() != 0),
        ("source", has_source),
    ];
    for (field, _) in deprecated.iter().filter(|(_, is_set)| *is_set) {
        errors.push(FieldError::invalid(&FieldPath::root(field), "", "needs to be unset"));
    }
}

/// A change through events.k8s.io: the series goes on, and nothing else does.
pub(super) fn update(new: &core::Event, before: &core::Event, errors: &mut Errors) {
    old(new, "reportingController", errors);
    if new.series != before.series {
        series(new, errors);
    }
    same("involvedObject", &new.involved_object, &before.involved_object, errors);
    same("reason", text(&new.reason), text(&before.reason), errors);
    same("message", text(&new.message), text(&before.message), errors);
    let source = |event: &core::Event| event.source.clone().unwrap_or_default();
    same("source", &source(new), &source(before), errors);
    same("firstTimestamp", &new.first_timestamp, &before.first_timestamp, errors);
    same("lastTimestamp", &new.last_timestamp, &before.last_timestamp, errors);
    same("count", &new.count.unwrap_or_default(), &before.count.unwrap_or_default(), errors);
    same("type", text(&new.type_), text(&before.type_), errors);
    // Clients that keep no more than microseconds send the same time shorter.
    let micros =
        |event: &core::Event| event.event_time.as_ref().map(|time| time.0).map(Timestamp::as_microsecond);
    if micros(new) != micros(before) {
        same("eventTime", &new.event_time, &before.event_time, errors);
    }
    same("action", text(&new.action), text(&before.action), errors);
    same("related", &new.related, &before.related, errors);
    same("reportingController", text(&new.reporting_component), text(&before.reporting_component), errors);
    same("reportingInstance", text(&new.reporting_instance), text(&before.reporting_instance), errors);
}

fn same<T: PartialEq + Serialize + ?Sized>(field: &str, new: &T, old: &T, errors: &mut Errors) {
    if new != old {
        let at = FieldPath::root(field);
        errors.push(FieldError::invalid(&at, validate::shown(new), names::IMMUTABLE));
    }
}

/// An event that goes on has happened twice at least.
fn series(event: &core::Event, errors: &mut Errors) {
    let Some(series) = &event.series else { return };
    if series.count.unwrap_or_default() < 2 {
        errors.push(FieldError::invalid(&FieldPath::root("series.count"), "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        errors.push(FieldError::required(&FieldPath::root("series.lastObservedTime"), ""));
    }
}
