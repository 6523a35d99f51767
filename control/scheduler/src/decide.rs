//! The decision: which node, or why none. Pure: the same table and pod give the same answer.

use std::sync::Arc;

use crate::diagnosis::Diagnosis;
use crate::framework::{Framework, Permit, Point, Reason};
use crate::pod::PodInfo;
use crate::table::{Row, Table};

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It goes to this node.
    Bind(Choice),
    /// No node will do.
    Unschedulable(Diagnosis),
    /// A node would do, but a plugin does not want it bound now.
    Denied(Reason),
}

/// The node chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its row.
    pub row: Row,
    /// Its name.
    pub node: Arc<str>,
    /// How many nodes would have done.
    pub feasible: usize,
}

/// Decides where `pod` goes.
#[must_use]
pub fn decide(framework: &Framework, table: &Table, pod: &PodInfo) -> Decision {
    let candidates = match framework.filter(pod, table) {
        Ok(candidates) => candidates,
        Err(diagnosis) => return Decision::Unschedulable(diagnosis),
    };
    let rows: Vec<Row> = candidates.left.iter().collect();
    let row = match rows.as_slice() {
        [only] => *only,
        rows => best(rows, &framework.score(pod, table, rows), pod),
    };
    if let Err(reason) = reserve(framework, table, pod, row) {
        return Decision::Denied(reason);
    }
    let node = Arc::clone(table.name(row));
    for (_, plugin, _) in framework.at(Point::Permit) {
        if let Permit::Deny(reason) = plugin.permit(pod, table, row) {
            unreserve(framework, table, pod, &node);
            return Decision::Denied(reason);
        }
    }
    Decision::Bind(Choice { row, node, feasible: rows.len() })
}

/// Tells the plugins that the pod takes the node; on a refusal those already told are told again.
fn reserve(framework: &Framework, table: &Table, pod: &PodInfo, row: Row) -> Result<(), Reason> {
    for (_, plugin, _) in framework.at(Point::Reserve) {
        if let Err(reason) = plugin.reserve(pod, table, row) {
            unreserve(framework, table, pod, table.name(row));
            return Err(reason);
        }
    }
    Ok(())
}

/// Tells the plugins that the pod will not take the node.
pub fn unreserve(framework: &Framework, table: &Table, pod: &PodInfo, node: &str) {
    framework.at(Point::Reserve).for_each(|(_, plugin, _)| plugin.unreserve(pod, table, node));
}

/// The row with the best score; among equals one that depends on the pod, so that pods do not all go to the first.
fn best(rows: &[Row], scores: &[i64], pod: &PodInfo) -> Row {
    let top = scores.iter().copied().max().unwrap_or(0);
    let equals = scores.iter().filter(|score| **score == top).count();
    let turn = hash(&pod.uid) % u64::try_from(equals).unwrap_or(1).max(1);
    let mut ranked = rows.iter().zip(scores).filter(|(_, score)| **score == top);
    ranked.nth(usize::try_from(turn).unwrap_or(0)).map_or(0, |(row, _)| *row)
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
