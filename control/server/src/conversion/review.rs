//! ConversionReviews (`apiextensions.k8s.io/v1`, and `v1beta1` for webhooks that know no other): what is asked, and what
//! an answer has to be, in upstream's words (`pkg/apiserver/conversion/webhook_converter.go`). Pure.

use carrack_api::FieldError;
use carrack_api::meta;
use carrack_api::status::FieldPath;
use serde_json::{Map, Value, json};

use crate::authn::text;

/// The versions of ConversionReview that this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1Beta1,
}

impl Version {
    /// The first of those that a webhook takes; an error says that this server speaks none of them.
    pub(super) fn choose(reviews: &[String]) -> Result<Self, String> {
        let known = |review: &String| match review.as_str() {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        };
        reviews.iter().find_map(known).ok_or_else(|| "no supported conversion review versions".to_owned())
    }

    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "apiextensions.k8s.io/v1",
            Version::V1Beta1 => "apiextensions.k8s.io/v1beta1",
        }
    }
}

/// The review that asks for `objects` in the form of `desired`, a `group/version`.
pub(super) fn question(version: Version, uid: &str, desired: &str, objects: &[Value]) -> Value {
    json!({
        "kind": "ConversionReview", "apiVersion": version.api_version(),
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    })
}

/// Who is named in messages: `group/version, Kind=kind` of what was to be converted.
pub(super) fn subject(object: &Value) -> String {
    format!("{}, Kind={}", text(object, "/apiVersion"), text(object, "/kind"))
}

/// The objects of an answer to the review `uid`, each with the metadata of the one that it was made of, but for labels
/// and annotations. An error is the whole message.
pub(super) fn converted(
    version: Version,
    uid: &str,
    desired: &str,
    originals: &[Value],
    mut answer: Value,
) -> Result<Vec<Value>, String> {
    let who = originals.first().map(subject).unwrap_or_default();
    let objects = successes(version, uid, &mut answer)
        .map_err(|why| format!("conversion webhook for {who} failed: {why}"))?;
    if objects.len() != originals.len() {
        return Err(format!(
            "conversion webhook for {who} returned {} objects, expected {}",
            objects.len(),
            originals.len()
        ));
    }
    let pairs = originals.iter().zip(objects).enumerate();
    let single = originals.len() == 1;
    let settle = |(index, (original, mut object)): (usize, (&Value, Value))| {
        let wrong = |what: &str, single_place: &str, why: String| {
            let place = if single { single_place.to_owned() } else { format!(" at index {index}") };
            let what = if single {
                what.replace("converted ", "").replace(" in object", "")
            } else {
                what.to_owned()
            };
            format!("conversion webhook for {who} returned invalid {what}{place}: {why}")
        };
        check_type(desired, original, &object)
            .map_err(|why| wrong("converted object", " at index 0", why))?;
        check_identity(original, &object).map_err(|why| wrong("converted object", "", why))?;
        restore_metadata(original, &mut object).map_err(|why| wrong("metadata in object", "", why))?;
        Ok(object)
    };
    pairs.map(settle).collect()
}

/// The converted objects of an answer that tells of success.
fn successes(version: Version, uid: &str, answer: &mut Value) -> Result<Vec<Value>, String> {
    if version == Version::V1 {
        let (found, kind) = (text(answer, "/apiVersion"), text(answer, "/kind"));
        if (found, kind) != (version.api_version(), "ConversionReview") {
            let wanted = "apiextensions.k8s.io/v1, Kind=ConversionReview";
            return Err(format!("expected webhook response of {wanted}, got {found}, Kind={kind}"));
        }
    }
    let Some(response) = answer.get_mut("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let answered = text(response, "/uid");
    if version == Version::V1 && answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let (state, message) = (text(response, "/result/status"), text(response, "/result/message"));
    match (state, message) {
        ("Success", _) => {}
        (state, "") => return Err(format!("response.result.status was '{state}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => Err("response.convertedObjects is not a list".to_owned()),
    }
}

/// The object is of the kind, and in the version that was asked for.
fn check_type(desired: &str, original: &Value, object: &Value) -> Result<(), String> {
    let (found, kind, wanted) = (text(object, "/apiVersion"), text(object, "/kind"), text(original, "/kind"));
    if found != desired {
        return Err(format!("invalid groupVersion (expected {desired}, received {found})"));
    }
    if kind != wanted {
        return Err(format!("invalid kind (expected {wanted}, received {kind})"));
    }
    Ok(())
}

/// The object is the one that was sent.
fn check_identity(original: &Value, object: &Value) -> Result<(), String> {
    for (what, pointer) in
        [("name", "/metadata/name"), ("namespace", "/metadata/namespace"), ("UID", "/metadata/uid")]
    {
        let (before, after) = (text(original, pointer), text(object, pointer));
        if before != after {
            return Err(format!("must have the same {what}: {before} != {after}"));
        }
    }
    Ok(())
}

/// Gives the object the metadata of the original; labels and annotations stay its own.
fn restore_metadata(original: &Value, object: &mut Value) -> Result<(), String> {
    let own = object.get_mut("metadata").map(Value::take).ok_or("missing metadata in converted object")?;
    let Value::Object(own) = own else {
        return Err("invalid metadata in converted object: it is not an object".to_owned());
    };
    let mut metadata = meta::metadata(original).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let Some(texts) = own.get(field).filter(|texts| !texts.is_null()) else {
            metadata.remove(field);
            continue;
        };
        let texts = texts
            .as_object()
            .ok_or_else(|| format!("invalid metadata.{field} in converted object: it is not an object"))?;
        if metadata.get(field).and_then(Value::as_object) != Some(texts) {
            check_texts(field, texts)?;
        }
        metadata.insert(field.into(), texts.clone().into());
    }
    object["metadata"] = metadata.into();
    Ok(())
}

fn check_texts(field: &str, texts: &Map<String, Value>) -> Result<(), String> {
    if let Some((key, _)) = texts.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
    }
    let path = FieldPath::root("metadata");
    let mut errors: Vec<FieldError> = Vec::new();
    match field {
        "labels" => meta::validate_labels(texts, &path.child("labels"), &mut errors),
        _ => meta::validate_annotations(texts, &path.child("annotations"), &mut errors),
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Value {
        json!({
            "apiVersion": format!("a.io/{version}"), "kind": "Tab",
            "metadata": {"name": name, "namespace": "n", "uid": "u", "labels": {"x": "y"}, "generation": 3},
        })
    }

    fn answer(objects: &Value) -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "id", "result": {"status": "Success"}, "convertedObjects": objects},
        })
    }

    fn settled(originals: &[Value], answer: Value) -> Result<Vec<Value>, String> {
        converted(Version::V1, "id", "a.io/v2", originals, answer)
    }

    #[test]
    fn metadata_comes_from_the_original_but_for_labels_and_annotations() {
        let mut new = object("v2", "a");
        new["metadata"] = json!({
            "name": "a", "namespace": "n", "uid": "u", "annotations": {"k": "v"}, "generation": 9, "more": 1,
        });
        new["spec"] = json!({"new": true});
        let found = settled(&[object("v1", "a")], answer(&json!([new]))).unwrap();
        let metadata =
            json!({"name": "a", "namespace": "n", "uid": "u", "annotations": {"k": "v"}, "generation": 3});
        assert_eq!(found[0]["metadata"], metadata);
        assert_eq!(found[0]["spec"], json!({"new": true}));
    }

    #[test]
    fn answers_that_cannot_be_used_are_told_in_upstreams_words() {
        const WHO: &str = "conversion webhook for a.io/v1, Kind=Tab";
        let with = |pointer: &str, value: Value| {
            let mut changed = answer(&json!([object("v2", "a")]));
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        let one = "/response/convertedObjects/0";
        let cases = [
            (
                with("/apiVersion", json!("x/v1")),
                "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got x/v1, Kind=ConversionReview",
            ),
            (with("/response", json!(null)), "failed: no response provided"),
            (with("/response/uid", json!("other")), r#"failed: expected response.uid="id", got "other""#),
            (with("/response/result", json!({"status": "Failure", "message": "no way"})), "failed: no way"),
            (with("/response/result", json!({})), "failed: response.result.status was '', not 'Success'"),
            (with("/response/convertedObjects", json!([])), "returned 0 objects, expected 1"),
            (
                with(&format!("{one}/apiVersion"), json!("a.io/v3")),
                "returned invalid object at index 0: invalid groupVersion (expected a.io/v2, received a.io/v3)",
            ),
            (
                with(&format!("{one}/kind"), json!("Other")),
                "returned invalid object at index 0: invalid kind (expected Tab, received Other)",
            ),
            (
                with(&format!("{one}/metadata/name"), json!("b")),
                "returned invalid object: must have the same name: a != b",
            ),
            (
                with(&format!("{one}/metadata/uid"), json!("")),
                "returned invalid object: must have the same UID: u != ",
            ),
            (
                with(&format!("{one}/metadata/labels"), json!({"x": 1})),
                "returned invalid metadata: metadata.labels[x] must be a string in converted object",
            ),
            (
                with(&format!("{one}/metadata/labels"), json!({"x": "not a label"})),
                "returned invalid metadata: metadata.labels: Invalid value: \"not a label\"",
            ),
        ];
        for (answer, words) in cases {
            let why = settled(&[object("v1", "a")], answer).unwrap_err();
            assert!(why.starts_with(&format!("{WHO} {words}")), "{words}\n{why}");
        }
        let many = [object("v1", "a"), object("v1", "b")];
        let why = settled(&many, answer(&json!([object("v2", "a"), object("v2", "c")]))).unwrap_err();
        let words = "returned invalid converted object at index 1: must have the same name: b != c";
        assert_eq!(why, format!("{WHO} {words}"));
    }

    #[test]
    fn the_first_version_that_is_known_is_spoken() {
        let choose =
            |list: &[&str]| Version::choose(&list.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(choose(&["v9", "v1beta1", "v1"]), Ok(Version::V1Beta1));
        assert_eq!(choose(&["v9"]), Err("no supported conversion review versions".to_owned()));
        let asked = question(Version::V1, "id", "a.io/v2", &[object("v1", "a")]);
        assert_eq!(asked["request"]["desiredAPIVersion"], "a.io/v2");
        assert_eq!(asked["request"]["objects"][0]["metadata"]["name"], "a");
    }
}
