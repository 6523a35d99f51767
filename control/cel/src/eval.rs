//! Runs a checked expression. Every step is counted; nothing of the input is copied.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ast::{Kind, Macro, MacroKind, Node};
use crate::check::type_name;
use crate::error::EvalError;
use crate::estimate::{LOOKUP, MAKE_LIST, MAKE_MAP, MAKE_OBJECT, goes_on, overhead};
use crate::functions::Row;
use crate::meter::Meter;
use crate::program::Program;
use crate::value::{Key, List, Map, Text, Value};

/// The variable whose fields are expressions.
const VARIABLES: &str = "variables";

/// The values of an expression's variables.
#[derive(Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
    programs: &'a [(String, Program)],
    /// What the programs gave, so that each runs once.
    known: RefCell<HashMap<&'a str, Result<Value<'a>, EvalError>>>,
}

impl<'a> Bindings<'a> {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// And a variable.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.values.push((name, value));
        self
    }

    /// And the fields of `variables`: each is evaluated when it is needed, once, with the same variables.
    #[must_use]
    pub fn with_variables(mut self, programs: &'a [(String, Program)]) -> Self {
        self.programs = programs;
        self
    }
}

pub(crate) fn run<'a>(
    node: &'a Node,
    bindings: &Bindings<'a>,
    meter: &mut Meter,
) -> Result<Value<'a>, EvalError> {
    Eval { bindings, locals: Vec::new(), meter }.node(node)
}

struct Eval<'a, 'm> {
    bindings: &'m Bindings<'a>,
    locals: Vec<(&'a str, Value<'a>)>,
    meter: &'m mut Meter,
}

type Result1<'a> = Result<Value<'a>, EvalError>;

impl<'a> Eval<'a, '_> {
    fn node(&mut self, node: &'a Node) -> Result1<'a> {
        match &node.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, optional } => self.select(operand, field, *optional),
            Kind::Has { operand, field } => self.has(operand, field),
            Kind::Index { operand, index, optional } => self.index(operand, index, *optional),
            Kind::Call { target, args, rows, .. } => self.call(target.as_deref(), args, rows),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(name, fields),
            Kind::And(parts) => self.logic(parts, false),
            Kind::Or(parts) => self.logic(parts, true),
            Kind::Choose(parts) => self.choose(parts),
            Kind::Macro(made) => self.macro_call(made),
        }
    }

    fn ident(&mut self, name: &'a str) -> Result1<'a> {
        self.meter.spend(LOOKUP)?;
        let locals = self.locals.iter().rev();
        if let Some((_, value)) = locals.chain(&self.bindings.values).find(|(local, _)| *local == name) {
            return Ok(value.clone());
        }
        match type_name(name) {
            Some(name) => Ok(Value::Type(name.into())),
            None => Err(EvalError::NoSuchAttribute(name.to_owned())),
        }
    }

    /// A field of `variables`: `None` for all else.
    fn variable(&mut self, operand: &'a Node, field: &'a str) -> Option<Result1<'a>> {
        let is_root = matches!(&operand.kind, Kind::Ident(name) if name == VARIABLES);
        if !is_root || self.locals.iter().any(|(name, _)| *name == VARIABLES) {
            return None;
        }
        let (_, program) = self.bindings.programs.iter().find(|(name, _)| name == field)?;
        if let Some(known) = self.bindings.known.borrow().get(field) {
            return Some(known.clone());
        }
        let result = run(program.root(), self.bindings, self.meter);
        self.bindings.known.borrow_mut().insert(field, result.clone());
        Some(result)
    }

    fn select(&mut self, operand: &'a Node, field: &'a str, optional: bool) -> Result1<'a> {
        if let Some(value) = self.variable(operand, field) {
            self.meter.spend(2 * LOOKUP)?;
            return value;
        }
        let value = self.node(operand)?;
        self.meter.spend(LOOKUP)?;
        let (value, optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (inner.as_ref().clone(), true),
            value => (value, optional),
        };
        let found = match &value {
            Value::Map(map) => map.field(field).transpose()?,
            Value::Null => None,
            _ => return Err(EvalError::NoSuchOverload),
        };
        finish(found, optional, || EvalError::NoSuchKey(field.to_owned()))
    }

    fn has(&mut self, operand: &'a Node, field: &'a str) -> Result1<'a> {
        if self.variable(operand, field).transpose()?.is_some() {
            return Ok(Value::Bool(true));
        }
        let value = self.node(operand)?;
        let inner = match &value {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(inner)) => inner,
            value => value,
        };
        match inner {
            Value::Map(map) => Ok(Value::Bool(map.field(field).is_some())),
            Value::Null => Ok(Value::Bool(false)),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn index(&mut self, operand: &'a Node, index: &'a Node, optional: bool) -> Result1<'a> {
        let value = self.node(operand)?;
        let index = self.node(index)?;
        self.meter.spend(LOOKUP)?;
        let (value, optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (inner.as_ref().clone(), true),
            value => (value, optional),
        };
        match &value {
            Value::List(list) => {
                let Some(Key::Int(place)) = whole(&index) else { return Err(EvalError::NoSuchOverload) };
                let found = usize::try_from(place).ok().and_then(|place| list.get(place)).transpose()?;
                finish(found, optional, || EvalError::OutOfBounds(place))
            }
            Value::Map(map) => {
                let key = Key::of(&index).ok_or(EvalError::NoSuchOverload)?;
                let found = map.get(&key).transpose()?;
                finish(found, optional, || EvalError::NoSuchKey(shown(&key)))
            }
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn call(&mut self, target: Option<&'a Node>, args: &'a [Node], rows: &'a [&'static Row]) -> Result1<'a> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for node in target.into_iter().chain(args) {
            values.push(self.node(node)?);
        }
        let fits = |row: &&&Row| row.args.iter().zip(&values).all(|(arg, value)| arg.takes(value));
        let row = rows.iter().find(fits).ok_or(EvalError::NoSuchOverload)?;
        // What reads its arguments is paid for before it reads.
        let before = row.cost.actual(&values, &Value::Null);
        self.meter.spend(before)?;
        let result = (row.call)(self.meter, &values)?;
        let after = row.cost.actual(&values, &result);
        self.meter.spend(after.saturating_sub(before))?;
        Ok(result)
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Result1<'a> {
        self.meter.spend(MAKE_LIST)?;
        self.meter.elements(elements.len())?;
        let mut values = Vec::with_capacity(elements.len());
        for (node, optional) in elements {
            match (self.node(node)?, optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(inner)), true) => values.push(inner.as_ref().clone()),
                (_, true) => return Err(EvalError::NoSuchOverload),
                (value, false) => values.push(value),
            }
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)]) -> Result1<'a> {
        self.meter.spend(MAKE_MAP)?;
        self.meter.elements(entries.len() * 2)?;
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.node(key)?;
            let key = Key::of(&key).ok_or_else(|| unsupported(&key))?;
            let value = match (self.node(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => inner.as_ref().clone(),
                (_, true) => return Err(EvalError::NoSuchOverload),
                (value, false) => value,
            };
            let again = shown(&key);
            if map.insert(key, value).is_some() {
                return Err(EvalError::other(format!("Failed with repeated key: {again}")));
            }
        }
        Ok(Value::Map(Map::Own(Arc::new(map))))
    }

    fn object(&mut self, name: &'a str, fields: &'a [(String, Node, bool)]) -> Result1<'a> {
        self.meter.spend(MAKE_OBJECT)?;
        self.meter.elements(fields.len() * 2)?;
        let mut map = BTreeMap::new();
        for (field, node, optional) in fields {
            let value = match (self.node(node)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => inner.as_ref().clone(),
                (value, _) => value,
            };
            let field = match crate::escape::unescape(field) {
                Some(plain) => Text::Own(plain.into()),
                None => Text::Ref(field),
            };
            map.insert(Key::String(field), value);
        }
        Ok(Value::Map(Map::Made(name, Arc::new(map))))
    }

    /// Parts of which one that is `decides` settles it; what cannot be evaluated counts only when none does.
    fn logic(&mut self, parts: &'a [Node], decides: bool) -> Result1<'a> {
        let mut failed = None;
        for part in parts {
            match self.node(part) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn choose(&mut self, parts: &'a [Node; 3]) -> Result1<'a> {
        let [condition, then, otherwise] = parts;
        if self.truth(condition)? { self.node(then) } else { self.node(otherwise) }
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, EvalError> {
        match self.node(node)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn macro_call(&mut self, made: &'a Macro) -> Result1<'a> {
        let range = self.node(&made.range)?;
        self.meter.spend(overhead(made.kind).0)?;
        let before = self.locals.len();
        let result = match made.kind {
            MacroKind::Bind => {
                self.locals.push((&made.var, range));
                self.body(made)
            }
            MacroKind::OptMap | MacroKind::OptFlatMap => self.optional(made, range),
            MacroKind::All => self.quantify(made, &range, false),
            MacroKind::Exists => self.quantify(made, &range, true),
            MacroKind::ExistsOne => self.exists_one(made, &range),
            MacroKind::Collect => self.collect(made, &range),
            MacroKind::TransformMap | MacroKind::TransformMapEntry => self.transform(made, &range),
        };
        self.locals.truncate(before);
        result
    }

    fn body(&mut self, made: &'a Macro) -> Result1<'a> {
        match &made.body {
            Some(body) => self.node(body),
            // A filter gives the element itself.
            None => self.ident(&made.var),
        }
    }

    fn optional(&mut self, made: &'a Macro, range: Value<'a>) -> Result1<'a> {
        let Value::Optional(inner) = range else { return Err(EvalError::NoSuchOverload) };
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        self.locals.push((&made.var, inner.as_ref().clone()));
        let value = self.body(made)?;
        match (made.kind, value) {
            (MacroKind::OptFlatMap, value @ Value::Optional(_)) => Ok(value),
            (MacroKind::OptFlatMap, _) => Err(EvalError::NoSuchOverload),
            (_, value) => Ok(Value::some(value)),
        }
    }

    /// Sets the variables to the next element, and pays for the turn.
    fn turn(&mut self, made: &'a Macro, (key, value): (Value<'a>, Value<'a>)) -> Result<(), EvalError> {
        self.meter.spend(overhead(made.kind).1)?;
        match &made.var2 {
            Some(second) => {
                self.locals.push((&made.var, key));
                self.locals.push((second, value));
            }
            None => self.locals.push((&made.var, value)),
        }
        Ok(())
    }

    fn quantify(&mut self, made: &'a Macro, range: &Value<'a>, decides: bool) -> Result1<'a> {
        let mut failed = None;
        let turns = Turns::of(range, made)?;
        let before = self.locals.len();
        for index in 0..turns.len() {
            self.turn(made, turns.get(index)?)?;
            let value = self.body(made);
            self.locals.truncate(before);
            match value {
                Ok(Value::Bool(value)) if value == decides => {
                    if index + 1 < turns.len() {
                        self.meter.spend(goes_on(made.kind))?;
                    }
                    return Ok(Value::Bool(decides));
                }
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn exists_one(&mut self, made: &'a Macro, range: &Value<'a>) -> Result1<'a> {
        let mut count = 0;
        let turns = Turns::of(range, made)?;
        let before = self.locals.len();
        for index in 0..turns.len() {
            self.turn(made, turns.get(index)?)?;
            let Value::Bool(holds) = self.body(made)? else { return Err(EvalError::NoSuchOverload) };
            self.locals.truncate(before);
            count += usize::from(holds);
        }
        Ok(Value::Bool(count == 1))
    }

    /// Whether the element passes the macro's filter.
    fn passes(&mut self, made: &'a Macro) -> Result<bool, EvalError> {
        made.filter.as_ref().map_or(Ok(true), |filter| self.truth(filter))
    }

    fn collect(&mut self, made: &'a Macro, range: &Value<'a>) -> Result1<'a> {
        let turns = Turns::of(range, made)?;
        let before = self.locals.len();
        let mut values = Vec::new();
        for index in 0..turns.len() {
            self.turn(made, turns.get(index)?)?;
            if self.passes(made)? {
                self.meter.elements(1)?;
                values.push(self.body(made)?);
            }
            self.locals.truncate(before);
        }
        Ok(Value::List(List::Own(Arc::new(values))))
    }

    fn transform(&mut self, made: &'a Macro, range: &Value<'a>) -> Result1<'a> {
        let turns = Turns::of(range, made)?;
        let before = self.locals.len();
        let mut map = BTreeMap::new();
        for index in 0..turns.len() {
            let (key, value) = turns.get(index)?;
            self.turn(made, (key.clone(), value))?;
            if self.passes(made)? {
                self.meter.elements(2)?;
                let value = self.body(made)?;
                if made.kind == MacroKind::TransformMap {
                    map.insert(Key::of(&key).ok_or_else(|| unsupported(&key))?, value);
                } else {
                    self.add_entries(&mut map, &value)?;
                }
            }
            self.locals.truncate(before);
        }
        Ok(Value::Map(Map::Own(Arc::new(map))))
    }

    fn add_entries(
        &mut self,
        map: &mut BTreeMap<Key<'a>, Value<'a>>,
        entries: &Value<'a>,
    ) -> Result<(), EvalError> {
        let Value::Map(entries) = entries else { return Err(EvalError::NoSuchOverload) };
        self.meter.elements(entries.len() * 2)?;
        for key in entries.keys() {
            let again = shown(&key);
            let Some(value) = entries.get(&key) else { continue };
            if map.insert(key, value?).is_some() {
                return Err(EvalError::other(format!("insert failed: key {again} already exists")));
            }
        }
        Ok(())
    }
}

/// What a macro goes over.
enum Turns<'v, 'a> {
    List(&'v List<'a>),
    Map(&'v Map<'a>, Vec<Key<'a>>, bool),
}

impl<'v, 'a> Turns<'v, 'a> {
    fn of(range: &'v Value<'a>, made: &Macro) -> Result<Self, EvalError> {
        match range {
            Value::List(list) => Ok(Turns::List(list)),
            Value::Map(map) => Ok(Turns::Map(map, map.keys(), made.var2.is_some())),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn len(&self) -> usize {
        match self {
            Turns::List(list) => list.len(),
            Turns::Map(_, keys, _) => keys.len(),
        }
    }

    /// The index or key, and the element; of a map with one variable, the key is the element.
    fn get(&self, index: usize) -> Result<(Value<'a>, Value<'a>), EvalError> {
        let missing = || EvalError::OutOfBounds(index as i64);
        match self {
            Turns::List(list) => Ok((Value::Int(index as i64), list.get(index).ok_or_else(missing)??)),
            Turns::Map(map, keys, values) => {
                let key = keys.get(index).ok_or_else(missing)?;
                let value = if *values { map.get(key).ok_or_else(missing)?? } else { key.value() };
                Ok((key.value(), value))
            }
        }
    }
}

/// What was looked up, or that it is missing.
fn finish<'a>(found: Option<Value<'a>>, optional: bool, missing: impl FnOnce() -> EvalError) -> Result1<'a> {
    match (found, optional) {
        (Some(value), false) => Ok(value),
        (Some(value), true) => Ok(Value::some(value)),
        (None, true) => Ok(Value::Optional(None)),
        (None, false) => Err(missing()),
    }
}

/// A number that is a place in a list.
fn whole<'a>(value: &Value<'a>) -> Option<Key<'a>> {
    match value {
        Value::Uint(number) => i64::try_from(*number).ok().map(Key::Int),
        Value::Int(_) | Value::Double(_) => Key::of(value),
        _ => None,
    }
}

fn shown(key: &Key<'_>) -> String {
    match key {
        Key::Bool(value) => value.to_string(),
        Key::Int(number) => number.to_string(),
        Key::Uint(number) => number.to_string(),
        Key::String(text) => text.to_string(),
    }
}

fn unsupported(key: &Value<'_>) -> EvalError {
    EvalError::other(format!("unsupported key type: {}", key.type_name()))
}
