//! Table output: what `kubectl get` prints, made on the server.
//!
//! A table is columns, which come from the kind's [`Printer`], and a row for each object. Rows are made one by one, so
//! that a list of any length streams and a watch sends one row an event.

mod docs;
pub mod duration;
mod extras;
pub(crate) mod read;
mod stored;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(crate) use docs::describe;
pub use extras::{Place, places};
pub use stored::write_row;

use crate::meta;
use crate::resource::Resource;

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading in mixed case.
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column that names the object, otherwise empty.
    pub format: &'static str,
    /// What it means: a text, or the `type#field` whose description it is.
    pub description: &'static str,
    /// 0 is always shown, above only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column of text.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Column { name, kind: "string", format: "", description, priority: 0 }
    }

    /// A column of whole numbers.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Column { name, kind: "integer", format: "", description, priority: 0 }
    }

    /// A column of yes or no.
    pub const fn boolean(name: &'static str, description: &'static str) -> Self {
        Column { name, kind: "boolean", format: "", description, priority: 0 }
    }

    /// The same column, shown with `-o wide` alone.
    #[must_use]
    pub const fn wide(self) -> Self {
        Column { priority: 1, ..self }
    }

    /// The column of the object's name.
    pub const NAME: Column = Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "meta.v1.ObjectMeta#name",
        priority: 0,
    };

    /// The column of the time since the object was made.
    pub const AGE: Column = Column {
        name: "Age",
        kind: "string",
        format: "",
        description: "meta.v1.ObjectMeta#creationTimestamp",
        priority: 0,
    };
}

/// How objects of a kind are printed: the columns, and the cells of one object in the same order.
#[derive(Clone, Copy)]
pub struct Printer {
    /// All columns, wide ones too.
    pub columns: &'static [Column],
    /// The cells of an object at a time.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

impl Printer {
    /// Name and age, for kinds without columns of their own.
    pub const PLAIN: Printer = Printer { columns: &[Column::NAME, Column::AGE], cells: plain };

    /// Name and time of creation, which upstream shows of kinds that it has no printer for.
    pub const CREATED: Printer = Printer {
        columns: &[Column::NAME, Column { name: "Created At", kind: "date", ..Column::AGE }],
        cells: created,
    };
}

fn created(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), read::text(object, "/metadata/creationTimestamp").into()]
}

fn plain(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), read::age(object, now)]
}

/// What a row carries beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The object's metadata, as PartialObjectMetadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// Reads the query parameter `includeObject`; empty means the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Include::Metadata),
            "None" => Some(Include::None),
            "Object" => Some(Include::Object),
            _ => None,
        }
    }
}

/// The version of meta.k8s.io that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// meta.k8s.io/v1
    V1,
    /// meta.k8s.io/v1beta1
    V1Beta1,
}

impl Version {
    /// The version named in `v=` of an Accept header.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        }
    }

    /// As `apiVersion` has it.
    pub fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "meta.k8s.io/v1",
            Version::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The `columnDefinitions` of a resource.
pub fn column_definitions(resource: &Resource) -> Value {
    if let Some(custom) = resource.custom() {
        return custom.column_definitions();
    }
    resource
        .printer
        .columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format,
                "description": describe(c.description), "priority": c.priority,
            })
        })
        .collect()
}

/// The row of one object.
pub fn row(resource: &Resource, object: &Value, include: Include, version: Version, now: Timestamp) -> Value {
    let cells = match resource.custom() {
        Some(custom) => custom.cells(object, now),
        None => (resource.printer.cells)(object, now),
    };
    row_of(cells, extras::conditions(resource, object), object, include, version)
}

fn row_of(
    cells: Vec<Value>,
    conditions: Option<Value>,
    object: &Value,
    include: Include,
    version: Version,
) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), cells.into());
    row.extend(conditions.map(|conditions| ("conditions".to_owned(), conditions)));
    match include {
        Include::None => {}
        Include::Metadata => {
            row.insert("object".into(), partial_metadata(object, version));
        }
        Include::Object => {
            row.insert("object".into(), object.clone());
        }
    }
    row.into()
}

/// The table of a Scale (autoscaling/v1).
pub fn scale_table(scale: &Value, include: Include, version: Version, now: Timestamp) -> Value {
    let column = |name: &str, kind: &str, description: &'static str| json!({"name": name, "type": kind, "format": "", "description": describe(description), "priority": 0});
    let created = scale.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let cells = vec![
        scale["metadata"]["name"].clone(),
        scale["spec"]["replicas"].clone(),
        scale["status"]["replicas"].clone(),
        duration::since(created.and_then(|text| text.parse().ok()), now).into(),
    ];
    json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]},
        "columnDefinitions": [
            column("Name", "string", Column::NAME.description),
            column("Desired", "integer", "autoscaling.v1.ScaleSpec#replicas"),
            column("Available", "integer", "autoscaling.v1.ScaleStatus#replicas"),
            column("Age", "string", Column::AGE.description),
        ],
        "rows": [row_of(cells, None, scale, include, version)],
    })
}

/// A table of finished rows. `list_metadata` is the list's metadata (`resourceVersion`, `continue`, …); a watch sends the
/// definitions with its first event alone.
pub fn table(
    resource: &Resource,
    version: Version,
    list_metadata: Value,
    rows: Vec<Value>,
    definitions: bool,
) -> Value {
    let columns = if definitions { column_definitions(resource) } else { Value::Null };
    json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The metadata of an object as PartialObjectMetadata.
pub fn partial_metadata(object: &Value, version: Version) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| Map::new().into());
    json!({"kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": metadata})
}

/// The table that a Status is printed as.
pub fn status_table(status: &crate::Status, version: Version) -> Value {
    let columns = json!([
        {"name": "Status", "type": "string", "format": "", "description": describe("meta.v1.Status#status"), "priority": 0},
        {"name": "Reason", "type": "string", "format": "", "description": describe("meta.v1.Status#reason"), "priority": 0},
        {"name": "Message", "type": "string", "format": "", "description": "", "priority": 0},
    ]);
    let word = if status.is_success() { "Success" } else { "Failure" };
    json!({
        "kind": "Table", "apiVersion": version.api_version(), "metadata": {}, "columnDefinitions": columns,
        "rows": [{"cells": [word, status.reason, status.message], "object": status.to_value()}],
    })
}
