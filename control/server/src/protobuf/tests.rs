//! Messages written by hand, the table against the schemas, and bytes at random.

use std::collections::BTreeSet;

use carrack_api::schema::{Shape, registry};
use carrack_api::{ResourceRef, find, resources};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::object::Stored;

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 127 {
        out.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A field of text, bytes or a message.
fn bytes(number: usize, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

fn number(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [MAGIC.to_vec(), bytes(1, meta), bytes(2, raw), bytes(3, ""), bytes(4, "")].concat()
}

fn decode(resource: &str, api_version: &str, kind: &str, raw: &[u8]) -> Value {
    let row = resources().iter().find(|r| r.plural == resource && r.api_version == api_version).unwrap();
    let text = to_json(&enveloped(api_version, kind, raw), &row.schema).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn a_namespace_as_kubectl_sends_it() {
    // Go writes fields that are no pointers even when they are empty.
    let metadata = [bytes(1, "team"), bytes(2, ""), bytes(3, ""), number(7, 0), bytes(8, "")].concat();
    let raw = [bytes(1, metadata), bytes(2, ""), bytes(3, bytes(1, ""))].concat();
    let expected = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}, "spec": {}, "status": {}});
    assert_eq!(decode("namespaces", "v1", "Namespace", &raw), expected);
}

#[test]
fn every_form_of_value() {
    let port = [bytes(1, "http"), number(3, 80), bytes(4, [number(1, 1), bytes(3, "web")].concat())].concat();
    let label = [bytes(1, "app"), bytes(2, "web")].concat();
    let service = [bytes(1, bytes(11, label)), bytes(2, [bytes(1, port), number(20, 0)].concat())].concat();
    let decoded = decode("services", "v1", "Service", &service);
    assert_eq!(decoded["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(decoded["spec"]["ports"], json!([{"name": "http", "port": 80, "targetPort": "web"}]));
    assert_eq!(decoded["spec"]["allocateLoadBalancerNodePorts"], false, "a pointer to false is a value");

    let secret = [bytes(2, [bytes(1, "key"), bytes(2, [0, 255])].concat()), number(5, 0)].concat();
    let secret = decode("secrets", "v1", "Secret", &secret);
    assert_eq!(secret["data"], json!({"key": "AP8="}));
    assert_eq!(secret["immutable"], false);

    let resources = bytes(1, [bytes(1, "cpu"), bytes(2, bytes(1, "100m"))].concat());
    let probe =
        [bytes(1, bytes(3, bytes(1, [number(1, 0), number(2, 80)].concat()))), number(4, 10)].concat();
    let container = [bytes(1, "main"), bytes(8, resources), bytes(10, probe)].concat();
    let volume = [bytes(1, "tmp"), bytes(2, bytes(2, ""))].concat();
    let pod = bytes(2, [bytes(1, volume), bytes(2, container), number(4, 0), number(11, 0)].concat());
    let pod = decode("pods", "v1", "Pod", &pod);
    let main = &pod["spec"]["containers"][0];
    assert_eq!(main["resources"]["limits"]["cpu"], "100m");
    assert_eq!(main["livenessProbe"], json!({"tcpSocket": {"port": 80}, "periodSeconds": 10}));
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "tmp", "emptyDir": {}}]));
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 0);
    assert_eq!(pod["spec"].get("hostNetwork"), None);

    let time = [number(1, 60), number(2, 0)].concat();
    let lease = bytes(2, [bytes(1, "me"), number(2, 15), bytes(3, time)].concat());
    let lease = decode("leases", "coordination.k8s.io/v1", "Lease", &lease);
    assert_eq!(lease["spec"]["acquireTime"], "1970-01-01T00:01:00.000000Z");
    let extra = [bytes(1, "scope"), bytes(2, [bytes(1, "a"), bytes(1, "b")].concat())].concat();
    let review = bytes(2, [bytes(3, "jane"), bytes(5, extra)].concat());
    let review = decode("subjectaccessreviews", "authorization.k8s.io/v1", "SubjectAccessReview", &review);
    assert_eq!(review["spec"], json!({"user": "jane", "extra": {"scope": ["a", "b"]}}));
}

#[test]
fn what_is_no_message_is_refused() {
    let of = &find("", "v1", "pods").unwrap().schema;
    assert_eq!(to_json(b"{}", of), Err(ProtobufError::Magic));
    for broken in
        [&[10_u8, 200][..], &[0, 0], &[18, 2, 10], &[18, 3, 10, 1, 255, 7], &[18, 255, 255, 255, 255, 15]]
    {
        let body = [MAGIC, broken].concat();
        assert!(to_json(&body, of).is_err(), "{broken:?}");
    }
    let odd = [MAGIC.to_vec(), bytes(4, "application/cbor")].concat();
    assert_eq!(to_json(&odd, of), Err(ProtobufError::ContentType("application/cbor".into())));
}

/// Every type that a request can hold, by walking the schemas of all rows.
fn reachable() -> BTreeSet<String> {
    let name_of = |shape: &Shape| match shape {
        Shape::Object(id) => {
            registry().types().find(|(_, t)| std::ptr::eq(*t, registry().get(*id))).map(|(n, _)| n)
        }
        _ => None,
    };
    fn inner(shape: &Shape) -> &Shape {
        match shape {
            Shape::List(items) | Shape::Map(items) => inner(items),
            other => other,
        }
    }
    let mut seen = BTreeSet::new();
    let rows = resources().iter().filter(|r| r.has_protobuf());
    let mut open: Vec<Shape> = rows.map(|r| r.schema.shape()).collect();
    while let Some(shape) = open.pop() {
        let Some(name) = name_of(&shape) else { continue };
        if seen.insert(name.to_owned()) {
            let Shape::Object(id) = shape else { continue };
            open.extend(registry().get(id).fields.iter().map(|f| inner(&f.shape).clone()));
        }
    }
    seen
}

#[test]
fn every_field_of_every_served_type_has_a_number() {
    let mut missing = Vec::new();
    for name in reachable() {
        let kind = registry().get(registry().find(&name).unwrap());
        let Some(known) = numbers::of(kind) else {
            if !kind.fields.is_empty() {
                missing.push(name);
            }
            continue;
        };
        let mut names = BTreeSet::new();
        let mut open = vec![known];
        while let Some(numbers) = open.pop() {
            for entry in numbers.values() {
                match entry {
                    numbers::Entry::Field { name, .. } => {
                        assert!(names.insert(*name), "{name} is there twice")
                    }
                    numbers::Entry::Inline(inner) => open.push(inner),
                }
            }
        }
        let fields = kind.fields.iter().map(|f| &*f.name).filter(|f| !matches!(*f, "apiVersion" | "kind"));
        missing.extend(fields.filter(|f| !names.contains(f)).map(|f| format!("{name}.{f}")));
    }
    assert_eq!(missing, Vec::<String>::new());
}

fn round_trip(object: &Value) -> Value {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let row = resources().iter().find(|r| r.kind == kind && r.api_version == version).unwrap();
    let message = encode::object(object).unwrap();
    serde_json::from_slice(&to_json(&message, &row.schema).unwrap()).unwrap()
}

#[test]
fn objects_come_back_as_they_went() {
    let metadata = json!({
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
        "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"}, "finalizers": ["x"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "u2", "controller": true}],
        "managedFields": [{"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}],
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "command": ["sh"], "resources": {"limits": {"cpu": "100m"}},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"supplementalGroups": [1, 2]},
        },
        "status": {"phase": "Running", "startTime": "2026-01-02T03:04:05Z", "podIPs": [{"ip": "10.0.0.1"}]},
    });
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"renewTime": "2026-01-02T03:04:05.000007Z", "leaseDurationSeconds": 15},
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "AP8="}, "immutable": false});
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"user": "jane", "extra": {"scope": ["a", "b"]}}, "status": {"allowed": true},
    });
    let rule = json!({"rule": "self.a > 1", "reason": "FieldValueInvalid", "optionalOldSelf": false});
    let schema = json!({
        "type": "object", "required": ["a"], "x-kubernetes-validations": [rule], "properties": {
            "a": {"type": "integer", "minimum": 0, "maximum": 9, "default": 3, "enum": [1, 3], "multipleOf": 1.5},
            "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "map": {"type": "object", "additionalProperties": {"type": "string", "nullable": true}},
            "free": {"type": "object", "additionalProperties": true},
            "none": {"type": "object", "additionalProperties": false},
            "any": {"x-kubernetes-preserve-unknown-fields": true, "default": {"x": [1, "y"]}},
        },
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "tabs.a.io"},
        "spec": {
            "group": "a.io", "scope": "Cluster", "names": {"plural": "tabs", "kind": "Tab", "shortNames": ["t"]},
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"service": {"namespace": "n", "name": "s", "port": 443}, "caBundle": "AP8="},
                "conversionReviewVersions": ["v1"],
            }},
            "versions": [{
                "name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "selectableFields": [{"jsonPath": ".a"}],
                "additionalPrinterColumns": [{"name": "A", "type": "integer", "jsonPath": ".a", "priority": 1}],
            }],
        },
        "status": {"storedVersions": ["v1"], "acceptedNames": {"plural": "tabs", "kind": "Tab"}},
    });
    for object in [&pod, &lease, &secret, &review, &definition] {
        assert_eq!(round_trip(object), *object);
    }
    // The text of a stored object gives the same bytes as its value, fields in the order of their numbers.
    let stored = Stored { value: carrack_api::codec::encode_storage(&pod).unwrap(), revision: 7 };
    let row = find("", "v1", "pods").unwrap();
    let message = encode::stored(row, &stored).unwrap();
    assert_eq!(message, encode::object(&pod).unwrap());
    let frame = encode::stored_event(row, "ADDED", &stored).unwrap();
    assert_eq!(frame, encode::watch_event("ADDED", &pod).unwrap());
    let envelope = Envelope::read(&message[MAGIC.len()..]).unwrap();
    assert_eq!(numbers_of(envelope.raw), [1, 2, 3]);
    let spec = [bytes(1, bytes(1, "x")), bytes(3, "Always")].concat();
    let unordered = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"restartPolicy": "Always", "volumes": [{"name": "x"}]}});
    assert_eq!(encode::object(&unordered).unwrap(), enveloped("v1", "Pod", &bytes(2, spec)));
}

/// The numbers of the fields of a message, in order.
fn numbers_of(message: &[u8]) -> Vec<u32> {
    let mut reader = Reader::new(message);
    std::iter::from_fn(|| reader.field().unwrap()).map(|(number, _)| number).collect()
}

#[test]
fn what_does_not_fit_is_no_message() {
    for spec in
        [json!({"restartPolicy": 1}), json!({"containers": {}}), json!({"hostNetwork": "yes"}), json!([])]
    {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
        assert_eq!(encode::object(&pod), None, "{spec}");
    }
    let with_nulls = json!({"apiVersion": "v1", "kind": "Pod", "metadata": null, "spec": {"volumes": null}});
    assert_eq!(encode::object(&with_nulls).unwrap(), enveloped("v1", "Pod", &bytes(2, "")));
}

#[test]
fn lists_and_events_are_framed() {
    let row = find("", "v1", "configmaps").unwrap();
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let metadata = json!({"resourceVersion": "9", "continue": "x"});
    // More than fits into one piece.
    let mut list = encode::List::new(ResourceRef::from(row));
    for _ in 0..5000 {
        list.add_value(&map).unwrap();
    }
    let parts = list.finish(&metadata).unwrap();
    assert!(parts.len() > 2, "{}", parts.len());
    let whole =
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": vec![map; 5000]});
    assert_eq!(parts.concat(), encode::object(&whole).unwrap());
    let status = carrack_api::status::expired("gone").to_value();
    let frame = encode::watch_event("ERROR", &status).unwrap();
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    assert!(frame[4..].starts_with(b"\x0a\x05ERROR"));
    let partial =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a"}});
    assert!(encode::object(&partial).is_some());
    assert!(encode::object(&json!({"apiVersion": "v1", "kind": "Nothing"})).is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        let of = &find("", "v1", "pods").unwrap().schema;
        let _ = to_json(&enveloped("v1", "Pod", &raw), of);
        let _ = to_json(&[MAGIC, &raw].concat(), of);
    }
}
