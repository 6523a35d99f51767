//! The row that `kubectl get events` prints, from either form of an event.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::table::duration::since;
use crate::table::read::{integer, text, time};
use crate::table::{Column, Printer};

const COLUMNS: &[Column] = &[
    Column::text("Last Seen", "core.v1.Event#lastTimestamp"),
    Column::text("Type", "core.v1.Event#type"),
    Column::text("Reason", "core.v1.Event#reason"),
    Column::text("Object", "core.v1.Event#involvedObject"),
    Column::text("Subobject", "core.v1.ObjectReference#fieldPath").wide(),
    Column::text("Source", "core.v1.Event#source").wide(),
    Column::text("Message", "core.v1.Event#message"),
    Column::text("First Seen", "core.v1.Event#firstTimestamp").wide(),
    Column::text("Count", "core.v1.Event#count").wide(),
    Column { priority: 1, ..Column::NAME },
];

/// For core events.
pub(super) const CORE: Printer = Printer { columns: COLUMNS, cells: core_cells };
/// For events of events.k8s.io.
pub(super) const EVENTS_GROUP: Printer = Printer { columns: COLUMNS, cells: group_cells };

/// Where a form of events keeps what is printed, as JSON pointers.
struct Form {
    object: &'static str,
    message: &'static str,
    source: &'static str,
    controller: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
}

const CORE_FORM: Form = Form {
    object: "/involvedObject",
    message: "/message",
    source: "/source",
    controller: "/reportingComponent",
    first: "/firstTimestamp",
    last: "/lastTimestamp",
    count: "/count",
};

const GROUP_FORM: Form = Form {
    object: "/regarding",
    message: "/note",
    source: "/deprecatedSource",
    controller: "/reportingController",
    first: "/deprecatedFirstTimestamp",
    last: "/deprecatedLastTimestamp",
    count: "/deprecatedCount",
};

fn core_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    cells(event, &CORE_FORM, now)
}

fn group_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    cells(event, &GROUP_FORM, now)
}

fn cells(event: &Value, form: &Form, now: Timestamp) -> Vec<Value> {
    let first = time(event, form.first).or_else(|| time(event, "/eventTime"));
    let series = event.get("series");
    let last = match series {
        Some(series) => time(series, "/lastObservedTime"),
        None => time(event, form.last).or(first),
    };
    let count = match (series, integer(event, form.count)) {
        (Some(series), _) => integer(series, "/count"),
        (None, 0) => 1,
        (None, count) => count,
    };
    let object = event.pointer(form.object).unwrap_or(&Value::Null);
    let kind = text(object, "/kind").to_lowercase();
    let target = match text(object, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        since(last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        target.into(),
        text(object, "/fieldPath").into(),
        source(event, form).into(),
        text(event, form.message).trim().into(),
        since(first, now).into(),
        count.into(),
        meta::name(event).into(),
    ]
}

fn source(event: &Value, form: &Form) -> String {
    let source = event.pointer(form.source).unwrap_or(&Value::Null);
    let component = match text(source, "/component") {
        "" => text(event, form.controller),
        component => component,
    };
    let host = match text(source, "/host") {
        "" => text(event, "/reportingInstance"),
        host => host,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
