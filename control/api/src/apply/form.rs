//! How a value takes part in apply: as one piece, or by its fields, keys or entries.

use serde_json::{Map, Value};

use super::set::Element;
use crate::custom::structural::{Additional, ListType, Structural, Type};
use crate::resource::Resource;
use crate::schema::{Field, ListKind, ObjectType, Shape, registry};

/// The type of every object's metadata.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

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
    /// A whole custom resource, or one inside another: fields by its schema, metadata by its own type.
    Resource(&'a Structural),
    /// An object by the schema of a custom resource.
    Custom(&'a Structural),
    /// A list of this schema, whose entries are told apart by keys.
    KeyedBy(&'a Structural),
    /// Something that no schema describes: objects are owned by their keys, all else as a whole.
    Deduced,
}

/// Forms of objects that are owned by their fields or keys.
macro_rules! form_with_fields {
    () => {
        Form::Struct(_) | Form::Map(_) | Form::Resource(_) | Form::Custom(_) | Form::Deduced
    };
}
pub(super) use form_with_fields;

/// Forms of lists that are owned by their entries.
macro_rules! form_with_entries {
    () => {
        Form::Keyed(..) | Form::KeyedBy(_) | Form::Set
    };
}
pub(super) use form_with_entries;

impl<'a> Form<'a> {
    /// The form of objects of a resource.
    pub(super) fn of_resource(resource: &'a Resource) -> Form<'a> {
        match resource.custom() {
            Some(custom) => Form::Resource(&custom.version().schema),
            None => Form::of_type(resource.schema.name),
        }
    }

    /// The form of objects of a built-in type, by its OpenAPI name.
    pub(super) fn of_type(name: &str) -> Form<'static> {
        registry().find(name).map_or(Form::Leaf, |id| Form::Struct(registry().get(id)))
    }

    /// The form of a value by the schema of a custom resource.
    pub(super) fn of_schema(schema: &'a Structural) -> Form<'a> {
        let described =
            !schema.properties.is_empty() || matches!(schema.additional, Some(Additional::Schema(_)));
        match (schema.kind, &schema.list) {
            (Some(Type::Object), _) if schema.atomic => Form::Leaf,
            (Some(Type::Object), _) if schema.embedded => Form::Resource(schema),
            (Some(Type::Object), _) if described => Form::Custom(schema),
            (Some(Type::Object), _) => Form::Deduced,
            (None, _) if schema.preserve => Form::Deduced,
            (Some(Type::Array), ListType::Map(_)) => Form::KeyedBy(schema),
            (Some(Type::Array), ListType::Set) => Form::Set,
            _ => Form::Leaf,
        }
    }

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
            Form::Resource(_) if matches!(name, "apiVersion" | "kind") => Form::Leaf,
            Form::Resource(_) if name == "metadata" => Form::of_type(OBJECT_META),
            Form::Resource(schema) | Form::Custom(schema) => match schema.field(name) {
                Some(field) => Form::of_schema(field),
                None => Form::Deduced,
            },
            Form::Deduced => Form::Deduced,
            _ => Form::Leaf,
        }
    }

    /// The form of a list's entries.
    pub(super) fn entry(self) -> Form<'a> {
        match self {
            Form::Keyed(items, _) => Form::of(items),
            Form::KeyedBy(list) => list.items.as_deref().map_or(Form::Leaf, Form::of_schema),
            _ => Form::Leaf,
        }
    }

    /// Whether a field of that name is declared, rather than being a free key.
    pub(super) fn declares(self, name: &str) -> bool {
        match self {
            Form::Struct(kind) => kind.field(name).is_some(),
            Form::Resource(_) if matches!(name, "apiVersion" | "kind" | "metadata") => true,
            Form::Resource(schema) | Form::Custom(schema) => schema.properties.contains_key(name),
            _ => false,
        }
    }

    /// Whether a value may have a field of that name.
    pub(super) fn allows(self, name: &str) -> bool {
        match self {
            Form::Struct(_) => self.declares(name),
            Form::Resource(schema) | Form::Custom(schema) => {
                self.declares(name) || schema.preserve || schema.field(name).is_some()
            }
            _ => true,
        }
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
            Form::KeyedBy(list) => {
                let (ListType::Map(keys), Some(items)) = (&list.list, &list.items) else { return None };
                let entry = entry.as_object()?;
                let mut found = Map::new();
                for key in keys {
                    let default = || items.properties.get(key).and_then(|field| field.default.clone());
                    found.insert(key.clone(), entry.get(key).cloned().or_else(default)?);
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
