//! What other servers answer: webhooks of all kinds, aggregated API servers.

use serde_json::Value;

use crate::authn::fuzzing::reviewed;
use crate::{admission, aggregation, authz, conversion};

/// One good answer of each server.
pub(super) const SEEDS: &[&str] = &[
    r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","response":{"uid":"uid","result":{"status":"Success"},"convertedObjects":[{"apiVersion":"e.example/v2","kind":"K","metadata":{"name":"a","uid":"u","labels":{"c":"d"}}},{"apiVersion":"e.example/v2","kind":"K","metadata":{"name":"b","uid":"u","annotations":{}}}]}}"#,
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"uid","allowed":true,"patchType":"JSONPatch","patch":"W10=","warnings":["w"],"auditAnnotations":{"a":"b"}}}"#,
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"uid","allowed":false,"status":{"code":403,"message":"m","reason":"Forbidden","details":{"name":"n","retryAfterSeconds":1,"causes":[{"reason":"r","message":"m","field":"f"}]}}}}"#,
    r#"{"status":{"authenticated":true,"user":{"username":"u","uid":"1","groups":["g"],"extra":{"a":["b"]}},"audiences":["x"],"error":""}}"#,
    r#"{"status":{"allowed":true,"denied":false,"reason":"r","evaluationError":"e"}}"#,
    r#"{"kind":"APIResourceList","groupVersion":"g.example/v1","resources":[{"name":"things","singularName":"thing","namespaced":true,"kind":"Thing","verbs":["get","list"],"shortNames":["t"],"categories":["all"],"storageVersionHash":"x"},{"name":"things/status","kind":"Thing","namespaced":true,"verbs":["get"]},{"name":"things/scale","group":"autoscaling","version":"v1","kind":"Scale","verbs":["get"]}]}"#,
];

/// Whatever was asked, this is the answer.
pub(super) fn answers(data: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(data) else { return };
    conversion::fuzzing::answer(&answer);
    admission::webhook::fuzzing::answer(&answer);
    reviewed(&answer);
    let _ = authz::webhook::decision(&answer);
    aggregation::fuzzing::described(&answer);
}
