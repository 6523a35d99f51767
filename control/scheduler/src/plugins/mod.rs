//! The plugins, and the framework that they make by default.

mod affinity;
mod gates;
mod image;
mod name;
mod ports;
mod preemption;
mod resources;
mod scores;
mod taints;
mod unsupported;

use crate::framework::{Framework, Plugin};

pub use affinity::NodeAffinity;
pub use gates::SchedulingGates;
pub use image::ImageLocality;
pub use name::NodeUnschedulable;
pub use ports::NodePorts;
pub use preemption::DefaultPreemption;
pub use resources::NodeResourcesFit;
pub use scores::{BalancedAllocation, LeastAllocated};
pub use taints::TaintToleration;
pub use unsupported::Unsupported;

/// The default plugins in upstream's order of filters, with upstream's weights.
///
/// `spec.nodeName` needs no plugin here: a pod that has it is bound, and a DaemonSet names its node by an affinity term.
#[must_use]
pub fn default_framework() -> Framework {
    let table: Vec<(Box<dyn Plugin>, i64)> = vec![
        (Box::new(SchedulingGates), 0),
        (Box::new(Unsupported), 0),
        (Box::new(NodeUnschedulable), 0),
        (Box::new(TaintToleration), 3),
        (Box::new(NodeAffinity), 2),
        (Box::new(NodePorts), 0),
        (Box::new(NodeResourcesFit), 0),
        (Box::new(LeastAllocated), 1),
        (Box::new(BalancedAllocation), 1),
        (Box::new(ImageLocality), 1),
        (Box::new(DefaultPreemption), 0),
    ];
    Framework::new(table)
}
