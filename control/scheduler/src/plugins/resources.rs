//! NodeResourcesFit: a node must have left what the pod asks for.

use crate::bits::Bits;
use crate::framework::{Candidates, Event, Plugin, Point, Reason};
use crate::pod::PodInfo;
use crate::table::{Column, PODS, Row, Table};

/// Compares requests with what is left.
#[derive(Debug)]
pub struct NodeResourcesFit;

/// The nodes on which `amount` is not left.
fn lacking(column: &Column, amount: i64) -> Bits {
    Bits::by_chunks(column.used.len(), |start, count| {
        let used = &column.used[start..start + count];
        let allocatable = &column.allocatable[start..start + count];
        let mut word = 0;
        for (index, (used, allocatable)) in used.iter().zip(allocatable).enumerate() {
            word |= u64::from(amount > allocatable - used) << index;
        }
        word
    })
}

/// The nodes that would not have `amount` even if they were empty.
fn too_small(column: &Column, amount: i64) -> Bits {
    Bits::by_chunks(column.used.len(), |start, count| {
        let mut word = 0;
        for (index, allocatable) in column.allocatable[start..start + count].iter().enumerate() {
            word |= u64::from(amount > *allocatable) << index;
        }
        word
    })
}

fn reason(name: &str, column: usize) -> Reason {
    if column == PODS { "Too many pods".into() } else { format!("Insufficient {name}").into() }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, pod: &PodInfo, table: &Table, candidates: &mut Candidates) {
        let mut rejected = Bits::empty(table.rows());
        for (name, column, amount) in table.asked(pod) {
            let Some((number, column)) = column.map(|c| (c, &table.columns[c])) else {
                // No node has ever had it.
                candidates.note(candidates.left.clone(), format!("Insufficient {name}"), false);
                rejected.add(&candidates.left);
                continue;
            };
            let mut nodes = lacking(column, amount);
            nodes.keep(&candidates.left);
            if nodes.is_empty() {
                continue;
            }
            rejected.add(&nodes);
            let mut never = too_small(column, amount);
            never.keep(&nodes);
            nodes.subtract(&never);
            candidates.note(nodes, reason(name, number), true);
            candidates.note(never, reason(name, number), false);
        }
        candidates.left.subtract(&rejected);
    }

    fn admits(&self, pod: &PodInfo, table: &Table, row: Row) -> bool {
        table.asked(pod).all(|(_, column, amount)| {
            let column = column.map(|number| &table.columns[number]);
            column.is_some_and(|c| amount <= c.allocatable[row as usize] - c.used[row as usize])
        })
    }

    fn helps(&self, pod: &PodInfo, table: &Table, event: Event) -> bool {
        match event {
            Event::Freed(row) => self.admits(pod, table, row),
            Event::Node(row, change) => (change.added || change.allocatable) && self.admits(pod, table, row),
        }
    }
}
