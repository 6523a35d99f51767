//! Laying a configuration over an object as server-side apply merges it, without owners: what mutating admission
//! policies do.
//!
//! Source: `apiserver/pkg/admission/plugin/policy/mutating/patch/smd.go`.

use serde_json::Value;

use super::form::{Form, form_with_entries};
use super::merge::merge;
use crate::resource::Resource;
use crate::schema::TypeRef;

/// What an object is, which says how it merges.
#[derive(Clone, Copy)]
pub enum Kind<'a> {
    /// An object of a resource.
    Resource(&'a Resource),
    /// The body of a subresource.
    Body(&'a TypeRef),
}

/// Why a configuration cannot be laid over an object, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// Fields that the kind does not have, or entries of lists without what tells them apart.
    #[error("failed to convert patch object to typed object: {0}")]
    Type(String),
    /// Paths of what can only be replaced as a whole: whoever sets a part of it would lose the rest unawares.
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {0}")]
    Atomic(String),
}

/// `object` with everything that `config` says; both are of `kind`.
pub fn overlay(kind: Kind<'_>, object: &Value, config: &Value) -> Result<Value, OverlayError> {
    let form = match kind {
        Kind::Resource(resource) => Form::of_resource(resource),
        Kind::Body(body) => Form::of_type(body.name),
    };
    let mut found = Found::default();
    found.look(form, config, &mut String::new());
    if !found.unknown.is_empty() {
        return Err(OverlayError::Type(found.unknown.join("\n")));
    }
    if !found.atomic.is_empty() {
        return Err(OverlayError::Atomic(found.atomic.join(", ")));
    }
    Ok(merge(object, config, form))
}

/// What a configuration may not say, by its place.
#[derive(Default)]
struct Found {
    unknown: Vec<String>,
    atomic: Vec<String>,
}

impl Found {
    fn look(&mut self, form: Form<'_>, value: &Value, path: &mut String) {
        match value {
            Value::Object(_) | Value::Array(_) if matches!(form, Form::Leaf) => {
                self.atomic.push(path.clone());
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let before = path.len();
                    path.push('.');
                    path.push_str(name);
                    if form.allows(name) {
                        self.look(form.child(name), value, path);
                    } else {
                        self.unknown.push(format!("{path}: field not declared in schema"));
                    }
                    path.truncate(before);
                }
            }
            Value::Array(entries) => {
                if matches!(form, form_with_entries!()) && form.entries(Some(value)).is_none() {
                    let why =
                        "associative list with keys has an element that omits a key field, or has one twice";
                    self.unknown.push(format!("{path}: {why}"));
                }
                for (index, entry) in entries.iter().enumerate() {
                    let before = path.len();
                    path.push_str(&format!("[{index}]"));
                    self.look(form.entry(), entry, path);
                    path.truncate(before);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn laid_over(config: &Value) -> Result<Value, String> {
        let object = json!({"spec": {"replicas": 1, "template": {"spec": {
            "containers": [{"name": "a", "image": "x", "args": ["1"]}], "nodeSelector": {"a": "b"}}}}});
        let row = crate::find("apps", "v1", "deployments").unwrap();
        overlay(Kind::Resource(row), &object, config).map_err(|why| why.to_string())
    }

    #[test]
    fn entries_and_keys_are_merged() {
        let pod = |config: Value| json!({"spec": {"template": {"spec": config}}});
        let merged = laid_over(&pod(json!({"initContainers": [{"name": "i"}],
            "containers": [{"name": "b"}, {"name": "a", "image": "y"}]})))
        .unwrap();
        let spec = &merged["spec"]["template"]["spec"];
        let containers = json!([{"name": "b"}, {"name": "a", "image": "y", "args": ["1"]}]);
        assert_eq!((&spec["containers"], &spec["initContainers"]), (&containers, &json!([{"name": "i"}])));
        assert_eq!(merged["spec"]["replicas"], 1);
        let labelled = laid_over(&json!({"metadata": {"labels": {"x": "y"}}})).unwrap();
        assert_eq!(labelled["metadata"]["labels"]["x"], "y");
    }

    #[test]
    fn what_would_lose_something_is_refused() {
        let args = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "args": ["2"]}]}}}});
        let atomic = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: ";
        assert_eq!(laid_over(&args), Err(format!("{atomic}.spec.template.spec.containers[0].args")));
        let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(laid_over(&selector), Err(format!("{atomic}.spec.selector")));
        let unknown = laid_over(&json!({"spec": {"nothing": 1}})).unwrap_err();
        assert!(unknown.ends_with(".spec.nothing: field not declared in schema"), "{unknown}");
        let nameless = json!({"spec": {"template": {"spec": {"containers": [{"image": "z"}]}}}});
        assert!(laid_over(&nameless).unwrap_err().contains("omits a key field"));
    }
}
