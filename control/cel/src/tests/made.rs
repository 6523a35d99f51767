//! Objects that expressions make, and what an expression is seen to use.

use super::object;
use crate::{Bindings, Budget, DYN, Environment, PER_REQUEST, Program, Value};

fn environment() -> Environment {
    Environment::new().with("object", DYN).with("claims", DYN).with_objects()
}

fn compiled(expression: &str) -> Result<Program, String> {
    Program::compile(expression, &environment()).map_err(|error| error.issues()[0].message.clone())
}

#[test]
fn types_of_objects() {
    let cases = [
        ("Object{spec: Object.spec{replicas: 3}}", Ok("Object")),
        ("[JSONPatch{op: 'add', path: '/a', value: 1}]", Ok("list(JSONPatch)")),
        ("[JSONPatch{op: 'test'}] + (object.x ? [JSONPatch{op: 'add'}] : [])", Ok("list(dyn)")),
        ("true ? Object{} : Object{}", Ok("Object")),
        ("Object{}.spec", Ok("dyn")),
        ("Object{?spec: optional.none()}", Ok("Object")),
        ("JSONPatch{op: 1}", Err("expected type of field 'op' is 'string' but provided type is 'int'")),
        ("JSONPatch{what: 'x'}", Err("undefined field 'what'")),
        ("Thing{a: 1}", Err("undeclared reference to 'Thing' (in container '')")),
        ("[1, 'a']", Err("expected type 'int' but found 'string'")),
        ("[1, dyn('a')]", Ok("list(dyn)")),
        ("{'a': 1, 'b': 'c'}", Err("expected type 'int' but found 'string'")),
        ("{'a': 1, 2: 1}", Err("expected type 'string' but found 'int'")),
        ("[Object{}, JSONPatch{}]", Err("expected type 'Object' but found 'JSONPatch'")),
    ];
    for (expression, expected) in cases {
        let found = compiled(expression).map(|program| program.result_type().to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{expression}");
    }
    let without = Program::compile("Object{}", &Environment::new());
    assert!(without.is_err(), "objects are made where they are of use alone");
}

#[test]
fn names_of_types_follow_the_fields() {
    let object = object();
    let cases = [
        ("Object{spec: Object.spec{list: [Object.spec.list{a: {'k': Object.spec.list.a{}}}]}}", None),
        (
            "Object{spec: Object.status{}}",
            Some(r#"unexpected type name "Object.status", expected "Object.spec""#),
        ),
        ("Object{spec: [Object{}]}", Some(r#"unexpected type name "Object", expected "Object.spec""#)),
        ("Object{spec: Object.spec{x: object}}", None),
    ];
    for (expression, expected) in cases {
        let program = compiled(expression).unwrap();
        let bindings = Bindings::new().with("object", Value::untyped(&object));
        let wrong = program.evaluate(&bindings, &mut Budget::new(PER_REQUEST)).unwrap().misnamed();
        let expected =
            expected.map(|why| format!("{why}, which matches field name path from root Object type"));
        assert_eq!(wrong.first(), expected.as_ref(), "{expression}");
    }
}

#[test]
fn uses_of_fields() {
    for (expression, expected) in [
        ("claims.email", true),
        ("has(claims.email) && true", true),
        ("[1].all(x, claims.?email.orValue('') == 'a')", true),
        ("{'a': claims.email.b}", true),
        ("claims['email']", false),
        ("object.email + claims.other", false),
        ("'claims.email'", false),
    ] {
        assert_eq!(compiled(expression).unwrap().selects("claims", "email"), expected, "{expression}");
    }
}
