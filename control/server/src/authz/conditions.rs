//! `matchConditions` of authorization webhooks: expressions in CEL that say which requests a webhook is asked about.
//!
//! They see `request`, the `spec` of a SubjectAccessReview in which every text is there, be it empty. Source:
//! `apiserver/pkg/authorization/cel`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use carrack_cel::{Bindings, Budget, Environment, PER_CALL, Program, STRING, Type, Value as Cel};
use serde_json::{Value, json};

use super::webhook::spec;
use crate::Attributes;

/// Conditions of one webhook at most.
const MOST: usize = 64;

static REQUEST: LazyLock<Type> = LazyLock::new(request_type);

/// The conditions of one webhook.
#[derive(Debug, Default)]
pub struct Conditions(Vec<(String, Program)>);

fn request_type() -> Type {
    let texts =
        |name: &str, fields: &[&'static str]| Type::object(name, fields.iter().map(|field| (*field, STRING)));
    let requirement = Type::object(
        "kubernetes.SelectorRequirement",
        [("key", STRING), ("operator", STRING), ("values", Type::list(STRING))],
    );
    let selector = |name: &str| {
        let requirements = Type::list(requirement.clone());
        Type::object(name, [("rawSelector", STRING), ("requirements", requirements)])
    };
    let resource = Type::object(
        "kubernetes.ResourceAttributes",
        ["namespace", "verb", "group", "version", "resource", "subresource", "name"]
            .map(|field| (field, STRING))
            .into_iter()
            .chain([
                ("fieldSelector", selector("kubernetes.FieldSelectorAttributes")),
                ("labelSelector", selector("kubernetes.LabelSelectorAttributes")),
            ]),
    );
    Type::object(
        "kubernetes.SubjectAccessReviewSpec",
        [
            ("resourceAttributes", resource),
            ("nonResourceAttributes", texts("kubernetes.NonResourceAttributes", &["path", "verb"])),
            ("user", STRING),
            ("groups", Type::list(STRING)),
            ("extra", Type::map(STRING, Type::list(STRING))),
            ("uid", STRING),
        ],
    )
}

impl Conditions {
    /// Compiles conditions; an error names the field below the webhook.
    pub fn compile(expressions: &[String]) -> Result<Self, String> {
        if expressions.len() > MOST {
            let count = expressions.len();
            return Err(format!("matchConditions: Too many: {count}: must have at most {MOST} items"));
        }
        let environment = Environment::new().with("request", REQUEST.clone());
        let mut seen = BTreeSet::new();
        let mut programs = Vec::new();
        for (index, expression) in expressions.iter().enumerate() {
            let at = format!("matchConditions[{index}].expression");
            let wrong = |why: String| format!("{at}: Invalid value: {expression:?}: {why}");
            if expression.trim().is_empty() {
                return Err(format!("{at}: Required value"));
            }
            if !seen.insert(expression) {
                return Err(format!("{at}: Duplicate value: {expression:?}"));
            }
            let program = Program::compile(expression, &environment).map_err(|why| wrong(why.to_string()))?;
            if *program.result_type() != Type::Bool {
                return Err(wrong(format!("must evaluate to bool but got {}", program.result_type())));
            }
            programs.push((expression.clone(), program));
        }
        Ok(Conditions(programs))
    }

    /// Whether all hold. One that does not settles it; an error is told when none does.
    pub(super) fn hold(&self, request: &Attributes) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let request = complete(request);
        let request = Cel::json(&request, &REQUEST).map_err(|why| why.to_string())?;
        let bindings = Bindings::new().with("request", request);
        let mut failed = Vec::new();
        for (expression, program) in &self.0 {
            match program.evaluate(&bindings, &mut Budget::new(PER_CALL)) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => failed.push(format!(
                    "cel evaluation error: expression '{expression}' eval result type should be bool"
                )),
                Err(why) => failed.push(format!(
                    "cel evaluation error: expression '{expression}' resulted in error: {why}"
                )),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// The `spec` of the review with empty texts, too.
fn complete(request: &Attributes) -> Value {
    let mut spec = spec(request);
    let parts: [(&str, &[&str]); 2] = [
        (
            "/resourceAttributes",
            &["namespace", "verb", "group", "version", "resource", "subresource", "name"],
        ),
        ("/nonResourceAttributes", &["path", "verb"]),
    ];
    for (pointer, fields) in parts {
        let Some(part) = spec.pointer_mut(pointer).and_then(Value::as_object_mut) else { continue };
        for field in fields {
            part.entry(*field).or_insert_with(|| "".into());
        }
    }
    for (field, empty) in
        [("user", json!("")), ("uid", json!("")), ("groups", json!([])), ("extra", json!({}))]
    {
        if spec[field].is_null() {
            spec[field] = empty;
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use crate::{Selectors, UserInfo};

    fn held(expressions: &[&str], asked: &str) -> Result<bool, String> {
        let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
        let mut asked = request(&UserInfo::new("jane", ["dev"]), asked);
        asked.selectors = Selectors::parse("", "app=web");
        Conditions::compile(&expressions)?.hold(&asked)
    }

    #[test]
    fn one_that_does_not_hold_settles_it() {
        let pods = "list pods @kube-system";
        for (expressions, expected) in [
            (&["has(request.resourceAttributes)"][..], Ok(true)),
            (&["request.resourceAttributes.namespace == 'kube-system'", "request.user == 'jane'"], Ok(true)),
            (&["'dev' in request.groups && request.uid == '' && request.extra == {}"], Ok(true)),
            (&["request.resourceAttributes.subresource == ''"], Ok(true)),
            (&["request.resourceAttributes.labelSelector.requirements[0].values == ['web']"], Ok(true)),
            (&["has(request.nonResourceAttributes)"], Ok(false)),
            (&["request.nonResourceAttributes.path == '/'", "false"], Ok(false)),
            (
                &["request.nonResourceAttributes.path == '/'", "true"],
                Err(
                    "cel evaluation error: expression 'request.nonResourceAttributes.path == '/'' resulted in \
                     error: no such key: nonResourceAttributes",
                ),
            ),
        ] {
            assert_eq!(held(expressions, pods), expected.map_err(str::to_owned), "{expressions:?}");
        }
        assert_eq!(held(&["request.nonResourceAttributes.path == '/metrics'"], "get /metrics"), Ok(true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (expressions, says) in [
            (&["true", " "][..], "matchConditions[1].expression: Required value"),
            (&["true", "true"], "matchConditions[1].expression: Duplicate value: \"true\""),
            (&["request.user"], "\"request.user\": must evaluate to bool but got string"),
            (&["request.name == 'x'"], "undefined field 'name'"),
            (&["object == null"], "undeclared reference to 'object'"),
        ] {
            let error = held(expressions, "get pods @web").unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(held(&["true"; 65], "get /x").unwrap_err().contains("must have at most 64 items"));
    }
}
