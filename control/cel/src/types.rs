//! The types of expressions, with the sizes that values of them can have at most.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::opaque::OpaqueKind;

/// The largest number of elements or bytes a value can have, for estimates of cost; two types that differ in it alone
/// are equal.
#[derive(Clone, Copy, Debug)]
pub struct Max(pub u64);

impl Max {
    /// What nothing is known of: bounded by the size of requests alone.
    pub const UNKNOWN: Max = Max(u64::MAX);
}

impl PartialEq for Max {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How lists are compared and joined: `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ListKind {
    /// Element by element.
    #[default]
    Atomic,
    /// The order means nothing.
    Set,
    /// The order means nothing; these fields name an element.
    Map(Vec<String>),
}

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known when it runs; at most so large.
    Dyn(Max),
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A signed number of 64 bits.
    Int,
    /// An unsigned number of 64 bits.
    Uint,
    /// A floating-point number of 64 bits.
    Double,
    /// Text; at most so many bytes.
    String(Max),
    /// Bytes; at most so many.
    Bytes(Max),
    /// A moment.
    Timestamp,
    /// A span of time.
    Duration,
    /// A list of elements of one type.
    List(Arc<ListType>),
    /// A map with keys and values of one type each, and the largest number of entries.
    Map(Arc<Type>, Arc<Type>, Max),
    /// An object with named fields.
    Object(Arc<ObjectType>),
    /// An object that expressions make, by the name of its type: `Object.spec`. Nothing is known of its fields.
    Made(Arc<str>),
    /// A value that may be missing.
    Optional(Arc<Type>),
    /// A type as a value.
    Type,
    /// A value of one of the libraries.
    Opaque(OpaqueKind),
    /// A type that a signature leaves open.
    Param(u8),
}

/// A list's elements, kind and largest length.
#[derive(Clone, Debug, PartialEq)]
pub struct ListType {
    /// The elements' type.
    pub element: Type,
    /// How it is compared.
    pub kind: ListKind,
    /// The largest length.
    pub max: Max,
}

/// An object's fields, by the names they have in JSON.
#[derive(Debug, Default, PartialEq)]
pub struct ObjectType {
    /// What messages call it.
    pub name: String,
    /// The fields.
    pub fields: BTreeMap<String, Type>,
    /// Whether names are written as they are, and not escaped: those of the server's own variables.
    pub plain: bool,
}

/// A type of unknown size.
pub const DYN: Type = Type::Dyn(Max::UNKNOWN);
/// Text of unknown size.
pub const STRING: Type = Type::String(Max::UNKNOWN);
/// A type to borrow.
pub(crate) static DYN_REF: Type = DYN;

impl Type {
    /// A list of `element` of unknown length.
    pub fn list(element: Type) -> Type {
        Type::list_of(element, Max::UNKNOWN)
    }

    /// A list of `element`, `max` at most.
    pub fn list_of(element: Type, max: Max) -> Type {
        Type::List(Arc::new(ListType { element, kind: ListKind::Atomic, max }))
    }

    /// A map of unknown size.
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(key), Arc::new(value), Max::UNKNOWN)
    }

    /// A value of `inner` that may be missing.
    pub fn optional(inner: Type) -> Type {
        Type::Optional(Arc::new(inner))
    }

    /// An object with these fields, whose names are written as they are.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Type)>) -> Type {
        let fields = fields.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect();
        Type::Object(Arc::new(ObjectType { name: name.to_owned(), fields, plain: true }))
    }

    /// Whether nothing is known of it before it runs.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn(_) | Type::Param(_))
    }

    /// Whether a value of the other type can be one of this type.
    pub fn accepts(&self, other: &Type) -> bool {
        crate::functions::compatible(self, other)
    }

    /// Whether null can stand for a value of it.
    pub(crate) fn is_nullable(&self) -> bool {
        matches!(self, Type::Object(_) | Type::Made(_) | Type::Timestamp | Type::Duration | Type::Opaque(_))
    }

    /// The largest size values have: elements of lists and maps, bytes of text, one for all else.
    pub fn max(&self) -> u64 {
        match self {
            Type::Dyn(max) | Type::String(max) | Type::Bytes(max) | Type::Map(_, _, max) => max.0,
            Type::List(list) => list.max.0,
            Type::Optional(inner) => inner.max(),
            Type::Param(_) => u64::MAX,
            _ => 1,
        }
    }

    /// The same type with another largest size, where it has one.
    #[must_use]
    pub fn with_max(self, max: u64) -> Type {
        match self {
            Type::Dyn(_) => Type::Dyn(Max(max)),
            Type::String(_) => Type::String(Max(max)),
            Type::Bytes(_) => Type::Bytes(Max(max)),
            Type::Map(key, value, _) => Type::Map(key, value, Max(max)),
            Type::List(list) => Type::List(Arc::new(ListType {
                element: list.element.clone(),
                kind: list.kind.clone(),
                max: Max(max),
            })),
            Type::Optional(inner) => Type::optional((*inner).clone().with_max(max)),
            other => other,
        }
    }

    /// What two branches have in common: the type when they agree, `dyn` otherwise; sizes are the larger ones.
    pub fn join(&self, other: &Type) -> Type {
        let max = self.max().max(other.max());
        match (self, other) {
            (Type::Null, other) if other.is_nullable() => other.clone(),
            (ty, Type::Null) if ty.is_nullable() => ty.clone(),
            (Type::List(a), Type::List(b)) => Type::list_of(a.element.join(&b.element), Max(max)),
            (Type::Optional(a), Type::Optional(b)) => Type::optional(a.join(b)),
            (Type::Map(ka, va, _), Type::Map(kb, vb, _)) => {
                Type::Map(Arc::new(ka.join(kb)), Arc::new(va.join(vb)), Max(max))
            }
            (a, b) if a == b => a.clone().with_max(max),
            _ => Type::Dyn(Max(max)),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simple = match self {
            Type::List(list) => return write!(f, "list({})", list.element),
            Type::Map(key, value, _) => return write!(f, "map({key}, {value})"),
            Type::Optional(inner) => return write!(f, "optional_type({inner})"),
            Type::Object(object) => return f.write_str(&object.name),
            Type::Made(name) => return f.write_str(name),
            Type::Opaque(kind) => return f.write_str(kind.name()),
            Type::Param(which) => return write!(f, "{}", char::from(b'A' + which)),
            Type::Dyn(_) => "dyn",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String(_) => "string",
            Type::Bytes(_) => "bytes",
            Type::Timestamp => "timestamp",
            Type::Duration => "duration",
            Type::Type => "type",
        };
        f.write_str(simple)
    }
}
