//! SchedulingGates: a pod waits until nothing gates it any more.

use crate::framework::{Plugin, Point, Reason};
use crate::pod::PodInfo;

/// Keeps gated pods out of the queue.
#[derive(Debug)]
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Reason> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for scheduling gates: {:?}", pod.gates).into())
    }
}
