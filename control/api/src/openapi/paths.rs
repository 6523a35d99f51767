//! The paths of a resource with their operations, as far as clients look at them: kind, action, parameters, bodies.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::schemas::{list_name, reference};
use crate::patch::PatchKind;
use crate::resource::{GroupVersionKind, Resource, Scope, Verb};
use crate::schema::bodies;

/// Parameters of operations that write.
const WRITE: &[(&str, &str)] = &[
    ("dryRun", "When present, indicates that modifications should not be persisted. Valid values are: - All"),
    ("fieldManager", "A name associated with the actor or entity that is making these changes."),
    ("fieldValidation", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
];
/// Parameters of operations that read collections.
const LIST: &[(&str, &str)] = &[
    ("continue", "Where a list that was cut off by limit goes on."),
    ("fieldSelector", "A selector to restrict the list of returned objects by their fields."),
    ("labelSelector", "A selector to restrict the list of returned objects by their labels."),
    ("limit", "The largest number of objects to return."),
    ("resourceVersion", "A constraint on what resource versions a request may be served from."),
    ("resourceVersionMatch", "How resourceVersion is applied to list calls."),
    ("timeoutSeconds", "Timeout for the list or watch call."),
    ("watch", "Watch for changes to the described resources."),
];
/// Parameters of deletions.
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "When present, indicates that modifications should not be persisted. Valid values are: - All"),
    ("gracePeriodSeconds", "The duration in seconds before the object should be deleted."),
    ("propagationPolicy", "Whether and how garbage collection will be performed."),
];

/// Adds all paths of a resource.
pub(super) fn add(paths: &mut Map<String, Value>, resource: &Resource, dialect: Dialect) {
    let root = resource.root_path();
    let base = match resource.scope {
        Scope::Namespaced => format!("{root}/namespaces/{{namespace}}/{}", resource.plural),
        Scope::Cluster => format!("{root}/{}", resource.plural),
    };
    let operation = |verb, kind| Operation { resource, dialect, verb, kind };
    let kind = resource.gvk();
    if resource.scope == Scope::Namespaced && resource.allows(Verb::List) {
        let all = operation(Verb::List, kind).value();
        paths.insert(format!("{root}/{}", resource.plural), json!({"get": all}));
    }
    let mut collection = Map::new();
    let mut item = Map::new();
    for verb in resource.verbs {
        match method(*verb) {
            Some((name, true)) => collection.insert(name.into(), operation(*verb, kind).value()),
            Some((name, false)) => item.insert(name.into(), operation(*verb, kind).value()),
            None => None,
        };
    }
    let parameters = |named: bool| {
        let mut out = Vec::new();
        if resource.scope == Scope::Namespaced {
            out.push(parameter("namespace", "path", "object name and auth scope", dialect));
        }
        if named {
            out.push(parameter("name", "path", "name of the object", dialect));
        }
        out
    };
    insert(paths, base.clone(), collection, parameters(false));
    insert(paths, format!("{base}/{{name}}"), item, parameters(true));
    for sub in resource.subresources() {
        let mut operations = Map::new();
        for verb in sub.verbs {
            if let Some((name, _)) = method(*verb) {
                operations.insert(name.into(), operation(*verb, sub.kind).value());
            }
        }
        insert(paths, format!("{base}/{{name}}/{}", sub.name), operations, parameters(true));
    }
}

fn insert(
    paths: &mut Map<String, Value>,
    path: String,
    mut operations: Map<String, Value>,
    parameters: Vec<Value>,
) {
    if operations.is_empty() {
        return;
    }
    operations.insert("parameters".into(), parameters.into());
    paths.insert(path, operations.into());
}

/// The HTTP method of a verb, and whether it goes to the collection. A watch is a list's parameter.
fn method(verb: Verb) -> Option<(&'static str, bool)> {
    match verb {
        Verb::Create => Some(("post", true)),
        Verb::List => Some(("get", true)),
        Verb::DeleteCollection => Some(("delete", true)),
        Verb::Get => Some(("get", false)),
        Verb::Update => Some(("put", false)),
        Verb::Patch => Some(("patch", false)),
        Verb::Delete => Some(("delete", false)),
        Verb::Watch => None,
    }
}

fn parameter(name: &str, place: &str, description: &str, dialect: Dialect) -> Value {
    let kind = match name {
        "watch" | "force" => "boolean",
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        _ => "string",
    };
    let mut out = Map::new();
    out.insert("name".into(), name.into());
    out.insert("in".into(), place.into());
    out.insert("description".into(), description.into());
    if place == "path" {
        out.insert("required".into(), true.into());
    }
    match dialect {
        Dialect::V2 => {
            out.insert("type".into(), kind.into());
            out.insert("uniqueItems".into(), true.into());
        }
        Dialect::V3 => {
            out.insert("schema".into(), json!({"type": kind, "uniqueItems": true}));
        }
    }
    out.into()
}

/// One operation: a verb on a resource, speaking of `kind`.
struct Operation<'a> {
    resource: &'a Resource,
    dialect: Dialect,
    verb: Verb,
    kind: GroupVersionKind,
}

impl Operation<'_> {
    fn value(&self) -> Value {
        let mut out = Map::new();
        out.insert("tags".into(), json!([self.tag()]));
        out.insert("x-kubernetes-action".into(), self.action().into());
        let kind = self.kind;
        out.insert(
            "x-kubernetes-group-version-kind".into(),
            json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
        );
        let mut parameters: Vec<Value> = self
            .parameters()
            .iter()
            .map(|(name, what)| parameter(name, "query", what, self.dialect))
            .collect();
        if self.verb == Verb::Patch {
            parameters.push(parameter(
                "force",
                "query",
                "Take fields over from other managers (apply only).",
                self.dialect,
            ));
        }
        self.body(&mut out, &mut parameters);
        out.insert("parameters".into(), parameters.into());
        out.insert("responses".into(), json!({"200": self.response()}));
        out.into()
    }

    fn tag(&self) -> String {
        let group = self.resource.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
        format!("{group}_{}", self.resource.version)
    }

    fn action(&self) -> &'static str {
        match self.verb {
            Verb::Create => "post",
            Verb::Update => "put",
            other => other.as_str(),
        }
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        match self.verb {
            Verb::Create | Verb::Update | Verb::Patch => WRITE,
            Verb::List | Verb::Watch => LIST,
            Verb::Delete | Verb::DeleteCollection => DELETE,
            Verb::Get => &[],
        }
    }

    /// The type that travels, when it is one of the registry.
    fn schema(&self) -> Option<Value> {
        let kind = self.kind;
        let name = if kind == self.resource.gvk() {
            self.resource.schema.name
        } else {
            bodies::ALL.iter().find(|b| b.name.ends_with(&format!(".{}", kind.kind)))?.name
        };
        Some(reference(name, self.dialect))
    }

    fn body(&self, out: &mut Map<String, Value>, parameters: &mut Vec<Value>) {
        let schema = match self.verb {
            Verb::Create | Verb::Update => self.schema(),
            Verb::Patch => Some(json!({"type": "object"})),
            Verb::Delete | Verb::DeleteCollection => {
                Some(reference(bodies::DELETE_OPTIONS.name, self.dialect))
            }
            Verb::Get | Verb::List | Verb::Watch => None,
        };
        let Some(schema) = schema else { return };
        let media: &[&str] = match self.verb {
            Verb::Patch => PatchKind::media_types_of(self.resource),
            _ => &["application/json", "application/yaml"],
        };
        match self.dialect {
            Dialect::V2 => {
                out.insert("consumes".into(), media.into());
                let required = !matches!(self.verb, Verb::Delete | Verb::DeleteCollection);
                parameters
                    .push(json!({"in": "body", "name": "body", "required": required, "schema": schema}));
            }
            Dialect::V3 => {
                let content: Map<String, Value> =
                    media.iter().map(|m| ((*m).to_owned(), json!({"schema": schema}))).collect();
                out.insert("requestBody".into(), json!({"content": content}));
            }
        }
    }

    fn response(&self) -> Value {
        let schema = match self.verb {
            Verb::List => Some(reference(&list_name(self.resource), self.dialect)),
            Verb::Delete | Verb::DeleteCollection => Some(reference(bodies::STATUS.name, self.dialect)),
            _ => self.schema(),
        };
        match (schema, self.dialect) {
            (None, _) => json!({"description": "OK"}),
            (Some(schema), Dialect::V2) => json!({"description": "OK", "schema": schema}),
            (Some(schema), Dialect::V3) => {
                json!({"description": "OK", "content": {"application/json": {"schema": schema}}})
            }
        }
    }
}
