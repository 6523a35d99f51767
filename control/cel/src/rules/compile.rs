//! Reads the rules of a schema when it is created. Source: `apiextensions/validation/validation.go`.

use std::collections::BTreeMap;

use carrack_api::FieldError;
use carrack_api::status::FieldPath;
use serde_json::Value as Json;

use super::{RULE_LIMIT, Rule, Rules, SCHEMA_LIMIT, path, text};
use crate::check::Environment;
use crate::program::Program;
use crate::schema::{Sized, sized};
use crate::types::Type;

const VALIDATIONS: &str = "x-kubernetes-validations";
const REASONS: &[&str] =
    &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// How many rules are named when all together cost too much.
const NAMED: usize = 4;

/// The rules of `schema`, which stands at `at`; `root` for the schema of a whole object. With what is wrong with them,
/// in upstream's words.
pub fn compile(schema: &Json, root: bool, at: &FieldPath) -> (Rules, Vec<FieldError>) {
    let mut compiler = Compiler { errors: Vec::new(), costs: Vec::new() };
    let place = Place { path: at.clone(), times: Some(1), uncorrelated: None };
    let rules = compiler.level(schema, schema, root, &place);
    compiler.judge_total(at);
    (rules, compiler.errors)
}

struct Compiler {
    errors: Vec<FieldError>,
    /// What each expression costs for all values, and where it is.
    costs: Vec<(u64, FieldPath)>,
}

/// Where in a schema we are.
#[derive(Clone)]
struct Place {
    path: FieldPath,
    /// How many values there are at most; `None` when the schema does not say.
    times: Option<u64>,
    /// Above here values have no predecessors.
    uncorrelated: Option<FieldPath>,
}

impl Place {
    fn child(&self, path: FieldPath, times: Option<u64>, correlated: bool) -> Place {
        let here = || (!correlated).then(|| self.path.clone());
        Place {
            path,
            times: self.times.zip(times).map(|(a, b)| a.saturating_mul(b)),
            uncorrelated: self.uncorrelated.clone().or_else(here),
        }
    }
}

impl Compiler {
    /// `rules` holds rules; `node` is the schema of the values. They differ within `allOf`.
    fn level(&mut self, rules: &Json, node: &Json, root: bool, place: &Place) -> Rules {
        let declared = rules[VALIDATIONS].as_array().map_or(&[][..], Vec::as_slice);
        let known = if declared.is_empty() { None } else { sized(node, root) };
        let list_type = node["x-kubernetes-list-type"].as_str();
        let granular = node["x-kubernetes-map-type"] != "atomic";
        let mut level = Rules {
            ty: known.as_ref().map_or(Type::Null, |known| known.ty.clone()),
            word: text(node, "type").to_owned(),
            rules: Vec::new(),
            properties: BTreeMap::new(),
            items: None,
            additional: None,
            all_of: Vec::new(),
            keys: keys(node).filter(|_| list_type == Some("map")),
            granular,
        };
        for (index, declared) in declared.iter().enumerate() {
            let at = place.path.child(VALIDATIONS).index(index);
            match &known {
                Some(known) => level.rules.extend(self.rule(declared, node, known, place, &at)),
                None => self.errors.push(FieldError::invalid(
                    &at,
                    text(declared, "rule"),
                    "rules are allowed only where the type of values is specified",
                )),
            }
        }
        for (name, property) in rules["properties"].as_object().into_iter().flatten() {
            let inner = place.child(place.path.child("properties").key(name), Some(1), granular);
            let child = self.level(property, &node["properties"][name], false, &inner);
            if !child.is_empty() {
                level.properties.insert(name.clone(), child);
            }
        }
        if rules["items"].is_object() {
            let times = node["maxItems"].as_u64();
            let inner = place.child(place.path.child("items"), times, list_type == Some("map"));
            level.items = self.boxed(&rules["items"], &node["items"], &inner);
        }
        if rules["additionalProperties"].is_object() {
            let times = node["maxProperties"].as_u64();
            let inner = place.child(place.path.child("additionalProperties"), times, granular);
            level.additional =
                self.boxed(&rules["additionalProperties"], &node["additionalProperties"], &inner);
        }
        for (index, all) in rules["allOf"].as_array().into_iter().flatten().enumerate() {
            let inner = Place { path: place.path.child("allOf").index(index), ..place.clone() };
            let child = self.level(all, node, root, &inner);
            if !child.is_empty() {
                level.all_of.push(child);
            }
        }
        level
    }

    fn boxed(&mut self, rules: &Json, node: &Json, place: &Place) -> Option<Box<Rules>> {
        let level = self.level(rules, node, false, place);
        (!level.is_empty()).then(|| Box::new(level))
    }

    fn rule(
        &mut self,
        declared: &Json,
        node: &Json,
        known: &Sized,
        place: &Place,
        at: &FieldPath,
    ) -> Option<Rule> {
        let before = self.errors.len();
        let (source, message) = (text(declared, "rule"), text(declared, "message"));
        self.texts(declared, at);
        let field_path = self.field_path(declared, node, at);
        let optional = declared["optionalOldSelf"] == true;
        let old = if optional { Type::optional(known.ty.clone()) } else { known.ty.clone() };
        let environment = Environment::new().with("self", known.ty.clone()).with("oldSelf", old);
        let program = self.expression(
            &environment,
            source,
            &at.child("rule"),
            (Type::Bool, "cel expression must evaluate to a bool"),
        );
        if let Some(program) = &program {
            self.judge(program, "estimated rule cost", place, known, at.child("rule"));
            self.transition(program, declared, place, at);
        }
        let expression = text(declared, "messageExpression");
        let message_expression = (!expression.trim().is_empty())
            .then(|| {
                let wanted = (crate::types::STRING, "messageExpression must evaluate to a string");
                let at = at.child("messageExpression");
                let program = self.expression(&environment, expression, &at, wanted)?;
                self.judge(&program, "estimated messageExpression cost", place, known, at);
                Some(program)
            })
            .flatten();
        if self.errors.len() > before {
            return None;
        }
        Some(Rule {
            source: source.to_owned(),
            program: program?,
            message: message.to_owned(),
            message_expression,
            reason: declared["reason"].as_str().map(str::to_owned),
            field_path,
            optional_old_self: optional,
        })
    }

    /// What is wrong with a rule's texts.
    fn texts(&mut self, declared: &Json, at: &FieldPath) {
        let (rule, message) = (text(declared, "rule"), text(declared, "message"));
        let lines = |text: &str| text.contains(['\n', '\r']);
        let errors = &mut self.errors;
        if rule.trim().is_empty() {
            errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
        }
        let place = at.child("message");
        if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(&place, message, "message must be non-empty if specified"));
        } else if lines(message.trim()) {
            errors.push(FieldError::invalid(&place, message, "message must not contain line breaks"));
        } else if lines(rule.trim()) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&place, detail));
        }
        let expression = text(declared, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(&at.child("messageExpression"), detail));
        }
        let reason = declared["reason"].as_str().filter(|reason| !REASONS.contains(reason));
        if let Some(reason) = reason {
            errors.push(FieldError::not_supported(&at.child("reason"), reason, REASONS));
        }
    }

    fn field_path(&mut self, declared: &Json, node: &Json, at: &FieldPath) -> String {
        let given = text(declared, "fieldPath");
        if given.is_empty() {
            return String::new();
        }
        let wrong = if given.trim().is_empty() {
            "fieldPath must be non-empty if specified".to_owned()
        } else if given.contains(['\n', '\r']) {
            "fieldPath must not contain line breaks".to_owned()
        } else {
            match path::normalized(given.trim(), node) {
                Ok(path) => return path,
                Err(error) => format!("fieldPath must be a valid path: {error}"),
            }
        };
        self.errors.push(FieldError::invalid(&at.child("fieldPath"), given, wrong));
        String::new()
    }

    fn expression(
        &mut self,
        environment: &Environment,
        source: &str,
        at: &FieldPath,
        (wanted, otherwise): (Type, &str),
    ) -> Option<Program> {
        if source.trim().is_empty() {
            return None;
        }
        match Program::compile(source, environment) {
            Ok(program) if *program.result_type() == wanted || program.result_type().is_dyn() => {
                Some(program)
            }
            Ok(_) => {
                self.errors.push(FieldError::invalid(at, source, otherwise));
                None
            }
            Err(error) => {
                self.errors.push(FieldError::invalid(at, source, error.to_string()));
                None
            }
        }
    }

    /// Whether the old value may be named here.
    fn transition(&mut self, program: &Program, declared: &Json, place: &Place, at: &FieldPath) {
        if !program.uses("oldSelf") {
            if !declared["optionalOldSelf"].is_null() {
                let given = declared["optionalOldSelf"].clone();
                let detail = "may not be set if oldSelf is not used in rule";
                self.errors.push(FieldError::invalid(&at.child("optionalOldSelf"), given, detail));
            }
        } else if let Some(above) = &place.uncorrelated {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {above}");
            self.errors.push(FieldError::invalid(&at.child("rule"), text(declared, "rule"), detail));
        }
    }

    fn judge(&mut self, program: &Program, what: &str, place: &Place, known: &Sized, at: FieldPath) {
        let times = place.times.unwrap_or_else(|| known.most());
        let cost = program.cost_limit().saturating_mul(times);
        if cost > RULE_LIMIT {
            self.errors.push(FieldError::forbidden(&at, exceeded(what, cost, RULE_LIMIT)));
        }
        self.costs.push((cost, at));
    }

    fn judge_total(&mut self, at: &FieldPath) {
        let total = self.costs.iter().fold(0u64, |total, (cost, _)| total.saturating_add(*cost));
        if total <= SCHEMA_LIMIT {
            return;
        }
        self.costs.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (cost, at) in self.costs.iter().take(NAMED) {
            if *cost > SCHEMA_LIMIT / 100 {
                let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                self.errors.push(FieldError::forbidden(at, detail));
            }
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.errors.push(FieldError::forbidden(at, exceeded(what, total, SCHEMA_LIMIT)));
    }
}

fn keys(node: &Json) -> Option<Vec<String>> {
    let keys = node["x-kubernetes-list-map-keys"].as_array()?;
    Some(keys.iter().filter_map(Json::as_str).map(str::to_owned).collect())
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
