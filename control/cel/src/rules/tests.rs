//! Rules at creation, and on objects.

use carrack_api::status::FieldPath;
use serde_json::{Value as Json, json};

use super::{compile, validate};
use crate::meter::{Budget, PER_REQUEST};

fn compiled(schema: &Json) -> Vec<String> {
    let (_, errors) = compile(schema, false, &FieldPath::root("schema"));
    errors.iter().map(|error| format!("{}: {}", error.field, error.body())).collect()
}

fn judged_with(schema: &Json, new: Json, old: Option<Json>, budget: u64) -> (Vec<String>, Vec<String>) {
    let (rules, errors) = compile(schema, true, &FieldPath::default());
    assert_eq!(errors, [], "the schema is fine");
    let outcome = validate(&rules, &new, old.as_ref(), &FieldPath::default(), &mut Budget::new(budget));
    let errors = outcome.errors.iter().map(|error| format!("{}: {}", error.field, error.body())).collect();
    (errors, outcome.warnings)
}

fn judged(schema: &Json, new: Json, old: Option<Json>) -> Vec<String> {
    judged_with(schema, new, old, PER_REQUEST).0
}

fn spec(properties: Json, rules: Json) -> Json {
    json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": properties, "x-kubernetes-validations": rules,
    }}})
}

#[test]
fn rules_are_checked_when_they_are_created() {
    let number = json!({"n": {"type": "integer"}});
    let at = "schema.properties[spec].x-kubernetes-validations[0]";
    let cases = [
        (json!({"rule": "self.n > 0"}), None),
        (json!({"rule": " "}), Some(".rule: Required value: rule is not specified")),
        (
            json!({"rule": "self.n"}),
            Some(".rule: Invalid value: \"self.n\": cel expression must evaluate to a bool"),
        ),
        (
            json!({"rule": "self.m > 0"}),
            Some(
                ".rule: Invalid value: \"self.m > 0\": compilation failed: ERROR: <input>:1:5: undefined field 'm'\n | self.m > 0\n | ....^",
            ),
        ),
        (
            json!({"rule": "true", "message": " "}),
            Some(".message: Invalid value: \" \": message must be non-empty if specified"),
        ),
        (
            json!({"rule": "true ||\n true"}),
            Some(".message: Required value: message must be specified if rule contains line breaks"),
        ),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            Some(".messageExpression: Invalid value: \"1\": messageExpression must evaluate to a string"),
        ),
        (
            json!({"rule": "true", "reason": "Bad"}),
            Some(
                ".reason: Unsupported value: \"Bad\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            ),
        ),
        (
            json!({"rule": "true", "fieldPath": ".m"}),
            Some(
                ".fieldPath: Invalid value: \".m\": fieldPath must be a valid path: does not refer to a valid field",
            ),
        ),
        (json!({"rule": "true", "fieldPath": "['n']"}), None),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            Some(".optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"),
        ),
        (json!({"rule": "oldSelf.orValue({}).size() == 0", "optionalOldSelf": true}), Some("")),
        (json!({"rule": "oldSelf.hasValue()", "optionalOldSelf": true}), None),
    ];
    for (rule, expected) in cases {
        let found = compiled(&spec(number.clone(), json!([rule])));
        match expected {
            None => assert_eq!(found, Vec::<String>::new(), "{rule}"),
            Some("") => assert_eq!(found.len(), 1, "{rule}: {found:?}"),
            Some(expected) => assert_eq!(found, [format!("{at}{expected}")], "{rule}"),
        }
    }
}

#[test]
fn what_could_cost_too_much_is_refused() {
    let text = json!({"type": "string"});
    let list = |extra: Json| {
        let mut list = json!({"type": "array", "items": text});
        list.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        list
    };
    let nested = json!([{"rule": "self.l.all(x, self.l.exists(y, x == y))"}]);
    let found = compiled(&spec(json!({"l": list(json!({}))}), nested.clone()));
    let factor = "exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, \
                  and maxLength where arrays, maps, and strings are declared)";
    let at = "schema.properties[spec].x-kubernetes-validations[0].rule";
    assert_eq!(
        found,
        [
            format!("{at}: Forbidden: estimated rule cost {factor}"),
            format!(
                "{at}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            ),
            format!(
                "schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema {factor}"
            ),
        ]
    );
    let bounded = json!({"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 20}});
    assert_eq!(compiled(&spec(json!({"l": bounded}), nested)), Vec::<String>::new());
    let items = |max: Json| {
        let mut list = list(max);
        list["items"]["x-kubernetes-validations"] = json!([{"rule": "self.startsWith('a')"}]);
        compiled(&spec(json!({"l": list}), json!([])))
    };
    assert_eq!(items(json!({"maxItems": 10})), Vec::<String>::new(), "one text of any length is affordable");
    assert_eq!(items(json!({})).len(), 3, "any number of them is not");
}

#[test]
fn rules_judge_objects() {
    let schema = spec(
        json!({"min": {"type": "integer"}, "max": {"type": "integer"}, "names": {
            "type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 9,
                "x-kubernetes-validations": [{"rule": "self != 'bad'", "message": "not that"}]}}}),
        json!([
            {"rule": "self.min <= self.max", "fieldPath": ".min"},
            {"rule": "self.max < 10", "message": "too large", "reason": "FieldValueForbidden",
             "messageExpression": "'%d is too large'.format([self.max])"},
        ]),
    );
    assert_eq!(
        judged(&schema, json!({"spec": {"min": 1, "max": 2, "names": ["a"]}}), None),
        Vec::<String>::new()
    );
    assert_eq!(
        judged(&schema, json!({"spec": {"min": 30, "max": 20, "names": ["a", "bad"]}}), None),
        [
            "spec.min: Invalid value: \"object\": failed rule: self.min <= self.max",
            "spec: Forbidden: 20 is too large",
            "spec.names[1]: Invalid value: \"string\": not that",
        ]
    );
    assert_eq!(
        judged(&schema, json!({"spec": {"max": 1}}), None),
        ["spec: Invalid value: \"object\": no such key: min evaluating rule: self.min <= self.max",]
    );
    assert_eq!(judged(&schema, json!({"spec": null}), None), Vec::<String>::new());
}

#[test]
fn transitions() {
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "maxItems": 9,
        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}});
    let schema = spec(
        json!({"fixed": {"type": "string"}, "list": list}),
        json!([
            {"rule": "self.fixed == oldSelf.fixed", "message": "fixed is immutable"},
            {"rule": "oldSelf.hasValue() || self.fixed == 'new'", "optionalOldSelf": true, "message": "starts as new"},
        ]),
    );
    assert_eq!(judged(&schema, json!({"spec": {"fixed": "new"}}), None), Vec::<String>::new());
    assert_eq!(
        judged(&schema, json!({"spec": {"fixed": "x"}}), None),
        ["spec: Invalid value: \"object\": starts as new"]
    );
    let old = json!({"spec": {"fixed": "x", "list": [{"k": "a", "v": 1}, {"k": "b", "v": 5}]}});
    let new =
        json!({"spec": {"fixed": "y", "list": [{"k": "b", "v": 4}, {"k": "a", "v": 2}, {"k": "c", "v": 0}]}});
    assert_eq!(
        judged(&schema, new, Some(old)),
        [
            "spec: Invalid value: \"object\": fixed is immutable",
            "spec.list[0]: Invalid value: \"object\": failed rule: self.v >= oldSelf.v",
        ]
    );
    let mut atomic = schema.clone();
    atomic["properties"]["spec"]["properties"]["list"]
        .as_object_mut()
        .unwrap()
        .remove("x-kubernetes-list-type");
    assert_eq!(
        compiled(&atomic),
        [
            "schema.properties[spec].properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self.v >= \
         oldSelf.v\": oldSelf cannot be used on the uncorrelatable portion of the schema within \
         schema.properties[spec].properties[list]",
        ]
    );
}

#[test]
fn what_was_not_changed_passes_with_a_warning() {
    let schema = spec(
        json!({"a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}, "b": {"type": "integer"}}),
        json!([]),
    );
    let old = json!({"spec": {"a": -1, "b": 1}});
    let (errors, warnings) =
        judged_with(&schema, json!({"spec": {"a": -1, "b": 2}}), Some(old.clone()), PER_REQUEST);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(warnings, ["spec.a: Invalid value: \"integer\": failed rule: self > 0"]);
    let (errors, _) = judged_with(&schema, json!({"spec": {"a": -2, "b": 2}}), Some(old), PER_REQUEST);
    assert_eq!(errors, ["spec.a: Invalid value: \"integer\": failed rule: self > 0"]);
}

#[test]
fn a_budget_that_ends_stops_all_rules() {
    let rule = json!({"rule": "self.n > 0"});
    let schema = spec(json!({"n": {"type": "integer"}}), json!([rule, rule, rule, rule]));
    let (errors, _) = judged_with(&schema, json!({"spec": {"n": 1}}), None, 5);
    assert_eq!(
        errors,
        [
            "spec: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules \
         will be run",
        ]
    );
}

#[test]
fn rules_of_the_root_see_its_name() {
    let schema = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith('a')", "message": "name"},
    ]});
    let object = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "b"}});
    assert_eq!(judged(&schema, object, None), ["<nil>: Invalid value: \"object\": name"]);
}

/// Estimates that definitions in wide use, such as those of Gateway API and Karpenter, stay just within.
#[test]
fn estimates_are_no_stricter_than_upstreams() {
    let keys = json!({"type": "object", "maxProperties": 100, "additionalProperties": {"type": "string", "maxLength": 63},
    "x-kubernetes-validations": [
        {"rule": "self.all(key, key.matches('^[a-z]([a-z0-9.-]*/)?[A-Za-z0-9_.-]{0,61}$'))"},
        {"rule": "self.all(key, !key.find('^([^/]+)').endsWith('example.com'))"},
        {"rule": "self.all(key, key.split('/')[0].size() < 253)"},
    ]});
    assert_eq!(compiled(&keys), [] as [&str; 0]);
    let origins = json!({"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 253},
        "x-kubernetes-validations": [{"rule": "!('*' in self && self.size() > 1)"}]});
    let nested = (0..3).fold(origins, |inner, _| {
        json!({"type": "array", "maxItems": 16, "items": {"type": "object", "properties": {"inner": inner}}})
    });
    assert_eq!(compiled(&nested), [] as [&str; 0]);
}
