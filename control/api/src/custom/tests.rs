//! Tables: what schemas make of values.

use serde_json::{Value, json};

use super::structural::Structural;
use super::{default, prune, validate};

fn schema(value: Value) -> Structural {
    Structural::parse(&value).unwrap()
}

/// A field `f` of this schema.
fn field(value: Value) -> Structural {
    schema(json!({"type": "object", "properties": {"f": value}}))
}

#[test]
fn values_are_judged_in_upstreams_words() {
    let cases = [
        (
            json!({"type": "integer"}),
            json!("x"),
            r#"f: Invalid value: "string": f in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "string"}),
            json!(null),
            r#"f: Invalid value: "null": f in body must be of type string: "null""#,
        ),
        (json!({"type": "string", "nullable": true}), json!(null), ""),
        (
            json!({"type": "integer"}),
            json!(1.5),
            r#"f: Invalid value: "number": f in body must be of type integer: "number""#,
        ),
        (json!({"type": "integer"}), json!(2.0), ""),
        (json!({"type": "number"}), json!(2), ""),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "f: Invalid value: 0: f in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            "f: Invalid value: 1: f in body should be greater than 1",
        ),
        (
            json!({"type": "integer", "maximum": 5}),
            json!(6),
            "f: Invalid value: 6: f in body should be less than or equal to 5",
        ),
        (
            json!({"type": "number", "maximum": 5, "exclusiveMaximum": true}),
            json!(5),
            "f: Invalid value: 5: f in body should be less than 5",
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(7),
            "f: Invalid value: 7: f in body should be a multiple of 3",
        ),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), ""),
        (
            json!({"type": "string", "minLength": 2}),
            json!("é"),
            r#"f: Invalid value: "é": f in body should be at least 2 chars long"#,
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("éàü"),
            "f: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            r#"f: Invalid value: "b": f in body should match '^a+$'"#,
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("x"),
            r#"f: Invalid value: "x": f in body must be of type ipv4: "x""#,
        ),
        (
            json!({"type": "string", "enum": ["b", "a"]}),
            json!("c"),
            r#"f: Unsupported value: "c": supported values: "b", "a""#,
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            json!([1, "x"]),
            r#"f[1]: Invalid value: "string": f[1] in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1}),
            json!([]),
            "f: Invalid value: []: f in body should have at least 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}),
            json!([1, 2]),
            "f: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            "f: Invalid value: {}: f in body should have at least 1 properties",
        ),
        (
            json!({"type": "object", "maxProperties": 1}),
            json!({"a": 1, "b": 2}),
            "f: Too many: 2: must have at most 1 items",
        ),
        (json!({"type": "object", "required": ["a"]}), json!({}), "f.a: Required value"),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            r#"f.k: Invalid value: "integer": f.k in body must be of type string: "integer""#,
        ),
        (json!({"x-kubernetes-int-or-string": true}), json!("50%"), ""),
        (json!({"x-kubernetes-int-or-string": true}), json!(5), ""),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            r#"f: Invalid value: "boolean": f in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": 1, "b": 2}),
            r#"<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ),
        (
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({}),
            r#"<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found none valid; f.a: Required value"#,
        ),
        (
            json!({"type": "object", "anyOf": [{"required": ["a"]}]}),
            json!({}),
            r#"<nil>: Invalid value: "": "f" must validate at least one schema (anyOf); f.a: Required value"#,
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 1}, {"maximum": 3}]}),
            json!(5),
            r#"f: Invalid value: 5: f in body should be less than or equal to 3; <nil>: Invalid value: "": "f" must validate all the schemas (allOf)"#,
        ),
        (
            json!({"type": "string", "not": {"enum": ["x"]}}),
            json!("x"),
            r#"<nil>: Invalid value: "": "f" must not validate the schema (not)"#,
        ),
    ];
    for (of, value, expected) in cases {
        let errors = validate(&json!({"f": value}), &field(of.clone()), None);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("; "), expected, "{of} {value}");
    }
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let cases = [
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            json!({"a": "x", "b": 1}),
            json!({"a": "x"}),
            "f.b",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "object"}}}),
            json!({"a": {"c": 1}, "b": 1}),
            json!({"a": {}, "b": 1}),
            "f.a.c",
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}),
            json!([{"a": "x"}, {"z": 1}]),
            json!([{"a": "x"}, {}]),
            "f[1].z",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}}),
            json!({"k": {"a": "x", "z": 1}}),
            json!({"k": {"a": "x"}}),
            "f.k.z",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}),
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "a"}, "spec": {"z": 1}}),
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "a"}, "spec": {}}),
            "f.spec.z",
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!({"any": [1]}), json!({"any": [1]}), ""),
    ];
    for (of, value, expected, named) in cases {
        let mut object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}, "f": value});
        let dropped = prune(&mut object, &field(of.clone()));
        assert_eq!(object["f"], expected, "{of}");
        assert_eq!(object["metadata"]["name"], "a");
        assert_eq!(dropped.join(","), named, "{of}");
    }
}

#[test]
fn defaults_fill_what_is_absent_or_null_without_leave() {
    let of = json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "x"},
        "b": {"type": "object", "default": {}, "properties": {"c": {"type": "integer", "default": 7}}},
        "n": {"type": "string", "nullable": true, "default": "y"},
        "z": {"type": "string"},
        "l": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
        "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"q": {"type": "integer", "default": 1}}}},
    }});
    let of = schema(of);
    let mut object = json!({"a": null, "n": null, "z": null, "l": [{}, {"p": "UDP"}], "m": {"k": {}}});
    default(&mut object, &of);
    let expected = json!({
        "a": "x", "b": {"c": 7}, "n": null, "l": [{"p": "TCP"}, {"p": "UDP"}], "m": {"k": {"q": 1}},
    });
    assert_eq!(object, expected);
    default(&mut object, &of);
    assert_eq!(object, expected);
}

#[test]
fn what_was_wrong_before_and_is_the_same_is_let_through() {
    let of = json!({"type": "object", "required": ["need"], "properties": {
        "short": {"type": "string", "maxLength": 1},
        "other": {"type": "string"},
        "tags": {"type": "array", "maxItems": 1, "items": {"type": "string", "maxLength": 1}},
        "ports": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "port": {"type": "integer", "maximum": 9}, "x": {"type": "string"},
            }},
        },
        "kept": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9}},
    }});
    let of = schema(of);
    let cases = [
        // Another field changed: what is wrong with this one stays; the object itself changed, and lacks a field.
        (json!({"short": "long"}), json!({"short": "long", "other": "x"}), "need"),
        (json!({"short": "long", "need": 1}), json!({"short": "long", "need": 1, "other": "x"}), ""),
        (json!({"short": "long", "need": 1}), json!({"short": "longer", "need": 1}), "short"),
        (json!({"short": "long"}), json!({"short": "long"}), ""),
        // Entries of lists that are no maps cannot be told apart.
        (json!({"need": 1, "tags": ["aa"]}), json!({"need": 2, "tags": ["aa"]}), ""),
        (json!({"need": 1, "tags": ["aa"]}), json!({"need": 1, "tags": ["aa", "b"]}), "tags[0],tags"),
        (
            json!({"need": 1, "ports": [{"name": "a", "port": 10}, {"name": "b", "port": 11}]}),
            json!({"need": 1, "ports": [{"name": "b", "port": 11, "x": "y"}, {"name": "a", "port": 12}, {"name": "c", "port": 13}]}),
            "ports[1].port,ports[2].port",
        ),
        (json!({"need": 1, "kept": {"a": 10}}), json!({"need": 1, "kept": {"a": 10, "b": 11}}), "kept.b"),
    ];
    for (old, new, expected) in cases {
        let errors = validate(&new, &of, Some(&old));
        let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(found.join(","), expected, "{old} {new}");
    }
}

#[test]
fn lists_hold_no_entry_twice_unless_they_did_before() {
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}});
    let map = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
    });
    let cases = [
        (&set, json!([1, 2]), None, ""),
        (&set, json!([1, 2, 1.0]), None, "f[2]: Duplicate value: 1.0"),
        (&set, json!([1, 1]), Some(json!([1])), "f[1]: Duplicate value: 1"),
        (&set, json!([1, 1, 3]), Some(json!([1, 1])), ""),
        (&map, json!([{"k": "a", "v": 1}, {"k": "b", "v": 1}]), None, ""),
        (&map, json!([{"k": "a", "v": 1}, {"k": "a", "v": 2}]), None, r#"f[1]: Duplicate value: {"k":"a"}"#),
    ];
    for (of, value, old, expected) in cases {
        let (new, old) = (json!({"f": value}), old.map(|old| json!({"f": old})));
        let mut errors = Vec::new();
        super::lists::validate(&new, &field(of.clone()), old.as_ref(), &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("; "), expected, "{new}");
    }
}

#[test]
fn resources_inside_of_others_say_what_they_are() {
    let of = field(json!({"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true}));
    let cases = [
        (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}}, "any": 1}), ""),
        (json!({"kind": "Pod"}), "f.apiVersion"),
        (json!({"apiVersion": "v1", "kind": ""}), "f.kind"),
        (json!({"apiVersion": "a/b/c", "kind": "Not_A_Kind"}), "f.apiVersion,f.kind"),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "not one"}}}),
            "f.metadata.labels",
        ),
    ];
    for (value, expected) in cases {
        let mut errors = Vec::new();
        super::lists::validate(&json!({"f": value}), &of, None, &mut errors);
        let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(found.join(","), expected, "{value}");
    }
}

#[test]
fn deep_schemas_and_bad_patterns_are_refused() {
    let mut deep = json!({"type": "object"});
    for _ in 0..200 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    assert!(Structural::parse(&deep).is_err());
    assert!(Structural::parse(&json!({"type": "string", "pattern": "("})).is_err());
}
