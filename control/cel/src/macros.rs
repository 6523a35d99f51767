//! The calls that are no functions: they name variables.

use crate::ast::{Kind, Macro, MacroKind, Node};
use crate::error::Issue;
use crate::parser::{Deep, above, call, spelled};

/// What a macro takes after its variables.
#[derive(Clone, Copy)]
enum Takes {
    /// A condition.
    Filter,
    /// A transformation.
    Body,
    /// A condition, then a transformation.
    Both,
}

/// Name, how many arguments, how many of them are variables, what it is, what follows the variables.
const MACROS: &[(&str, usize, usize, MacroKind, Takes)] = &[
    ("all", 2, 1, MacroKind::All, Takes::Body),
    ("exists", 2, 1, MacroKind::Exists, Takes::Body),
    ("exists_one", 2, 1, MacroKind::ExistsOne, Takes::Body),
    ("existsOne", 2, 1, MacroKind::ExistsOne, Takes::Body),
    ("map", 2, 1, MacroKind::Collect, Takes::Body),
    ("map", 3, 1, MacroKind::Collect, Takes::Both),
    ("filter", 2, 1, MacroKind::Collect, Takes::Filter),
    ("all", 3, 2, MacroKind::All, Takes::Body),
    ("exists", 3, 2, MacroKind::Exists, Takes::Body),
    ("exists_one", 3, 2, MacroKind::ExistsOne, Takes::Body),
    ("existsOne", 3, 2, MacroKind::ExistsOne, Takes::Body),
    ("transformList", 3, 2, MacroKind::Collect, Takes::Body),
    ("transformList", 4, 2, MacroKind::Collect, Takes::Both),
    ("transformMap", 3, 2, MacroKind::TransformMap, Takes::Body),
    ("transformMap", 4, 2, MacroKind::TransformMap, Takes::Both),
    ("transformMapEntry", 3, 2, MacroKind::TransformMapEntry, Takes::Body),
    ("transformMapEntry", 4, 2, MacroKind::TransformMapEntry, Takes::Both),
    ("optMap", 2, 1, MacroKind::OptMap, Takes::Body),
    ("optFlatMap", 2, 1, MacroKind::OptFlatMap, Takes::Body),
];

/// `target.name(args)`: a macro, or a call.
pub(crate) fn member(
    at: usize,
    target: Node,
    name: String,
    args: Vec<Node>,
    below: u16,
) -> Result<Deep, Issue> {
    if name == "bind" && args.len() == 3 && spelled(&target).as_deref() == Some("cel") {
        return bind(at, args, below);
    }
    let row = MACROS.iter().find(|(macro_name, count, ..)| *macro_name == name && *count == args.len());
    let Some((_, _, variables, kind, takes)) = row else {
        return above(at, call(&name, Some(target), args), below);
    };
    let mut args = args.into_iter();
    let names = args.by_ref().take(*variables).map(variable).collect::<Result<Vec<_>, _>>()?;
    let mut names = names.into_iter();
    let (var, var2) = (names.next().unwrap_or_default(), names.next());
    if var2.as_ref() == Some(&var) {
        let message = format!("duplicate variable name: {var}");
        return Err(Issue { at, message });
    }
    let (filter, body) = match takes {
        Takes::Filter => (args.next(), None),
        Takes::Body => (None, args.next()),
        Takes::Both => (args.next(), args.next()),
    };
    let made = Macro { kind: *kind, range: target, var, var2, filter, body };
    above(at, Kind::Macro(Box::new(made)), below)
}

/// `name(args)`: `has`, or a call.
pub(crate) fn global(at: usize, name: String, args: Vec<Node>, below: u16) -> Result<Deep, Issue> {
    if name != "has" || args.len() != 1 {
        return above(at, call(&name, None, args), below);
    }
    match args.into_iter().next().map(|arg| arg.kind) {
        Some(Kind::Select { operand, field, optional: false }) => {
            above(at, Kind::Has { operand, field }, below)
        }
        _ => Err(Issue { at, message: "invalid argument to has() macro".to_owned() }),
    }
}

/// `cel.bind(name, value, body)`.
fn bind(at: usize, args: Vec<Node>, below: u16) -> Result<Deep, Issue> {
    let mut args = args.into_iter();
    let (Some(name), Some(range), body) = (args.next(), args.next(), args.next()) else {
        return Err(Issue {
            at,
            message: "cel.bind() needs a variable, a value and an expression".to_owned(),
        });
    };
    let var = variable(name)?;
    let made = Macro { kind: MacroKind::Bind, range, var, var2: None, filter: None, body };
    above(at, Kind::Macro(Box::new(made)), below)
}

fn variable(node: Node) -> Result<String, Issue> {
    match node.kind {
        Kind::Ident(name) => Ok(name),
        _ => Err(Issue { at: node.at, message: "argument must be a simple name".to_owned() }),
    }
}
