//! How a value takes part in apply: as one piece, or by its fields, keys or entries.

use serde_json::{Map, Value};

use super::set::Element;
use crate::schema::{Field, ListKind, ObjectType, Shape, registry};

/// The form of a value.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    /// A scalar, or something that is owned as a whole.
    Leaf,
    /// An object with known fields.
    Struct(&'static ObjectType),
    /// Free keys with values of one shape.
    Map(&'a Shape),
    /// A list whose entries are told apart by these keys.
    Keyed(&'a Shape, &'static [&'static str]),
    /// A list of scalars, each there once.
    Set,
}

impl<'a> Form<'a> {
    /// The form of a whole object or of an entry of a list or map.
    pub(super) fn of(shape: &'a Shape) -> Form<'a> {
        match shape {
            Shape::Object(id) => {
                let kind = registry().get(*id);
                if kind.atomic { Form::Leaf } else { Form::Struct(kind) }
            }
            Shape::Map(values) => Form::Map(values),
            _ => Form::Leaf,
        }
    }

    fn of_field(field: &'a Field) -> Form<'a> {
        if field.atomic {
            return Form::Leaf;
        }
        match (&field.shape, field.rule.map(|rule| rule.list)) {
            (Shape::Object(id), _) if field.granular => Form::Struct(registry().get(*id)),
            (Shape::List(items), Some(ListKind::Map(keys))) => Form::Keyed(items, keys),
            (Shape::List(_), Some(ListKind::Set)) => Form::Set,
            (shape, _) => Form::of(shape),
        }
    }

    /// The form of the value of a field or key.
    pub(super) fn child(self, name: &str) -> Form<'a> {
        match self {
            Form::Struct(kind) => kind.field(name).map_or(Form::Leaf, Form::of_field),
            Form::Map(values) => Form::of(values),
            _ => Form::Leaf,
        }
    }

    /// The form of a list's entries.
    pub(super) fn entry(self) -> Form<'a> {
        match self {
            Form::Keyed(items, _) => Form::of(items),
            _ => Form::Leaf,
        }
    }

    /// Whether a field of that name is declared, rather than being a free key.
    pub(super) fn declares(self, name: &str) -> bool {
        matches!(self, Form::Struct(kind) if kind.field(name).is_some())
    }

    /// The form below an element of a path.
    pub(super) fn below(self, element: &Element) -> Form<'a> {
        element.name().map_or_else(|| self.entry(), |name| self.child(name))
    }

    /// What tells an entry apart; `None` when it lacks a key (or the form is no list of such entries).
    pub(super) fn identity(self, entry: &Value) -> Option<Element> {
        match self {
            Form::Set => Some(Element::value(entry)),
            Form::Keyed(_, keys) => {
                let entry = entry.as_object()?;
                let mut found = Map::new();
                for key in keys {
                    let value = entry.get(*key).cloned().or_else(|| default_key(key))?;
                    found.insert((*key).to_owned(), value);
                }
                Some(Element::keys(found))
            }
            _ => None,
        }
    }

    /// The entries of a list with their identities; `None` when one has none, or one is there twice: such a list is
    /// one piece.
    pub(super) fn entries(self, list: Option<&Value>) -> Option<Vec<(Element, &Value)>> {
        let Some(list) = list.and_then(Value::as_array) else { return Some(Vec::new()) };
        let mut out = Vec::with_capacity(list.len());
        for entry in list {
            out.push((self.identity(entry)?, entry));
        }
        let mut sorted: Vec<&Element> = out.iter().map(|(element, _)| element).collect();
        sorted.sort_unstable();
        sorted.windows(2).all(|pair| pair[0] != pair[1]).then_some(out)
    }
}

/// Keys that have a default may be left out: of all keys of lists, `protocol` alone has one.
fn default_key(key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

/// Whether nothing is there, or something without content.
pub(super) fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    }
}
