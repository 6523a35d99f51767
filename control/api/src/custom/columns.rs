//! `additionalPrinterColumns`: what `kubectl get` shows of custom resources.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::path::JsonPath;
use crate::meta;
use crate::table::{Column, describe, duration};

/// A printed column.
#[derive(Debug)]
pub(super) struct PrinterColumn {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: JsonPath,
}

impl PrinterColumn {
    /// Reads a column of a definition; `None` when its path cannot be read, as upstream leaves such a column out.
    fn parse(column: &Value) -> Option<Self> {
        let text = |field: &str| column.get(field).and_then(Value::as_str).unwrap_or_default();
        let described = match text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath")),
            own => own.to_owned(),
        };
        Some(PrinterColumn {
            name: text("name").to_owned(),
            kind: text("type").to_owned(),
            format: text("format").to_owned(),
            description: described,
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            path: JsonPath::parse(text("jsonPath")).ok()?,
        })
    }

    /// The columns of a version: its own, or the age.
    pub(super) fn all(version: &Value) -> Vec<Self> {
        let own = version.get("additionalPrinterColumns").and_then(Value::as_array);
        match own.map(Vec::as_slice) {
            None | Some([]) => PrinterColumn::parse(&json!({
                "name": Column::AGE.name, "type": "date", "description": describe(Column::AGE.description),
                "jsonPath": ".metadata.creationTimestamp",
            }))
            .into_iter()
            .collect(),
            Some(columns) => columns.iter().filter_map(PrinterColumn::parse).collect(),
        }
    }

    /// The `columnDefinitions` entry.
    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(first) = found.first() else { return Value::Null };
        match self.kind.as_str() {
            "integer" => match first {
                Value::Number(n) if n.is_f64() => (n.as_f64().unwrap_or_default() as i64).into(),
                Value::Number(_) => (*first).clone(),
                _ => Value::Null,
            },
            "number" => {
                if first.is_number() {
                    (*first).clone()
                } else {
                    Value::Null
                }
            }
            "boolean" => {
                if first.is_boolean() {
                    (*first).clone()
                } else {
                    Value::Null
                }
            }
            "string" => printed(first).into(),
            "date" => match first.as_str() {
                Some(text) => match text.parse::<Timestamp>() {
                    Ok(time) => duration::since(Some(time), now).into(),
                    Err(_) => "<invalid>".into(),
                },
                None => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

/// A value as text: what is no text is JSON.
fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The `columnDefinitions` of a version with these columns: the name comes first.
pub(super) fn definitions(columns: &[PrinterColumn]) -> Value {
    let name = json!({
        "name": Column::NAME.name, "type": Column::NAME.kind, "format": Column::NAME.format,
        "description": describe(Column::NAME.description), "priority": 0,
    });
    std::iter::once(name).chain(columns.iter().map(PrinterColumn::definition)).collect()
}

/// The cells of an object.
pub(super) fn cells(columns: &[PrinterColumn], object: &Value, now: Timestamp) -> Vec<Value> {
    let name = Value::from(meta::name(object));
    std::iter::once(name).chain(columns.iter().map(|column| column.cell(object, now))).collect()
}
