//! What a status may become.

use serde_json::{Value, json};

use super::RESOURCE;

fn request(status: Value) -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"request": "", "signerName": "example.com/s"}, "status": status})
}

fn condition(kind: &str, reason: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason})
}

fn errors(of: &[crate::FieldError]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

fn status_update(new: Value, old: Value) -> Vec<String> {
    errors(&RESOURCE.strategy().validate_status_update(&request(new), &request(old)))
}

#[test]
fn a_certificate_is_one_and_stays() {
    let pem = |label: &str, body: &str| {
        use base64::Engine as _;
        let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let at = "status.certificate: Invalid value: \"<certificate data>\"";
    for (certificate, says) in [
        ("Zm9v".to_owned(), "must contain at least one CERTIFICATE PEM block"),
        (pem("PRIVATE KEY", "AAAA"), "only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\""),
        (pem("CERTIFICATE", "Name: value\n\nAAAA"), "no PEM block headers are permitted"),
        (pem("CERTIFICATE", "AAAA"), "x509: malformed certificate"),
    ] {
        let found = status_update(json!({"certificate": certificate}), json!({}));
        assert!(found.len() == 1 && found[0].starts_with(at) && found[0].contains(says), "{found:?}");
    }
    // What was taken before stays possible.
    let old = json!({"certificate": "Zm9v"});
    assert_eq!(status_update(old.clone(), old.clone()), Vec::<String>::new());
    let changed = "status.certificate: Forbidden: updates may not modify existing certificate content";
    assert_eq!(status_update(json!({}), old), [changed]);
}

#[test]
fn what_was_decided_or_failed_stays() {
    let old = json!({"conditions": [condition("Approved", "r"), condition("Failed", "f")]});
    let removed = |kind: &str| {
        format!("status.conditions: Forbidden: updates may not remove a condition of type {kind:?}")
    };
    assert_eq!(status_update(json!({}), old.clone()), [removed("Approved"), removed("Failed")]);
    let other = json!({"conditions": [condition("Approved", "other"), condition("Failed", "g"), condition("New", "")]});
    let modified = "status.conditions: Forbidden: updates may not modify a condition of type \"Approved\"";
    assert_eq!(status_update(other, old.clone()), [modified]);
    let approval = |new: Value| {
        errors(&RESOURCE.strategy().validate_part_update("approval", &request(new), &request(old.clone())))
    };
    assert_eq!(approval(json!({"conditions": [condition("Approved", "x")]})), [removed("Failed")]);
    let both = json!({"conditions": [condition("Approved", "x"), condition("Failed", "f")]});
    assert_eq!(approval(both), Vec::<String>::new());
}

#[test]
fn what_no_condition_may_be_stays_where_it_was() {
    let twice = json!({"conditions": [condition("", "r"), condition("", "r"), condition("Approved", "r"), condition("Denied", "r")]});
    assert_eq!(status_update(twice.clone(), twice), Vec::<String>::new());
    let odd = json!({"conditions": [condition("", "r"), {"type": "a", "status": "No"}, condition("a", "r")]});
    let at = "status.conditions";
    let wrong = [
        format!("{at}[0].type: Required value"),
        format!(
            "{at}[1].status: Unsupported value: \"No\": supported values: \"False\", \"True\", \"Unknown\""
        ),
        format!("{at}[2].type: Duplicate value: \"a\""),
    ];
    assert_eq!(status_update(odd, json!({})), wrong);
}
