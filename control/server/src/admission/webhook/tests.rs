//! What webhooks are told, and what their answers come to.

use serde_json::json;

use super::hook::Version;
use super::review::verdict;
use super::status::{denied, unexpected};

#[test]
fn answers_are_checked() {
    let review = |response: serde_json::Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    #[rustfmt::skip]
    let cases = [
        (true, json!({}), "webhook response was absent"),
        (true, review(json!({"uid": "b", "allowed": true})), "expected response.uid=\"a\", got \"b\""),
        (true, json!({"apiVersion": "v1", "kind": "Pod", "response": {"uid": "a"}}),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod"),
        (true, review(json!({"uid": "a", "patch": "W10="})), "webhook returned response.patch but not response.patchType"),
        (true, review(json!({"uid": "a", "patchType": "JSONPatch"})), "webhook returned response.patchType but not response.patch"),
        (true, review(json!({"uid": "a", "patchType": "", "patch": "W10="})), "webhook returned invalid response.patchType of \"\""),
        (false, review(json!({"uid": "a", "patch": "W10=", "patchType": "JSONPatch"})), "validating webhook may not return response.patch"),
        (false, review(json!({"uid": "a", "patchType": "JSONPatch"})), "validating webhook may not return response.patchType"),
    ];
    for (mutating, answer, expected) in cases {
        assert_eq!(verdict(Version::V1, "a", mutating, &answer).unwrap_err(), expected);
    }
    let good = review(json!({"uid": "a", "allowed": true, "patch": "W10=", "patchType": "JSONPatch",
        "warnings": ["w"], "auditAnnotations": {"k": "v"}}));
    let good = verdict(Version::V1, "a", true, &good).unwrap();
    assert!(good.allowed);
    assert_eq!((good.patch.as_slice(), good.patch_type.as_str()), (&b"[]"[..], "JSONPatch"));
    assert_eq!(
        (good.warnings, good.annotations),
        (vec!["w".to_owned()], vec![("k".to_owned(), "v".to_owned())])
    );
    let old = verdict(Version::V1Beta1, "a", true, &json!({"response": {"patch": "W10="}})).unwrap();
    assert_eq!((old.allowed, old.patch_type.as_str()), (false, "JSONPatch"));
}

#[test]
fn refusals_keep_what_the_webhook_says() {
    let begin = "admission webhook \"w\" denied the request";
    let status = json!({"code": 422, "reason": "Invalid", "message": "no", "details": {"name": "n",
        "causes": [{"reason": "FieldValueInvalid", "message": "m", "field": "f"}], "retryAfterSeconds": 3}});
    let error = denied("w", Some(&status));
    assert_eq!(
        (error.code, error.reason, error.message.as_str()),
        (422, "Invalid", format!("{begin}: no").as_str())
    );
    let details = error.details.as_deref().unwrap();
    assert_eq!((details.name.as_str(), details.causes[0].field.as_str()), ("n", "f"));
    assert_eq!(error.retry_after_seconds(), Some(3));
    let cases = [
        (json!({"code": 200}), 400, "", format!("{begin} without explanation")),
        (json!({"reason": "Gone"}), 400, "Gone", format!("{begin}: Gone")),
        (json!({"code": 700, "message": "x"}), 400, "", format!("{begin}: x")),
    ];
    for (status, code, reason, message) in cases {
        let error = denied("w", Some(&status));
        assert_eq!((error.code, error.reason, &error.message), (code, reason, &message));
    }
    assert_eq!(denied("w", None).message, format!("{begin} without explanation"));
}

#[test]
fn reasons_that_a_webhook_makes_up_are_bounded() {
    let reason = |text: String| denied("w", Some(&json!({"reason": text}))).reason;
    let kept = (0..1000).filter(|n| !reason(format!("Reason{n}")).is_empty()).count();
    assert!(kept > 100 && kept <= 256, "{kept}");
    assert_eq!(reason("Forbidden".into()), "Forbidden");
}

#[test]
fn answers_that_are_no_success_are_told_as_clients_tell_them() {
    assert_eq!(unexpected(404, b"x"), "the server could not find the requested resource");
    assert_eq!(
        unexpected(500, b"oh"),
        "an error on the server (\"oh\") has prevented the request from succeeding"
    );
    assert_eq!(
        unexpected(302, b""),
        "the server responded with the status code 302 but did not return more details"
    );
    assert_eq!(unexpected(403, br#"{"kind": "Status", "message": "no"}"#), "no");
}
