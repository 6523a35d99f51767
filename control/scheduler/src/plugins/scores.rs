//! LeastAllocated and BalancedAllocation: the emptier a node, and the more evenly its CPU and memory are used, the
//! better.

use crate::framework::{BEST, Plugin, Point};
use crate::pod::PodInfo;
use crate::table::{CPU, MEMORY, Row, Table};

/// Prefers nodes with much left.
#[derive(Debug)]
pub struct LeastAllocated;

/// Prefers nodes whose CPU and memory are used to the same degree.
#[derive(Debug)]
pub struct BalancedAllocation;

/// How much of CPU and memory would be used with the pod, each from 0 to 1, `None` for what the node does not have.
fn fractions(pod: &PodInfo, table: &Table, row: Row) -> [Option<f64>; 2] {
    let at = row as usize;
    let (cpu, memory) = pod.usage.scored;
    [
        fraction(table.scored_cpu[at] + cpu, table.columns[CPU].allocatable[at]),
        fraction(table.scored_memory[at] + memory, table.columns[MEMORY].allocatable[at]),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a share; its last digits do not matter")]
fn fraction(used: i64, allocatable: i64) -> Option<f64> {
    (allocatable > 0).then(|| (used as f64 / allocatable as f64).min(1.0))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a number from 0 to 100")]
fn points(share: f64) -> i64 {
    (share * BEST as f64) as i64
}

impl Plugin for LeastAllocated {
    fn name(&self) -> &'static str {
        "NodeResourcesLeastAllocated"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    fn score(&self, pod: &PodInfo, table: &Table, rows: &[Row], scores: &mut [i64]) {
        for (row, score) in rows.iter().zip(scores) {
            let known = fractions(pod, table, *row).into_iter().flatten();
            let (sum, count) = known.fold((0, 0), |(sum, count), used| (sum + points(1.0 - used), count + 1));
            *score = if count == 0 { 0 } else { sum / count };
        }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    fn score(&self, pod: &PodInfo, table: &Table, rows: &[Row], scores: &mut [i64]) {
        for (row, score) in rows.iter().zip(scores) {
            // The standard deviation of two numbers is half their distance.
            let deviation = match fractions(pod, table, *row) {
                [Some(cpu), Some(memory)] => (cpu - memory).abs() / 2.0,
                _ => 0.0,
            };
            *score = points(1.0 - deviation);
        }
    }
}
