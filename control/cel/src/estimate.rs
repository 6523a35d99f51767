//! What an expression costs at most, by the sizes that its types allow. After `cel-go/checker/cost.go`.

use crate::ast::{Kind, Macro, MacroKind, Node};
use crate::types::Type;

/// A name that is looked up, a field that is selected.
pub(crate) const LOOKUP: u64 = 1;
/// A list that is made.
pub(crate) const MAKE_LIST: u64 = 10;
/// A map that is made.
pub(crate) const MAKE_MAP: u64 = 30;
/// An object that is made.
pub(crate) const MAKE_OBJECT: u64 = 40;

/// What a macro costs beside its parts: at its beginning and end, and for each element.
pub(crate) fn overhead(kind: MacroKind) -> (u64, u64) {
    match kind {
        // Each turn asks whether to go on, and joins the result so far with the next one.
        MacroKind::All | MacroKind::Exists => (LOOKUP, 1 + goes_on(kind)),
        MacroKind::ExistsOne => (2, 2),
        // Each turn adds a list of one element.
        MacroKind::Collect => (MAKE_LIST + LOOKUP, MAKE_LIST + 2),
        MacroKind::TransformMap => (MAKE_MAP + LOOKUP, 3),
        MacroKind::TransformMapEntry => (MAKE_MAP + LOOKUP, 2),
        MacroKind::OptMap | MacroKind::OptFlatMap | MacroKind::Bind => (LOOKUP, 0),
    }
}

/// What it costs to ask whether a macro goes on: the result so far decides, that of `exists` when it is not so.
pub(crate) fn goes_on(kind: MacroKind) -> u64 {
    match kind {
        MacroKind::All => 2,
        MacroKind::Exists => 3,
        _ => 0,
    }
}

/// The most that `node` can cost.
pub(crate) fn estimate(node: &Node) -> u64 {
    match &node.kind {
        Kind::Literal(_) => 0,
        Kind::Ident(_) => LOOKUP,
        Kind::Select { operand, .. } => estimate(operand).saturating_add(LOOKUP),
        // Kubernetes keeps the question itself free (`PresenceTestHasCost(false)`).
        Kind::Has { operand, .. } => estimate(operand),
        Kind::Index { operand, index, .. } => {
            estimate(operand).saturating_add(estimate(index)).saturating_add(LOOKUP)
        }
        Kind::Call { target, args, rows, .. } => {
            let nodes = || target.as_deref().into_iter().chain(args);
            let types: Vec<&Type> = nodes().map(|node| &node.ty).collect();
            let own = rows.iter().map(|row| row.cost.estimate(&types, &node.ty)).max().unwrap_or(1);
            sum(nodes()).saturating_add(own)
        }
        Kind::List(elements) => sum(elements.iter().map(|(node, _)| node)).saturating_add(MAKE_LIST),
        Kind::Map(entries) => {
            sum(entries.iter().flat_map(|(key, value, _)| [key, value])).saturating_add(MAKE_MAP)
        }
        Kind::Struct { fields, .. } => {
            sum(fields.iter().map(|(_, node, _)| node)).saturating_add(MAKE_OBJECT)
        }
        Kind::And(parts) | Kind::Or(parts) => sum(parts),
        Kind::Choose(parts) => {
            let [condition, then, otherwise] = &**parts;
            estimate(condition).saturating_add(estimate(then).max(estimate(otherwise)))
        }
        Kind::Macro(made) => loops(made),
    }
}

fn sum<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> u64 {
    nodes.into_iter().fold(0, |total: u64, node| total.saturating_add(estimate(node)))
}

fn loops(made: &Macro) -> u64 {
    let (once, each) = overhead(made.kind);
    let turns = match made.kind {
        MacroKind::OptMap | MacroKind::OptFlatMap | MacroKind::Bind => 1,
        _ => made.range.ty.max(),
    };
    let parts = sum(made.filter.iter().chain(&made.body));
    let all = turns.saturating_mul(parts.saturating_add(each));
    estimate(&made.range).saturating_add(once).saturating_add(all)
}
