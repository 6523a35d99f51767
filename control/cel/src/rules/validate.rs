//! Applies rules to an object. Source: `apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`.

use carrack_api::FieldError;
use carrack_api::status::FieldPath;
use serde_json::Value as Json;

use super::{MAX_MESSAGE, Rule, Rules};
use crate::error::EvalError;
use crate::eval::Bindings;
use crate::meter::Budget;
use crate::value::Value;

/// What rules found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What refuses the object.
    pub errors: Vec<FieldError>,
    /// What was wrong before and was not changed: shown, and let pass.
    pub warnings: Vec<String>,
}

/// Judges `new`, which replaces `old`, by `rules`. `at` is where the object's errors begin, empty for the root. No rule
/// runs after the first one that finds nothing left in `budget`.
pub fn validate(
    rules: &Rules,
    new: &Json,
    old: Option<&Json>,
    at: &FieldPath,
    budget: &mut Budget,
) -> Outcome {
    let mut walk = Walk { budget, outcome: Outcome::default() };
    let kept = Kept { here: Some(old), above: None };
    // A stop has its own error.
    let _ = walk.level(rules, new, old, at, &kept);
    walk.outcome
}

/// The value before, for telling what was not changed.
#[derive(Clone, Copy)]
struct Kept<'j> {
    /// What this value was, if it can be told; the inner one is missing when there was none.
    here: Option<Option<&'j Json>>,
    /// What the nearest value above was and is, of which that can be told.
    above: Option<(Option<&'j Json>, &'j Json)>,
}

impl<'j> Kept<'j> {
    fn is_same(&self, new: &Json) -> bool {
        match (self.here, self.above) {
            (Some(old), _) => old == Some(new),
            (None, Some((old, new))) => old == Some(new),
            (None, None) => false,
        }
    }

    fn below(&self, new: &'j Json, old: Option<Option<&'j Json>>) -> Kept<'j> {
        match self.here {
            Some(here) => Kept { here: old, above: Some((here, new)) },
            None => *self,
        }
    }
}

/// No further rule runs.
struct Stop;

struct Walk<'b> {
    budget: &'b mut Budget,
    outcome: Outcome,
}

impl Walk<'_> {
    fn level<'j>(
        &mut self,
        rules: &Rules,
        new: &'j Json,
        old: Option<&'j Json>,
        at: &FieldPath,
        kept: &Kept<'j>,
    ) -> Result<(), Stop> {
        if new.is_null() {
            return Ok(());
        }
        for rule in &rules.rules {
            self.rule(rules, rule, new, old.filter(|old| !old.is_null()), at, kept)?;
        }
        for all in &rules.all_of {
            let kept = Kept { here: None, above: kept.above };
            self.level(all, new, old, at, &kept)?;
        }
        match new {
            Json::Array(elements) => self.elements(rules, elements, new, old, at, kept),
            Json::Object(entries) => {
                for (name, value) in entries {
                    let inner = rules.properties.get(name);
                    let (inner, at) = match (inner, &rules.additional) {
                        (Some(inner), _) => (inner, at.child(name)),
                        (None, Some(inner)) => (&**inner, at.key(name)),
                        (None, None) => continue,
                    };
                    let before = old.filter(|_| rules.granular).and_then(|old| old.get(name));
                    let kept = kept.below(new, rules.granular.then_some(before));
                    self.level(inner, value, before, &at, &kept)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn elements<'j>(
        &mut self,
        rules: &Rules,
        elements: &'j [Json],
        new: &'j Json,
        old: Option<&'j Json>,
        at: &FieldPath,
        kept: &Kept<'j>,
    ) -> Result<(), Stop> {
        let Some(inner) = &rules.items else { return Ok(()) };
        let before = old.and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let named = rules.keys.as_ref().map(|keys| (keys, Named::of(keys, before)));
        for (index, element) in elements.iter().enumerate() {
            let old = named.as_ref().and_then(|(keys, named)| named.get(keys, element));
            let kept = kept.below(new, named.is_some().then_some(old));
            self.level(inner, element, old, &at.index(index), &kept)?;
        }
        Ok(())
    }

    fn rule<'j>(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        new: &'j Json,
        old: Option<&'j Json>,
        at: &FieldPath,
        kept: &Kept<'j>,
    ) -> Result<(), Stop> {
        if rule.uses_old_self() && old.is_none() && !rule.optional_old_self {
            return Ok(());
        }
        let word = rules.word.as_str();
        let result = bindings(rules, rule, new, old)
            .and_then(|bindings| rule.program.evaluate(&bindings, self.budget));
        let error = match result {
            Ok(Value::Bool(true)) => return Ok(()),
            Ok(_) => {
                let place = match rule.field_path.as_str() {
                    "" => place_of(at),
                    path => at.child(path),
                };
                let (detail, stop) = self.message(rules, rule, new, old);
                let error = reasoned(rule, &place, word, detail);
                if !rule.uses_old_self() && kept.is_same(new) {
                    self.outcome.warnings.push(format!("{}: {}", error.field, error.body()));
                } else {
                    self.outcome.errors.push(error);
                }
                return if stop { Err(Stop) } else { Ok(()) };
            }
            Err(error) => error,
        };
        let shown = rule.shown();
        let detail = match &error {
            EvalError::OutOfBudget => error.to_string(),
            EvalError::CostExceeded | EvalError::MemoryExceeded(_) => format!(
                "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
            ),
            EvalError::NoSuchOverload => format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            ),
            error => format!("{error} evaluating rule: {shown}"),
        };
        self.outcome.errors.push(FieldError::invalid(&place_of(at), word, detail));
        if error.is_fatal() { Err(Stop) } else { Ok(()) }
    }

    /// What to say of a rule that is broken, and whether to stop.
    fn message(&mut self, rules: &Rules, rule: &Rule, new: &Json, old: Option<&Json>) -> (String, bool) {
        let otherwise = || match rule.message.as_str() {
            "" => format!("failed rule: {}", rule.shown()),
            message => message.trim().to_owned(),
        };
        let Some(program) = &rule.message_expression else { return (otherwise(), false) };
        let result =
            bindings(rules, rule, new, old).and_then(|bindings| program.evaluate(&bindings, self.budget));
        match result {
            Ok(Value::String(text)) => {
                let text = text.trim();
                let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                (if usable { text.to_owned() } else { otherwise() }, false)
            }
            Err(EvalError::OutOfBudget) => {
                let detail = "messageExpression evaluation failed due to running out of cost budget, no further \
                              validation rules will be run";
                (detail.to_owned(), true)
            }
            Err(error) if error.is_fatal() => {
                let detail = "no further validation rules will be run due to call cost exceeds limit for messageExpression";
                (detail.to_owned(), true)
            }
            Ok(_) | Err(_) => (otherwise(), false),
        }
    }
}

fn bindings<'j>(
    rules: &'j Rules,
    rule: &Rule,
    new: &'j Json,
    old: Option<&'j Json>,
) -> Result<Bindings<'j>, EvalError> {
    let bindings = Bindings::new().with("self", Value::json(new, &rules.ty)?);
    if !rule.uses_old_self() {
        return Ok(bindings);
    }
    let old = old.map(|old| Value::json(old, &rules.ty)).transpose()?;
    Ok(match (rule.optional_old_self, old) {
        (true, None) => bindings.with("oldSelf", Value::Optional(None)),
        (true, Some(old)) => bindings.with("oldSelf", Value::some(old)),
        (false, Some(old)) => bindings.with("oldSelf", old),
        (false, None) => bindings,
    })
}

/// A place as errors name it: upstream's word for the whole object.
fn place_of(at: &FieldPath) -> FieldPath {
    if at.as_str().is_empty() { FieldPath::root("<nil>") } else { at.clone() }
}

fn reasoned(rule: &Rule, at: &FieldPath, word: &str, detail: String) -> FieldError {
    match rule.reason.as_deref() {
        Some("FieldValueForbidden") => FieldError::forbidden(at, detail),
        Some("FieldValueRequired") => FieldError::required(at, detail),
        Some("FieldValueDuplicate") => FieldError::duplicate(at, word),
        _ => FieldError::invalid(at, word, detail),
    }
}

/// The elements of a list of type map by their keys.
struct Named<'j>(std::collections::HashMap<Vec<String>, &'j Json>);

impl<'j> Named<'j> {
    fn name(keys: &[String], element: &Json) -> Vec<String> {
        keys.iter().map(|key| element[key].to_string()).collect()
    }

    fn of(keys: &[String], elements: &'j [Json]) -> Self {
        Named(elements.iter().map(|element| (Self::name(keys, element), element)).collect())
    }

    fn get(&self, keys: &[String], element: &Json) -> Option<&'j Json> {
        self.0.get(&Self::name(keys, element)).copied()
    }
}
