//! Nothing an expression says can make it run for long, or take much memory.

use std::time::{Duration, Instant};

use super::evaluate;
use crate::*;

#[test]
fn depth_is_bounded() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("-(", ")"), ("!(", ")"), ("[1].map(x, ", ")"), ("{1: ", "}")]
    {
        let deep = format!("{}1{}", open.repeat(5000), close.repeat(5000));
        let found = evaluate(&deep);
        assert!(found.contains("expression recursion limit exceeded: 100"), "{open}: {found}");
        let fine = format!("{}1{}", open.repeat(99), close.repeat(99));
        assert!(!evaluate(&fine).contains("recursion"), "{open}");
    }
    for chain in [" + 1", ".a", "[0]", ".size()", " < 1", " ? 1 : 1"] {
        let found = evaluate(&format!("1{}", chain.repeat(20_000)));
        assert!(found.contains("recursion limit") || found.contains("size exceeds"), "{chain}: {found}");
    }
    assert_eq!(evaluate(&format!("1{}", " + 1".repeat(249))), "250");
    // Chains of these are no deeper for being long.
    assert_eq!(evaluate(&format!("true{}", " && true".repeat(5000))), "true");
}

#[test]
fn cost_and_memory_are_bounded() {
    let start = Instant::now();
    let range = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let nested = format!(
        "{range}.all(a, {range}.all(b, {range}.all(c, {range}.all(d, {range}.all(e, {range}.all(f, true))))))"
    );
    assert_eq!(evaluate(&nested), "error: operation cancelled: actual cost limit exceeded");
    let mut double = "'0123456789'".to_owned();
    for _ in 0..40 {
        double = format!("cel.bind(x, {double}, x + x)");
    }
    assert_eq!(evaluate(&double), "error: operation cancelled: actual cost limit exceeded");
    let mut double = "[1]".to_owned();
    for _ in 0..40 {
        double = format!("cel.bind(x, {double}, x + x)");
    }
    let memory =
        format!("error: operation cancelled: the values it makes take more than {MEMORY} bytes of memory");
    assert_eq!(evaluate(&double), memory);
    let mut nested = "[1]".to_owned();
    for _ in 0..60 {
        nested = format!("cel.bind(x, {nested}, [x, x])");
    }
    // Small in memory, and endless to whoever reads all of it.
    assert!(evaluate(&nested).contains("bytes of memory"));
    assert!(evaluate(&format!("'%s'.format([{nested}])")).starts_with("error: operation cancelled"));
    let maps = nested.replace("[x, x]", "{x: x}");
    assert!(
        evaluate(&maps).starts_with("error: unsupported key type") || evaluate(&maps).contains("overload")
    );
    let compared = format!("{nested} == {nested}");
    assert_eq!(evaluate(&compared), "error: operation cancelled: actual cost limit exceeded");
    let mut replaced = "'aaaaaaaaaa'".to_owned();
    for _ in 0..20 {
        replaced = format!("{replaced}.replace('a', 'aaaaaaaaaa')");
    }
    assert!(evaluate(&replaced).starts_with("error: operation cancelled"), "{}", evaluate(&replaced));
    let slow = std::env::var("CARRACK_SLOW").ok().and_then(|slow| slow.parse().ok()).unwrap_or(1);
    assert!(start.elapsed() < slow * Duration::from_secs(90), "{:?}", start.elapsed());
}

#[test]
fn a_budget_is_shared() {
    let program = Program::compile("[1, 2, 3].all(x, x > 0)", &Environment::new()).unwrap();
    let mut budget = Budget::new(60);
    assert!(matches!(program.evaluate(&Bindings::new(), &mut budget), Ok(Value::Bool(true))));
    let left = budget.left();
    assert!(left < 60 && left > 0, "{left}");
    let error = program
        .evaluate(&Bindings::new(), &mut budget)
        .and_then(|_| program.evaluate(&Bindings::new(), &mut budget));
    assert_eq!(error.unwrap_err(), EvalError::OutOfBudget);
    assert_eq!(budget.left(), 0);
}

#[test]
fn variables_run_once_and_when_needed() {
    let fields =
        |names: &[&'static str]| Type::object("variables", names.iter().map(|name| (*name, Type::Int)));
    let first = Environment::new().with("variables", fields(&[]));
    let second = Environment::new().with("variables", fields(&["a", "bad"]));
    let third = Environment::new().with("variables", fields(&["a", "bad", "b"]));
    let compile = |source: &str, environment| Program::compile(source, environment).unwrap();
    let programs = [
        ("a".to_owned(), compile("[1, 2, 3].sum()", &first)),
        ("bad".to_owned(), compile("1 / 0", &second)),
        ("b".to_owned(), compile("variables.a + variables.a", &second)),
    ];
    let program = compile("variables.b + variables.b", &third);
    let bindings = Bindings::new().with_variables(&programs);
    let mut budget = Budget::new(PER_REQUEST);
    assert!(matches!(program.evaluate(&bindings, &mut budget), Ok(Value::Int(24))));
    let used = PER_REQUEST - budget.left();
    assert!(used < 30, "{used}");
    let failing = compile("variables.bad > 0", &third);
    assert_eq!(failing.evaluate(&bindings, &mut budget).unwrap_err(), EvalError::DivisionByZero);
    assert!(Program::compile("variables.c", &third).unwrap_err().to_string().contains("undefined field 'c'"));
}

#[test]
fn objects_are_made_for_mutations() {
    let environment = Environment::new().with("object", DYN).with_objects();
    let source = "Object{spec: Object.spec{replicas: object.n, ?paused: optional.none()}}";
    let program = Program::compile(source, &environment).unwrap();
    let object = serde_json::json!({"n": 3});
    let bindings = Bindings::new().with("object", Value::untyped(&object));
    let made = program.evaluate(&bindings, &mut Budget::new(PER_REQUEST)).unwrap().to_json().unwrap();
    assert_eq!(made, serde_json::json!({"spec": {"replicas": 3}}));
}
