//! `metadata.managedFields`: which manager set which fields, by what operation, and when.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::set::Set;
use crate::meta;

/// How many managers of updates an object has at most; upstream's figure. The oldest are put together beyond.
pub(super) const MAX_UPDATERS: usize = 10;
/// The name of what is put together.
const ANCIENT: &str = "ancient-changes";
/// Fields of metadata that nobody manages but the server.
const SERVER_METADATA: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// One manager's entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: String,
    pub(super) fields: Set,
}

impl Entry {
    /// What tells a manager from others. One that applies has one entry for all versions.
    fn identity(&self) -> (Operation, &str, &str, &str) {
        let version = if self.operation == Operation::Apply { "" } else { &self.api_version };
        (self.operation, &self.manager, &self.subresource, version)
    }

    /// Whether both stand for the same manager.
    pub(super) fn is_same(&self, other: &Entry) -> bool {
        self.identity() == other.identity()
    }

    /// Adds what another entry of the same manager manages.
    fn unite(&mut self, other: Entry) {
        self.fields.unite(other.fields);
        self.time = other.time;
    }

    /// The manager as messages name it.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text += &format!(" using {}", self.api_version);
            if !self.time.is_empty() {
                text += &format!(" at {}", self.time);
            }
        }
        text
    }

    fn from_json(value: &Value) -> Option<Entry> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if !matches!(text("fieldsType").as_str(), "" | "FieldsV1") {
            return None;
        }
        Some(Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: value.get("fieldsV1").map_or(Some(Set::default()), Set::from_json)?,
        })
    }

    fn into_json(self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("manager", self.manager),
            ("apiVersion", self.api_version),
            ("time", self.time),
            ("subresource", self.subresource),
        ];
        for (name, text) in texts {
            if !text.is_empty() {
                out.insert(name.into(), text.into());
            }
        }
        out.insert("operation".into(), self.operation.as_str().into());
        out.insert("fieldsType".into(), "FieldsV1".into());
        out.insert("fieldsV1".into(), self.fields.into_json());
        out.into()
    }
}

/// All entries of an object; none that manages nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers {
    pub(super) entries: Vec<Entry>,
}

impl Managers {
    /// The entries of an object; `None` when one of them cannot be read.
    pub(super) fn of(object: &Value) -> Option<Managers> {
        let list = meta::metadata(object).and_then(|m| m.get("managedFields")).and_then(Value::as_array);
        let entries: Option<Vec<Entry>> = list.into_iter().flatten().map(Entry::from_json).collect();
        Some(Managers::gathered(entries?))
    }

    /// These entries, those of the same manager as one. A client may bring tens of thousands along.
    fn gathered(entries: Vec<Entry>) -> Managers {
        let mut places = HashMap::new();
        let place = |entry| {
            let next = places.len();
            *places.entry(Entry::identity(entry)).or_insert(next)
        };
        let wanted: Vec<usize> = entries.iter().map(place).collect();
        let mut managers = Managers::default();
        for (entry, at) in entries.into_iter().zip(wanted) {
            match managers.entries.get_mut(at) {
                Some(known) => known.unite(entry),
                None => managers.entries.push(entry),
            }
        }
        managers
    }

    /// The entries that a write starts from: those that the request brings along, if it brings any that can be read, so
    /// that clients can edit them and those that know nothing of them do not delete them. One empty entry resets all.
    pub(super) fn of_write(old: &Value, new: &Value, subresource: &str) -> Managers {
        if subresource.is_empty() {
            let brought = meta::metadata(new).and_then(|m| m.get("managedFields")).and_then(Value::as_array);
            if let Some([Value::Object(only)]) = brought.map(Vec::as_slice)
                && only.is_empty()
            {
                return Managers::default();
            }
            if let Some(managers) = Managers::of(new).filter(|managers| !managers.entries.is_empty()) {
                return managers;
            }
        }
        Managers::of(old).unwrap_or_default()
    }

    /// Adds what an entry manages to the same manager's.
    pub(super) fn unite(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|known| known.is_same(&entry)) {
            Some(known) => known.unite(entry),
            None => self.entries.push(entry),
        }
    }

    /// Writes the entries into an object: without what only the server manages, at most so many, in upstream's order.
    pub(super) fn store(mut self, object: &mut Value) {
        for entry in &mut self.entries {
            strip(&mut entry.fields);
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.cap();
        self.entries.sort_by_cached_key(|e| {
            (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone())
        });
        let Some(metadata) = meta::metadata_mut(object) else { return };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries: Vec<Value> = self.entries.into_iter().map(Entry::into_json).collect();
            metadata.insert("managedFields".into(), entries.into());
        }
    }

    /// Puts the oldest managers of updates together when there are too many.
    fn cap(&mut self) {
        let (applied, mut updaters): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| entry.operation == Operation::Apply);
        updaters.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
        let excess = (updaters.len() + 1).saturating_sub(MAX_UPDATERS);
        let ancient = if updaters.len() > MAX_UPDATERS { excess } else { 0 };
        for entry in updaters.iter_mut().take(ancient) {
            entry.manager = ANCIENT.to_owned();
            entry.subresource.clear();
        }
        *self = Managers::gathered(applied.into_iter().chain(updaters).collect());
    }
}

/// Takes out what only the server manages.
pub(super) fn strip(fields: &mut Set) {
    fields.remove_field("apiVersion");
    fields.remove_field("kind");
    fields.remove_in_metadata(SERVER_METADATA);
}

/// Times as entries carry them.
pub(super) fn time(now: Timestamp) -> String {
    meta::format_time(now)
}
