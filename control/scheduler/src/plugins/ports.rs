//! NodePorts: ports of the host are taken once.

use crate::framework::{Candidates, Event, Plugin, Point, PreFilter};
use crate::pod::PodInfo;
use crate::table::{Row, Table};

/// Keeps pods off nodes where a port of theirs is taken.
#[derive(Debug)]
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, pod: &PodInfo, _table: &Table) -> PreFilter {
        if pod.usage.ports.is_empty() { PreFilter::Skip } else { PreFilter::Filter }
    }

    fn filter(&self, pod: &PodInfo, table: &Table, candidates: &mut Candidates) {
        let reason = "node(s) didn't have free ports for the requested pod ports";
        candidates.reject(&table.port_conflicts(pod), reason, true);
    }

    fn admits(&self, pod: &PodInfo, table: &Table, row: Row) -> bool {
        !table.port_conflict(pod, row)
    }

    fn helps(&self, pod: &PodInfo, table: &Table, event: Event) -> bool {
        match event {
            Event::Freed(row) => self.admits(pod, table, row),
            Event::Node(row, change) => change.added && self.admits(pod, table, row),
        }
    }
}
