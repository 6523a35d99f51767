//! NodeUnschedulable: cordoned nodes take no pods but those that endure it.

use k8s_openapi::api::core::v1::Taint;

use crate::framework::{Candidates, Plugin, Point};
use crate::pod::PodInfo;
use crate::table::{Row, Table, tolerates};

/// Keeps pods off cordoned nodes.
#[derive(Debug)]
pub struct NodeUnschedulable;

fn endures(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tolerates(&pod.tolerations, &taint)
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn filter(&self, pod: &PodInfo, table: &Table, candidates: &mut Candidates) {
        if !table.unschedulable.is_empty() && !endures(pod) {
            candidates.reject(&table.unschedulable, "node(s) were unschedulable", false);
        }
    }

    fn admits(&self, pod: &PodInfo, table: &Table, row: Row) -> bool {
        !table.unschedulable.contains(row) || endures(pod)
    }
}
