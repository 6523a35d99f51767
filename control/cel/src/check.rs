//! Finds the type of every part of an expression, and what is wrong with it, before it runs. After `cel-go/checker`.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{Kind, Macro, MacroKind, Node};
use crate::error::Issue;
use crate::functions::{self, Bound, Grows, Row, compatible};
use crate::parser::spelled;
use crate::types::{DYN, Max, STRING, Type};
use crate::value::Value;

/// The type of the operations of a JSON patch.
const PATCH: &str = "JSONPatch";

/// The names of types, as expressions write them and as values of them are called.
const TYPES: &[(&str, &str)] = &[
    ("bool", "bool"),
    ("bytes", "bytes"),
    ("double", "double"),
    ("int", "int"),
    ("uint", "uint"),
    ("string", "string"),
    ("list", "list"),
    ("map", "map"),
    ("null_type", "null_type"),
    ("type", "type"),
    ("optional_type", "optional_type"),
    ("google.protobuf.Timestamp", "google.protobuf.Timestamp"),
    ("google.protobuf.Duration", "google.protobuf.Duration"),
    ("net.IP", "net.IP"),
    ("net.CIDR", "net.CIDR"),
    ("kubernetes.URL", "kubernetes.URL"),
    ("kubernetes.Quantity", "kubernetes.Quantity"),
    ("kubernetes.Semver", "kubernetes.Semver"),
    ("kubernetes.NamedFormat", "kubernetes.NamedFormat"),
];

/// What an expression can name.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    makes_objects: bool,
}

impl Environment {
    /// Functions alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// And a variable. A dot may be in its name.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.to_owned(), ty);
        self
    }

    /// And objects to be made: `Object{…}`, `Object.spec{…}` and `JSONPatch{…}`, as mutations need them.
    #[must_use]
    pub fn with_objects(mut self) -> Self {
        self.makes_objects = true;
        self
    }
}

/// What the checker found out beside types.
pub(crate) struct Checked {
    pub(crate) issues: Vec<Issue>,
    /// The variables of the environment that are used.
    pub(crate) used: BTreeSet<String>,
}

pub(crate) fn check(node: &mut Node, environment: &Environment) -> Checked {
    let found = Checked { issues: Vec::new(), used: BTreeSet::new() };
    let mut checker = Checker { environment, scope: Vec::new(), found };
    checker.node(node);
    checker.found
}

struct Checker<'e> {
    environment: &'e Environment,
    scope: Vec<(String, Type)>,
    found: Checked,
}

/// Types as messages list them.
fn signature(types: &[&Type], member: bool) -> String {
    let shown: Vec<String> = types.iter().map(|ty| ty.to_string()).collect();
    match shown.split_first() {
        Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
        _ => format!("({})", shown.join(", ")),
    }
}

fn is_bool(ty: &Type) -> bool {
    *ty == Type::Bool || ty.is_dyn()
}

impl Checker<'_> {
    fn issue(&mut self, at: usize, message: String) -> Type {
        self.found.issues.push(Issue { at, message });
        DYN
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn no_overload(&mut self, at: usize, name: &str, types: &[&Type], member: bool) -> Type {
        let signature = signature(types, member);
        self.issue(at, format!("found no matching overload for '{name}' applied to '{signature}'"))
    }

    fn node(&mut self, node: &mut Node) {
        self.resolve(node);
        let at = node.at;
        node.ty = match &mut node.kind {
            Kind::Literal(value) => literal(value),
            Kind::Ident(name) => self.ident(at, name),
            Kind::Select { operand, field, optional } => {
                self.node(operand);
                let ty = self.field(at, &operand.ty, field);
                if *optional { as_optional(ty) } else { ty }
            }
            Kind::Has { operand, field } => {
                self.node(operand);
                self.field(at, &operand.ty, field);
                Type::Bool
            }
            Kind::Index { operand, index, optional } => {
                self.node(operand);
                self.node(index);
                let ty = self.index(at, &operand.ty, &index.ty);
                if *optional { as_optional(ty) } else { ty }
            }
            Kind::Call { .. } => self.call(node),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(at, name, fields),
            Kind::And(parts) => self.logic(at, "_&&_", parts),
            Kind::Or(parts) => self.logic(at, "_||_", parts),
            Kind::Choose(parts) => self.choose(at, parts),
            Kind::Macro(made) => self.macro_call(at, made),
        };
    }

    /// Names with dots that are one name: variables, types, functions.
    fn resolve(&mut self, node: &mut Node) {
        match &mut node.kind {
            Kind::Select { optional: false, .. } => {
                let Some(name) = spelled(node) else { return };
                if self.is_local(&name) {
                    return;
                }
                if self.environment.variables.contains_key(&name) || type_name(&name).is_some() {
                    node.kind = Kind::Ident(name);
                }
            }
            Kind::Call { function, target, .. } => {
                let Some(name) = target.as_deref().and_then(spelled) else { return };
                let whole = format!("{name}.{function}");
                let known = self.is_local(&name) || self.environment.variables.contains_key(&name);
                if !known && !functions::named(&whole).is_empty() {
                    *function = whole;
                    *target = None;
                }
            }
            _ => {}
        }
    }

    fn is_local(&self, name: &str) -> bool {
        let root = name.split('.').next().unwrap_or(name);
        self.scope.iter().any(|(local, _)| local == root)
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        if let Some((_, ty)) = self.scope.iter().rev().find(|(local, _)| local == name) {
            return ty.clone();
        }
        if let Some(ty) = self.environment.variables.get(name) {
            self.found.used.insert(name.to_owned());
            return ty.clone();
        }
        match type_name(name) {
            Some(_) => Type::Type,
            None => self.undeclared(at, name),
        }
    }

    fn field(&mut self, at: usize, of: &Type, field: &str) -> Type {
        match of {
            Type::Dyn(_) | Type::Param(_) | Type::Made(_) => DYN,
            Type::Map(key, value, _) if matches!(**key, Type::String(_)) || key.is_dyn() => (**value).clone(),
            Type::Optional(inner) => as_optional(self.field(at, inner, field)),
            Type::Object(object) => match object.field(field) {
                Some((_, ty)) => ty.clone(),
                None => self.issue(at, format!("undefined field '{field}'")),
            },
            other => self.issue(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn index(&mut self, at: usize, of: &Type, index: &Type) -> Type {
        let number = matches!(index, Type::Int) || index.is_dyn();
        match of {
            Type::Dyn(_) | Type::Param(_) => DYN,
            Type::List(list) if number => list.element.clone(),
            Type::Map(key, value, _) if compatible(key, index) => (**value).clone(),
            Type::Optional(inner) => as_optional(self.index(at, inner, index)),
            _ => self.no_overload(at, "_[_]", &[of, index], false),
        }
    }

    fn call(&mut self, node: &mut Node) -> Type {
        let at = node.at;
        let Kind::Call { function, target, args, rows } = &mut node.kind else { return DYN };
        if let Some(target) = target {
            self.node(target);
        }
        for arg in args.iter_mut() {
            self.node(arg);
        }
        let types: Vec<&Type> =
            target.iter().map(|node| &node.ty).chain(args.iter().map(|arg| &arg.ty)).collect();
        let known = functions::named(function);
        if known.is_empty() {
            return self.undeclared(at, function);
        }
        let member = target.is_some();
        let mut result: Option<Type> = None;
        for row in known.iter().copied().filter(|row| row.member == member && row.args.len() == types.len()) {
            let mut bound = Bound::default();
            if row.args.iter().zip(&types).all(|(arg, ty)| arg.accepts(ty, &mut bound)) {
                let ty = grown(row, &types, args, row.result.of(&bound));
                result = Some(result.map_or(ty.clone(), |other| other.join(&ty)));
                rows.push(row);
            }
        }
        let Some(result) = result else { return self.no_overload(at, function, &types, member) };
        self.literals(function, target.as_deref(), args);
        result
    }

    /// Literals that a function can never take.
    fn literals(&mut self, function: &str, target: Option<&Node>, args: &[Node]) {
        let node = match (function, target) {
            ("matches" | "find" | "findAll", Some(_)) => args.first(),
            ("matches", None) => args.get(1),
            ("duration" | "timestamp", None) => args.first(),
            _ => None,
        };
        let Some(Node { kind: Kind::Literal(Value::String(text)), at, .. }) = node else { return };
        let valid = match function {
            "duration" => crate::times::parse_duration(text).is_some(),
            "timestamp" => crate::times::parse_timestamp(text).is_some(),
            _ => functions::is_regex(text),
        };
        if !valid {
            self.issue(*at, format!("invalid {function} argument"));
        }
    }

    fn list(&mut self, elements: &mut [(Node, bool)]) -> Type {
        let mut element: Option<Type> = None;
        for (node, optional) in elements.iter_mut() {
            self.node(node);
            let ty = if *optional { inside(&node.ty) } else { node.ty.clone() };
            element = Some(self.alike(node.at, element, &ty));
        }
        Type::list_of(element.unwrap_or(DYN), Max(elements.len() as u64))
    }

    fn map(&mut self, entries: &mut [(Node, Node, bool)]) -> Type {
        let mut types: Option<(Type, Type)> = None;
        for (key, value, optional) in entries.iter_mut() {
            self.node(key);
            self.node(value);
            let ty = if *optional { inside(&value.ty) } else { value.ty.clone() };
            let (keys, values) = types.unzip();
            let key_type = self.alike(key.at, keys, &as_key(&key.ty));
            types = Some((key_type, self.alike(value.at, values, &ty)));
        }
        let (key, value) = types.unwrap_or((DYN, DYN));
        Type::map(key, value).with_max(entries.len() as u64)
    }

    fn object(&mut self, at: usize, name: &str, fields: &mut [(String, Node, bool)]) -> Type {
        for (_, node, _) in fields.iter_mut() {
            self.node(node);
        }
        let is_patch = name == PATCH;
        let known = is_patch || name == "Object" || name.starts_with("Object.");
        if !known || !self.environment.makes_objects {
            return self.undeclared(at, name);
        }
        for (field, node, optional) in fields.iter().filter(|_| is_patch) {
            let found = if *optional { inside(&node.ty) } else { node.ty.clone() };
            match field.as_str() {
                "value" => {}
                "op" | "path" | "from" if compatible(&STRING, &found) => {}
                "op" | "path" | "from" => {
                    self.issue(
                        node.at,
                        format!(
                            "expected type of field '{field}' is 'string' but provided type is '{found}'"
                        ),
                    );
                }
                _ => drop(self.issue(node.at, format!("undefined field '{field}'"))),
            }
        }
        Type::Made(name.into())
    }

    /// What the elements of a literal are: of one type, which Kubernetes asks for (`HomogeneousAggregateLiterals`).
    fn alike(&mut self, at: usize, known: Option<Type>, next: &Type) -> Type {
        match known {
            None => next.clone(),
            Some(known) if compatible(&known, next) => known.join(next),
            Some(known) => self.issue(at, format!("expected type '{known}' but found '{next}'")),
        }
    }

    fn logic(&mut self, at: usize, name: &str, parts: &mut [Node]) -> Type {
        for part in parts.iter_mut() {
            self.node(part);
        }
        if let Some(wrong) = parts.iter().find(|part| !is_bool(&part.ty)) {
            let types = if std::ptr::eq(wrong, &parts[0]) {
                [wrong.ty.clone(), parts.get(1).map_or(Type::Bool, |part| part.ty.clone())]
            } else {
                [Type::Bool, wrong.ty.clone()]
            };
            return self.no_overload(at, name, &[&types[0], &types[1]], false);
        }
        Type::Bool
    }

    fn choose(&mut self, at: usize, parts: &mut [Node; 3]) -> Type {
        for part in parts.iter_mut() {
            self.node(part);
        }
        let [condition, then, otherwise] = &*parts;
        if !is_bool(&condition.ty) || !compatible(&then.ty, &otherwise.ty) {
            return self.no_overload(at, "_?_:_", &[&condition.ty, &then.ty, &otherwise.ty], false);
        }
        then.ty.join(&otherwise.ty)
    }

    fn macro_call(&mut self, at: usize, made: &mut Macro) -> Type {
        self.node(&mut made.range);
        let range = made.range.ty.clone();
        let (first, second) = match made.kind {
            MacroKind::Bind => (range.clone(), DYN),
            MacroKind::OptMap | MacroKind::OptFlatMap => match &range {
                Type::Optional(inner) => ((**inner).clone(), DYN),
                Type::Dyn(_) => (DYN, DYN),
                other => (self.no_overload(at, "optMap", &[other], true), DYN),
            },
            _ => self.elements(at, &range, made.var2.is_some()),
        };
        let before = self.scope.len();
        self.scope.push((made.var.clone(), first.clone()));
        if let Some(name) = &made.var2 {
            self.scope.push((name.clone(), second.clone()));
        }
        if let Some(filter) = &mut made.filter {
            self.node(filter);
            self.must_be_bool(filter);
        }
        if let Some(body) = &mut made.body {
            self.node(body);
        }
        self.scope.truncate(before);
        self.macro_type(at, made, &range, &first)
    }

    fn must_be_bool(&mut self, node: &Node) {
        if !is_bool(&node.ty) {
            self.issue(node.at, format!("expected type 'bool' but found '{}'", node.ty));
        }
    }

    /// What the variables of a macro are: the element, or with two variables the index or key and the element.
    fn elements(&mut self, at: usize, range: &Type, two: bool) -> (Type, Type) {
        match range {
            Type::Dyn(_) | Type::Param(_) => (DYN, DYN),
            Type::List(list) if two => (Type::Int, list.element.clone()),
            Type::List(list) => (list.element.clone(), DYN),
            Type::Map(key, value, _) => ((**key).clone(), (**value).clone()),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.issue(at, message), DYN)
            }
        }
    }

    fn macro_type(&mut self, at: usize, made: &Macro, range: &Type, first: &Type) -> Type {
        let body = made.body.as_ref().map_or(first, |body| &body.ty);
        match made.kind {
            MacroKind::All | MacroKind::Exists | MacroKind::ExistsOne => {
                if let Some(body) = &made.body {
                    self.must_be_bool(body);
                }
                Type::Bool
            }
            MacroKind::Collect => Type::list_of(body.clone(), Max(range.max())),
            MacroKind::TransformMap => {
                let key = if matches!(range, Type::List(_)) { Type::Int } else { first.clone() };
                Type::map(key, body.clone()).with_max(range.max())
            }
            MacroKind::TransformMapEntry => match body {
                Type::Map(..) | Type::Dyn(_) => body.clone().with_max(range.max()),
                other => self.issue(at, format!("expected type 'map' but found '{other}'")),
            },
            MacroKind::OptMap => as_optional(body.clone()),
            MacroKind::OptFlatMap => body.clone(),
            MacroKind::Bind => body.clone(),
        }
    }
}

/// The name that values of a type have for the type.
pub(crate) fn type_name(name: &str) -> Option<&'static str> {
    TYPES.iter().find(|(written, _)| *written == name).map(|(_, name)| *name)
}

fn literal(value: &Value<'_>) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => STRING.with_max(value.size()),
        Value::Bytes(bytes) => Type::Bytes(Max(bytes.len() as u64)),
        _ => DYN,
    }
}

/// What a key can be; others are found when it runs. Keys that are maps of maps would make types that grow without end.
fn as_key(ty: &Type) -> Type {
    match ty {
        Type::Bool | Type::Int | Type::Uint | Type::String(_) => ty.clone(),
        _ => DYN,
    }
}

/// What `.?` and what follows it give.
fn as_optional(ty: Type) -> Type {
    match ty {
        Type::Optional(_) => ty,
        other => Type::optional(other),
    }
}

/// What is inside of an optional value.
fn inside(ty: &Type) -> Type {
    match ty {
        Type::Optional(inner) => (**inner).clone(),
        other => other.clone(),
    }
}

/// The result's type with the largest size that the arguments allow.
fn grown(row: &Row, types: &[&Type], args: &[Node], result: Type) -> Type {
    let max = |index: usize| types.get(index).map_or(u64::MAX, |ty| ty.max());
    let size = match row.grows {
        Grows::Unknown => return result,
        Grows::Same => max(0),
        Grows::Sum => max(0).saturating_add(max(1)),
        Grows::Quoted => max(0).saturating_mul(2).saturating_add(2),
        Grows::Replace => {
            // The shortest text that can be replaced: a literal's length.
            let shortest = match args.first().map(|arg| &arg.kind) {
                Some(Kind::Literal(value)) => value.size(),
                _ => 0,
            };
            match shortest {
                0 => max(0).saturating_add(max(0).saturating_add(1).saturating_mul(max(2))),
                shortest if max(2) <= shortest => max(0),
                shortest => max(0).div_ceil(shortest).saturating_mul(max(2)),
            }
        }
        Grows::Join => {
            let element = match types.first() {
                Some(Type::List(list)) => list.element.max(),
                _ => u64::MAX,
            };
            let separator = if types.len() > 1 { max(1) } else { 0 };
            max(0).saturating_mul(element.saturating_add(separator))
        }
    };
    // Each character can be a part of its own, and is one byte or more.
    let result = match (row.result.of(&Bound::default()), result) {
        (Type::List(_), Type::List(list)) if matches!(list.element, Type::String(_)) && row.name != "_+_" => {
            Type::list_of(STRING.with_max(size), Max(size))
        }
        (_, result) => result,
    };
    result.with_max(size)
}
