//! A policy with its expressions compiled; what is wrong with them, in upstream's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::FieldError;
use carrack_api::meta;
use carrack_api::select::SelectorError;
use carrack_api::status::FieldPath;
use carrack_cel::{DYN, Environment, ObjectType, Program, STRING, Type};
use serde_json::Value;

use super::super::matching::Matching;
use super::evaluate::Failure;
use super::request::{environment, with_authorizer};
use crate::authn::text;

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) matching: Matching,
    /// What is wrong with its expressions, when it was let in all the same by another version of this server.
    pub(super) broken: Option<String>,
    /// Whether what cannot be judged is let pass.
    pub(super) ignores_failure: bool,
    /// `apiVersion` and `kind` of the parameters.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) conditions: Vec<Condition>,
    pub(super) variables: Vec<(String, Program)>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) mutations: Vec<Mutation>,
    /// Whether its mutations want to see what others changed after them.
    pub(super) reinvoke: bool,
}

/// What a mutation's expression gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patch {
    /// An object that is merged.
    Apply,
    /// Operations on the object.
    Json,
}

/// A mutation.
#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) patch: Patch,
    pub(super) source: String,
    pub(super) program: Program,
}

/// A match condition.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) source: String,
    pub(super) program: Program,
}

/// A validation.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) source: String,
    pub(super) program: Program,
    pub(super) message: String,
    pub(super) message_expression: Option<Program>,
    pub(super) reason: String,
}

/// An annotation for the audit log.
#[derive(Debug)]
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) source: String,
    pub(super) program: Program,
}

impl Policy {
    /// Reads a policy. An expression that cannot be compiled is an error, and its policy has to be refused.
    pub(super) fn read(policy: &Value) -> Result<(Policy, Vec<FieldError>), SelectorError> {
        let spec = &policy["spec"];
        let param_kind = spec.get("paramKind").filter(|kind| kind.is_object());
        let mut compiler = Compiler { errors: Vec::new() };
        let base = environment(param_kind.is_some());
        let (variables, fields) = compiler.variables(spec, &base);
        let base = base.with("variables", fields);
        let full = with_authorizer(base.clone());
        let mut read = Policy {
            broken: None,
            name: meta::name(policy).to_owned(),
            matching: Matching::of_policy(&spec["matchConstraints"])?,
            ignores_failure: text(spec, "/failurePolicy") == "Ignore",
            param_kind: param_kind
                .map(|kind| (text(kind, "/apiVersion").to_owned(), text(kind, "/kind").to_owned())),
            conditions: compiler.conditions(spec, &full),
            variables,
            validations: compiler.validations(spec, &base, &full),
            annotations: compiler.annotations(spec, &full),
            mutations: compiler.mutations(spec, &full.with_objects()),
            reinvoke: text(spec, "/reinvocationPolicy") == "IfNeeded",
        };
        read.broken = compiler.errors.first().map(|error| format!("{}: {}", error.field, error.detail));
        Ok((read, compiler.errors))
    }

    /// What becomes of an object that cannot be judged.
    pub(super) fn failures(&self, message: String) -> Vec<Failure> {
        if self.ignores_failure {
            return Vec::new();
        }
        vec![Failure { message, reason: String::new(), index: None }]
    }
}

struct Compiler {
    errors: Vec<FieldError>,
}

/// Whether an expression of type `found` can be taken for what is wanted. Patches have to say what they are.
fn fits(wanted: &Type, found: &Type) -> bool {
    match (wanted, found) {
        (Type::Made(_), _) => wanted == found,
        (Type::List(_), Type::List(_)) => wanted.accepts(found),
        (Type::List(_), _) => false,
        _ => found.is_dyn() || wanted == found,
    }
}

/// What an expression has to be, and what is said otherwise.
type Wanted<'t> = (&'t [Type], &'t str);

const BOOL: Wanted<'static> = (&[Type::Bool], "must evaluate to bool");
const TEXT: Wanted<'static> = (&[STRING], "must evaluate to string");
const TEXT_OR_NULL: Wanted<'static> = (&[STRING, Type::Null], "must evaluate to string or null_type");
const ANY: Wanted<'static> = (&[], "");

fn entries<'v>(spec: &'v Value, field: &'static str) -> impl Iterator<Item = (FieldPath, &'v Value)> {
    let path = FieldPath::root("spec").child(field);
    let list = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    list.enumerate().map(move |(index, entry)| (path.index(index), entry))
}

impl Compiler {
    fn compile(
        &mut self,
        entry: &Value,
        field: &str,
        at: &FieldPath,
        environment: &Environment,
        (types, otherwise): Wanted<'_>,
    ) -> Option<(String, Program)> {
        let source = entry[field].as_str().unwrap_or_default();
        if source.trim().is_empty() {
            return None;
        }
        let wrong = match Program::compile(source, environment) {
            Ok(program) => {
                let ty = program.result_type();
                if types.is_empty() || types.iter().any(|wanted| fits(wanted, ty)) {
                    return Some((source.to_owned(), program));
                }
                otherwise.to_owned()
            }
            Err(error) => error.to_string(),
        };
        self.errors.push(FieldError::invalid(&at.child(field), source, wrong));
        None
    }

    /// Each variable sees those before it.
    fn variables(&mut self, spec: &Value, base: &Environment) -> (Vec<(String, Program)>, Type) {
        let mut programs = Vec::new();
        let mut known = BTreeMap::new();
        let fields = |known: &BTreeMap<String, Type>| {
            let name = "kubernetes.variables".to_owned();
            Type::Object(Arc::new(ObjectType { name, fields: known.clone(), plain: true }))
        };
        for (at, entry) in entries(spec, "variables") {
            let name = text(entry, "/name").to_owned();
            let environment = with_authorizer(base.clone()).with("variables", fields(&known));
            let compiled = self.compile(entry, "expression", &at, &environment, ANY);
            known.insert(
                name.clone(),
                compiled.as_ref().map_or(DYN, |(_, program)| program.result_type().clone()),
            );
            programs.extend(compiled.map(|(_, program)| (name, program)));
        }
        (programs, fields(&known))
    }

    fn conditions(&mut self, spec: &Value, environment: &Environment) -> Vec<Condition> {
        entries(spec, "matchConditions")
            .filter_map(|(at, entry)| {
                let (source, program) = self.compile(entry, "expression", &at, environment, BOOL)?;
                Some(Condition { source, program })
            })
            .collect()
    }

    fn validations(&mut self, spec: &Value, base: &Environment, full: &Environment) -> Vec<Validation> {
        entries(spec, "validations")
            .filter_map(|(at, entry)| {
                let compiled = self.compile(entry, "expression", &at, full, BOOL);
                // Messages do not ask for rights.
                let message = self.compile(entry, "messageExpression", &at, base, TEXT);
                let (source, program) = compiled?;
                Some(Validation {
                    source,
                    program,
                    message: text(entry, "/message").trim().to_owned(),
                    message_expression: message.map(|(_, program)| program),
                    reason: text(entry, "/reason").to_owned(),
                })
            })
            .collect()
    }

    fn mutations(&mut self, spec: &Value, environment: &Environment) -> Vec<Mutation> {
        let object = [Type::Made("Object".into())];
        let operations = [Type::list(Type::Made("JSONPatch".into()))];
        let mut mutations = Vec::new();
        for (at, entry) in entries(spec, "mutations") {
            let (patch, field, wanted): (_, _, Wanted<'_>) = match text(entry, "/patchType") {
                "ApplyConfiguration" => {
                    (Patch::Apply, "applyConfiguration", (&object, "must evaluate to Object"))
                }
                "JSONPatch" => (Patch::Json, "jsonPatch", (&operations, "must evaluate to list(JSONPatch)")),
                // Validation does not let this in.
                _ => continue,
            };
            let compiled = self.compile(&entry[field], "expression", &at.child(field), environment, wanted);
            mutations.extend(compiled.map(|(source, program)| Mutation { patch, source, program }));
        }
        mutations
    }

    fn annotations(&mut self, spec: &Value, environment: &Environment) -> Vec<Annotation> {
        entries(spec, "auditAnnotations")
            .filter_map(|(at, entry)| {
                let compiled = self.compile(entry, "valueExpression", &at, environment, TEXT_OR_NULL);
                let (source, program) = compiled?;
                Some(Annotation { key: text(entry, "/key").to_owned(), source, program })
            })
            .collect()
    }
}
