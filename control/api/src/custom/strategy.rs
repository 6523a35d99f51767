//! What is true of every custom resource: generations, status, validation by the schema.

use std::borrow::Cow;

use serde_json::Value;

use super::{Custom, default, lists, path, validate};
use crate::meta::{self, NameRule};
use crate::status::{FieldError, FieldPath};
use crate::strategy::Strategy;

impl Custom {
    fn has_status(&self) -> bool {
        self.subresources().iter().any(|part| part.name == "status")
    }

    /// Keeps the generation, or raises it when what is wanted changed: anything but metadata, and but the status where
    /// that has its own subresource.
    fn count_generation(&self, new: &mut Value, old: &Value) {
        meta::copy_in_metadata(new, old, "generation");
        let skip = |name: &str| name == "metadata" || (name == "status" && self.has_status());
        let (Some(now), Some(before)) = (new.as_object(), old.as_object()) else { return };
        let differs = now.iter().any(|(name, value)| !skip(name) && before.get(name) != Some(value))
            || before.keys().any(|name| !skip(name) && !now.contains_key(name));
        if differs {
            meta::set_generation(new, meta::generation(old) + 1);
        }
    }

    /// What the schema says against an object, which replaces `old`.
    fn judge(&self, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let schema = &self.version().schema;
        errors.extend(validate(object, schema, old));
        lists::validate(object, schema, old, errors);
        self.judge_scale(object, errors);
    }

    /// The replicas of a scale are a small whole number, or not there.
    fn judge_scale(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let Some(scale) = &self.version().scale else { return };
        let Some(found) = path::at(object, &scale.spec) else { return };
        let at = FieldPath::root(&format!(".{}", scale.spec.join(".")));
        match found.as_i64() {
            Some(replicas) if replicas < 0 => {
                errors.push(FieldError::invalid(&at, replicas, "should be a non-negative integer"));
            }
            Some(replicas) if replicas > i64::from(i32::MAX) => {
                let why = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(&at, replicas, why));
            }
            // What is no number the schema judges.
            _ => {}
        }
    }
}

impl Strategy for Custom {
    fn default(&self, object: &mut Value) {
        default(object, &self.version().schema);
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.has_status()
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        meta::set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status() {
            meta::copy_field(new, old, "status");
        }
        self.count_generation(new, old);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        // Of everything else only what field management says changes, as upstream has it.
        let managed = meta::metadata(new).and_then(|m| m.get("managedFields")).cloned();
        let status = new.get("status").cloned();
        new.clone_from(old);
        match (status, new.as_object_mut()) {
            (Some(status), Some(fields)) => fields.insert("status".into(), status),
            (None, Some(fields)) => fields.remove("status"),
            (_, None) => None,
        };
        if let Some(managed) = managed {
            meta::set(new, "managedFields", managed);
        }
    }

    fn prepare_part_update(&self, _part: &str, _new: &mut Value, _old: &Value) -> bool {
        false
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::validate_create(object, self.scope(), NameRule::Subdomain, &mut errors);
        self.judge(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::validate_update(new, old, &mut errors);
        self.judge(new, Some(old), &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::validate_update(new, old, &mut errors);
        let schema = &self.version().schema;
        errors.extend(validate(new, schema, Some(old)));
        lists::validate(new, schema, Some(old), &mut errors);
        errors
    }

    fn validate_part_update(&self, _part: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        meta::finalizer_warnings(object, None)
    }

    fn review(&self, new: &Value, old: Option<&Value>) -> (Vec<FieldError>, Vec<String>) {
        let errors = match old {
            None => self.validate_create(new),
            Some(old) => self.validate_update(new, old),
        };
        (errors, meta::finalizer_warnings(new, old))
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &self.selectable
    }

    fn selectable<'a>(&self, object: &'a Value, field: &str) -> Option<Cow<'a, str>> {
        if let Some((_, path)) = self.version().selectable.iter().find(|(name, _)| *name == field) {
            return Some(match path::at(object, path) {
                Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
                None | Some(Value::Null) => Cow::Borrowed(""),
                Some(other) => Cow::Owned(other.to_string()),
            });
        }
        self.selectable.contains(&field).then(|| meta::text_at(object, field))
    }

    fn allows_create_on_update(&self) -> bool {
        false
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn grace_period(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }
}
