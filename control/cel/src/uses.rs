//! What an expression says of its variables, and what the objects that it makes are called.

use crate::ast::{Kind, Node};
use crate::program::Program;
use crate::value::{Key, List, Map, Value};

impl Program {
    /// Whether a field of a variable is selected anywhere in it: `variable.field`, `variable.?field`, or
    /// `has(variable.field)`.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        selects(self.root(), variable, field)
    }
}

fn selects(node: &Node, variable: &str, wanted: &str) -> bool {
    if let Kind::Select { operand, field, .. } | Kind::Has { operand, field } = &node.kind
        && field == wanted
        && matches!(&operand.kind, Kind::Ident(name) if name == variable)
    {
        return true;
    }
    node.parts().into_iter().any(|part| selects(part, variable, wanted))
}

impl Node {
    /// The parts that a node is made of.
    fn parts(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select { operand, .. } | Kind::Has { operand, .. } => vec![operand],
            Kind::Index { operand, index, .. } => vec![operand, index],
            Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).collect(),
            Kind::List(elements) => elements.iter().map(|(node, _)| node).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Kind::Struct { fields, .. } => fields.iter().map(|(_, node, _)| node).collect(),
            Kind::And(parts) | Kind::Or(parts) => parts.iter().collect(),
            Kind::Choose(parts) => parts.iter().collect(),
            Kind::Macro(made) => std::iter::once(&made.range).chain(&made.filter).chain(&made.body).collect(),
        }
    }
}

impl Value<'_> {
    /// What is wrong with the names of the types of objects that were made: an object in the field `spec` of an
    /// `Object` has to be an `Object.spec`. Lists and maps between them have no name. Upstream's words.
    pub fn misnamed(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Value::Map(Map::Made(name, _)) = self {
            misnamed(self, name, &mut wrong);
        }
        wrong
    }
}

fn misnamed(value: &Value<'_>, path: &str, wrong: &mut Vec<String>) {
    match value {
        Value::Map(Map::Made(name, fields)) => {
            if *name != path {
                wrong.push(format!(
                    "unexpected type name {name:?}, expected {path:?}, which matches field name path from root Object type"
                ));
            }
            for (field, value) in fields.iter() {
                if let Key::String(field) = field {
                    misnamed(value, &format!("{path}.{}", &**field), wrong);
                }
            }
        }
        Value::List(List::Own(elements)) => {
            elements.iter().for_each(|element| misnamed(element, path, wrong));
        }
        Value::Map(Map::Own(entries)) => {
            entries.values().for_each(|value| misnamed(value, path, wrong));
        }
        _ => {}
    }
}
