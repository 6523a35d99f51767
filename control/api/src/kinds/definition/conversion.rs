//! What is wrong with the `conversion` of a definition. Upstream: `validateCustomResourceConversion`, whose messages name
//! fields of the webhook by the places that they had in its internal type.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;

use super::super::prelude::*;
use crate::custom::condition;
use crate::names;
use crate::table::read::{list, text};

/// The versions of ConversionReview that can be asked for.
const REVIEWS: &[&str] = &["v1", "v1beta1"];
const NOT_WEBHOOK: &str = "should not be set when strategy is not set to Webhook";

/// Checks `spec.conversion`; `old` is the definition that is replaced.
pub(super) fn check(conversion: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut Errors) {
    if conversion.is_null() {
        return;
    }
    let (webhook, client) = (&conversion["webhook"], path.child("webhookClientConfig"));
    match text(conversion, "/strategy") {
        "" => errors.push(FieldError::required(&path.child("strategy"), "")),
        "None" => {
            if webhook["clientConfig"].is_object() {
                errors.push(FieldError::forbidden(&client, NOT_WEBHOOK));
            }
            if !list(webhook, "/conversionReviewVersions").is_empty() {
                errors.push(FieldError::forbidden(&path.child("conversionReviewVersions"), NOT_WEBHOOK));
            }
        }
        "Webhook" => {
            let config = &webhook["clientConfig"];
            if config.is_object() {
                self::client(config, old, &client, errors);
            } else {
                errors.push(FieldError::required(&client, "required when strategy is set to Webhook"));
            }
            reviews(webhook, old, &path.child("conversionReviewVersions"), errors);
        }
        other => {
            errors.push(FieldError::not_supported(&path.child("strategy"), other, &["None", "Webhook"]));
        }
    }
}

fn client(config: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut Errors) {
    match (config["url"].as_str(), config["service"].is_object()) {
        (None, false) | (Some(_), true) => {
            errors.push(FieldError::required(path, "exactly one of url or service is required"));
        }
        (Some(url), false) => super::super::admission::web_address(url, &path.child("url"), errors),
        (None, true) => service(&config["service"], &path.child("service"), errors),
    }
    let bundle = text(config, "/caBundle");
    let may_be_wrong = old.is_some_and(|old| {
        let before = text(old, "/spec/conversion/webhook/clientConfig/caBundle");
        condition(old, "Established") != "True" || (!before.is_empty() && !is_bundle(before))
    });
    if !bundle.is_empty() && !may_be_wrong && !is_bundle(bundle) {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.push(FieldError::invalid(&path.child("caBundle"), bundle, why));
    }
}

/// Whether there is a certificate in the base64 of a bundle.
fn is_bundle(bundle: &str) -> bool {
    let Ok(text) = STANDARD.decode(bundle) else { return false };
    Pem::iter_from_buffer(&text).flatten().any(|pem| pem.label == "CERTIFICATE" && pem.parse_x509().is_ok())
}

fn service(service: &Value, path: &FieldPath, errors: &mut Errors) {
    for field in ["name", "namespace"] {
        if text(service, &format!("/{field}")).is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    let port = service["port"].as_i64().unwrap_or_default();
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, why));
    }
    let Some(place) = service["path"].as_str().filter(|place| !matches!(*place, "" | "/")) else { return };
    let at = path.child("path");
    if place == "//" {
        errors.push(FieldError::invalid(&at, place, "segment[0] may not be empty"));
        return;
    }
    if !place.starts_with('/') {
        errors.push(FieldError::invalid(&at, place, "must start with a '/'"));
    }
    let inner = place.strip_prefix('/').unwrap_or(place);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, segment) in inner.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(FieldError::invalid(&at, place, format!("segment[{index}] may not be empty")));
            continue;
        }
        for why in names::dns1123_subdomain(segment) {
            errors.push(FieldError::invalid(&at, place, format!("segment[{index}]: {why}")));
        }
    }
}

fn reviews(webhook: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut Errors) {
    let versions = list(webhook, "/conversionReviewVersions");
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let (at, name) = (path.index(index), version.as_str().unwrap_or_default());
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&at, name, "duplicate version"));
            continue;
        }
        for why in names::dns1035_label(name) {
            errors.push(FieldError::invalid(&at, name, why));
        }
    }
    let known =
        |list: &[Value]| list.iter().any(|v| v.as_str().is_some_and(|version| REVIEWS.contains(&version)));
    let before = old.map_or(&[][..], |old| list(old, "/spec/conversion/webhook/conversionReviewVersions"));
    // What another version of the server let in stays.
    if !known(versions) && (before.is_empty() || known(before)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, json!(versions), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(conversion: &Value, old: Option<&Value>) -> Vec<String> {
        let mut errors = Vec::new();
        check(conversion, old, &FieldPath::root("spec").child("conversion"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn webhook(client: Value, versions: Value) -> Value {
        json!({
            "strategy": "Webhook",
            "webhook": {"clientConfig": client, "conversionReviewVersions": versions},
        })
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        let at = "spec.conversion";
        let url = json!({"url": "https://example.com/convert"});
        let cases = [
            (webhook(url.clone(), json!(["v1"])), vec![]),
            (json!({"strategy": "None"}), vec![]),
            (json!({}), vec![format!("{at}.strategy: Required value")]),
            (
                json!({"strategy": "Magic"}),
                vec![format!(
                    r#"{at}.strategy: Unsupported value: "Magic": supported values: "None", "Webhook""#
                )],
            ),
            (
                json!({"strategy": "None", "webhook": {"clientConfig": url, "conversionReviewVersions": ["v1"]}}),
                vec![
                    format!("{at}.webhookClientConfig: Forbidden: {NOT_WEBHOOK}"),
                    format!("{at}.conversionReviewVersions: Forbidden: {NOT_WEBHOOK}"),
                ],
            ),
            (
                json!({"strategy": "Webhook"}),
                vec![
                    format!(
                        "{at}.webhookClientConfig: Required value: required when strategy is set to Webhook"
                    ),
                    format!("{at}.conversionReviewVersions: Required value"),
                ],
            ),
            (
                webhook(json!({}), json!(["v1"])),
                vec![format!(
                    "{at}.webhookClientConfig: Required value: exactly one of url or service is required"
                )],
            ),
            (
                webhook(url.clone(), json!(["v7", "v7"])),
                vec![
                    format!(r#"{at}.conversionReviewVersions[1]: Invalid value: "v7": duplicate version"#),
                    format!(
                        r#"{at}.conversionReviewVersions: Invalid value: ["v7","v7"]: must include at least one of v1, v1beta1"#
                    ),
                ],
            ),
            (
                webhook(
                    json!({"service": {"namespace": "a", "name": "", "port": 0, "path": "/a//b"}}),
                    json!(["v1"]),
                ),
                vec![
                    format!("{at}.webhookClientConfig.service.name: Required value"),
                    format!(
                        "{at}.webhookClientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"
                    ),
                    format!(
                        r#"{at}.webhookClientConfig.service.path: Invalid value: "/a//b": segment[1] may not be empty"#
                    ),
                ],
            ),
            (
                webhook(json!({"url": "https://a.b", "caBundle": "Cg=="}), json!(["v1"])),
                vec![format!(
                    r#"{at}.webhookClientConfig.caBundle: Invalid value: "Cg==": unable to load root certificates: unable to parse bytes as PEM block"#
                )],
            ),
        ];
        for (conversion, expected) in cases {
            assert_eq!(said(&conversion, None), expected, "{conversion}");
        }
    }

    #[test]
    fn what_was_let_in_before_stays() {
        let wrong = webhook(json!({"url": "https://a.b", "caBundle": "Cg=="}), json!(["v7"]));
        let old = json!({
            "spec": {"conversion": wrong}, "status": {"conditions": [{"type": "Established", "status": "True"}]},
        });
        assert_eq!(said(&wrong, Some(&old)), Vec::<String>::new());
        assert_eq!(said(&wrong, None).len(), 2);
    }
}
