//! How fast pods are evicted from nodes that are gone: slowly, and not at all when it is more likely that this side
//! is cut off.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cache::Node;

/// Nodes a second that may be evicted from in a healthy zone.
const RATE: f64 = 0.1;
/// And in a large zone of which most nodes are gone.
const SLOW_RATE: f64 = 0.01;
/// A zone with at most this many nodes is not evicted from at all while most are gone.
const LARGE: usize = 50;
/// The part of a zone that must be gone for it to count as disrupted …
const DISRUPTED: f64 = 0.55;
/// … if more than this many are.
const FEW: usize = 2;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// How eviction from the nodes of a zone may go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// One node each so long.
    Every(Duration),
    /// No further node; taints that are there stay.
    Stopped,
    /// Every zone is gone whole: it is this side that is cut off. Taints are taken back.
    CutOff,
}

/// Region and zone of a node.
pub(super) fn zone_of(node: &Node) -> String {
    let label = |name: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|l| l.get(name)).map_or("", String::as_str)
    };
    format!("{}/{}", label(REGION), label(ZONE))
}

/// Whether the node counts as gone.
fn gone(node: &Node) -> bool {
    node.condition("Ready").is_some_and(|c| c.status != "True")
}

/// The pace in `zone`, given all nodes.
pub(super) fn pace<'a>(nodes: impl Iterator<Item = &'a Node>, zone: &str) -> Pace {
    let mut zones: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for node in nodes {
        let (total, lost) = zones.entry(zone_of(node)).or_default();
        *total += 1;
        *lost += usize::from(gone(node));
    }
    let whole = |(total, lost): &(usize, usize)| *lost > 0 && lost == total;
    if !zones.is_empty() && zones.values().all(whole) {
        return Pace::CutOff;
    }
    let Some(&(total, lost)) = zones.get(zone) else { return Pace::Every(period(RATE)) };
    if whole(&(total, lost)) {
        // The others live: this zone really is gone.
        return Pace::Every(period(RATE));
    }
    #[expect(clippy::cast_precision_loss, reason = "a share of some thousand nodes")]
    let share = lost as f64 / total as f64;
    if lost <= FEW || share < DISRUPTED {
        Pace::Every(period(RATE))
    } else if total > LARGE {
        Pace::Every(period(SLOW_RATE))
    } else {
        Pace::Stopped
    }
}

fn period(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate)
}
