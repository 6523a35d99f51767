//! What admission has to say to the audit log. An audit log takes it from the call with [`Annotations::take`].

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// Where failures of policies with the action `Audit` are noted.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Annotations of one request at most; a policy has 20.
const MAX: usize = 1024;

/// Annotations of a request.
#[derive(Default)]
pub(crate) struct Annotations {
    texts: Mutex<BTreeMap<String, String>>,
    failures: Mutex<Vec<Value>>,
}

impl Annotations {
    /// Adds a value; several of one key are joined, each once.
    pub(crate) fn add(&self, key: String, value: String) {
        let mut texts = self.texts.lock();
        if texts.len() >= MAX && !texts.contains_key(&key) {
            return;
        }
        let text = texts.entry(key).or_default();
        if text.is_empty() {
            *text = value;
        } else if !text.split(", ").any(|known| known == value) {
            text.push_str(", ");
            text.push_str(&value);
        }
    }

    /// Notes a validation that does not hold.
    pub(crate) fn failure(
        &self,
        policy: &str,
        binding: &str,
        actions: &[String],
        index: Option<usize>,
        message: &str,
    ) {
        let mut failures = self.failures.lock();
        if failures.len() < MAX {
            failures.push(json!({
                "message": message, "policy": policy, "binding": binding,
                "expressionIndex": index.unwrap_or_default(), "validationActions": actions,
            }));
        }
    }

    /// All annotations, by their keys.
    pub(crate) fn take(&self) -> BTreeMap<String, String> {
        let mut texts = std::mem::take(&mut *self.texts.lock());
        let failures = std::mem::take(&mut *self.failures.lock());
        if !failures.is_empty() {
            texts.insert(FAILURES.to_owned(), Value::Array(failures).to_string());
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_joined_and_failures_listed() {
        let annotations = Annotations::default();
        for value in ["a", "b", "a"] {
            annotations.add("p/k".to_owned(), value.to_owned());
        }
        annotations.failure("p", "b", &["Audit".to_owned()], Some(1), "no");
        let taken = annotations.take();
        assert_eq!(taken["p/k"], "a, b");
        let failures: Value = serde_json::from_str(&taken[FAILURES]).unwrap();
        let expected = json!([{"message": "no", "policy": "p", "binding": "b", "expressionIndex": 1,
            "validationActions": ["Audit"]}]);
        assert_eq!(failures, expected);
        assert!(annotations.take().is_empty());
    }
}
