//! What a webhook answers that is to convert objects.

use serde_json::{Value, json};

use super::review::{Version, converted};

/// An answer about two objects.
pub(crate) fn answer(answer: &Value) {
    let object = |name: &str| json!({"apiVersion": "e.example/v1", "kind": "K", "metadata": {"name": name, "uid": "u"}});
    for version in [Version::V1, Version::V1Beta1] {
        for originals in [&[object("a"), object("b")][..], &[object("a")]] {
            let _ = converted(version, "uid", "e.example/v2", originals, answer.clone());
        }
    }
}
