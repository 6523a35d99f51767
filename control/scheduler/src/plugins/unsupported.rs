//! Refuses pods that ask for what is not built yet: no node is better than a wrong one.

use crate::framework::{Event, Plugin, Point, PreFilter};
use crate::pod::PodInfo;
use crate::table::Table;

/// Says clearly what cannot be honoured.
#[derive(Debug)]
pub struct Unsupported;

impl Plugin for Unsupported {
    fn name(&self) -> &'static str {
        "Unsupported"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter]
    }

    fn pre_filter(&self, pod: &PodInfo, _table: &Table) -> PreFilter {
        match &pod.unsupported {
            Some(what) => PreFilter::Reject(what.clone().into()),
            None => PreFilter::Skip,
        }
    }

    fn helps(&self, _pod: &PodInfo, _table: &Table, _event: Event) -> bool {
        false
    }
}
