//! What the parser makes of an expression. Macros stay what they are, so that they cost what they do.

use crate::functions::Row;
use crate::types::{DYN, Type};
use crate::value::Value;

/// A part of an expression.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Where it stands: characters before it.
    pub(crate) at: usize,
    /// What the checker found it to be.
    pub(crate) ty: Type,
}

impl Node {
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        Node { kind, at, ty: DYN }
    }
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value<'static>),
    Ident(String),
    /// `operand.field`, or `operand.?field`.
    Select {
        operand: Box<Node>,
        field: String,
        optional: bool,
    },
    /// `has(operand.field)`.
    Has {
        operand: Box<Node>,
        field: String,
    },
    /// `operand[index]`, or `operand[?index]`.
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    /// Operators too, by upstream's names for them. `rows` are the signatures that can match.
    Call {
        function: String,
        target: Option<Box<Node>>,
        args: Vec<Node>,
        rows: Vec<&'static Row>,
    },
    /// Elements; those with `?` are left out when they are missing.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Struct {
        name: String,
        fields: Vec<(String, Node, bool)>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    /// Condition, then, otherwise.
    Choose(Box<[Node; 3]>),
    Macro(Box<Macro>),
}

/// A macro over a range (or an optional value, or for `cel.bind` a value).
#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) kind: MacroKind,
    pub(crate) range: Node,
    pub(crate) var: String,
    pub(crate) var2: Option<String>,
    /// A condition, a transformation, or both in this order.
    pub(crate) filter: Option<Node>,
    pub(crate) body: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MacroKind {
    All,
    Exists,
    ExistsOne,
    /// `map`, `filter` (no body), `transformList`.
    Collect,
    TransformMap,
    TransformMapEntry,
    OptMap,
    OptFlatMap,
    Bind,
}
