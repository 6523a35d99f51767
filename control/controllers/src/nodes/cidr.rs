//! Gives each node an address range for its pods, out of the cluster's.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use carrack_client::{Key, Note, NoteKind};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::json;

use crate::cache::{Caches, Feeds, Node};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::NODE;

/// The cluster's range of one family, and the length of the prefix that each node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The cluster's range.
    pub cluster: IpNet,
    /// The prefix length of a node's range.
    pub node_prefix: u8,
}

/// What the plan is made from: all nodes, since a range must be given once.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The ranges, one for each family.
    pub ranges: Vec<Range>,
    /// Every node.
    pub nodes: Vec<Arc<Node>>,
}

/// The controller. It has one key, so that two nodes never get the same range.
pub struct PodCidrs {
    caches: Arc<Caches>,
    ranges: Vec<Range>,
}

impl PodCidrs {
    /// A controller that gives ranges out of `ranges`.
    #[must_use]
    pub fn new(caches: Arc<Caches>, ranges: Vec<Range>) -> Self {
        Self { caches, ranges }
    }

    /// Feeds `queue` when a node needs a range or gave one back.
    pub fn hook(feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.nodes.push(Box::new(move |change| {
            let needs = change.new.as_ref().is_none_or(|node| has(node).is_empty());
            if needs {
                own.add(Key::cluster("nodes"));
            }
        }));
    }
}

/// The ranges that a node has.
fn has(node: &Node) -> Vec<&str> {
    let listed = node.spec.pod_cidrs.iter().map(String::as_str);
    let first = node.spec.pod_cidr.as_deref().filter(|_| node.spec.pod_cidrs.is_empty());
    first.into_iter().chain(listed).filter(|text| !text.is_empty()).collect()
}

/// Gives a free range of each family to every node that has none.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    let mut taken: Vec<IpNet> =
        snapshot.nodes.iter().flat_map(|node| has(node)).filter_map(|text| text.parse().ok()).collect();
    let mut needing: Vec<&Arc<Node>> = snapshot
        .nodes
        .iter()
        .filter(|n| has(n).is_empty() && n.metadata.deletion_timestamp.is_none())
        .collect();
    needing.sort_by(|a, b| {
        let age = |node: &Node| node.metadata.creation_timestamp.clone();
        age(a).cmp(&age(b)).then_with(|| a.name().cmp(b.name()))
    });
    for node in needing {
        let free: Option<Vec<IpNet>> = snapshot.ranges.iter().map(|range| free(range, &taken)).collect();
        match free {
            Some(ranges) if !ranges.is_empty() => {
                plan.push(assign(node, &ranges));
                taken.extend(ranges);
            }
            _ => {
                let message = "There is no free address range left for the pods of this node";
                plan.tell(Note::new(&**node, NoteKind::Normal, "CIDRNotAvailable", message));
            }
        }
    }
    plan
}

/// The first part of the range that overlaps none of those taken.
fn free(range: &Range, taken: &[IpNet]) -> Option<IpNet> {
    let same_size: HashSet<IpNet> = taken.iter().map(IpNet::trunc).collect();
    // Ranges of another size, of nodes that were set up by hand.
    let other: Vec<&IpNet> = taken.iter().filter(|net| net.prefix_len() != range.node_prefix).collect();
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
    let mut parts = range.cluster.subnets(range.node_prefix).ok()?;
    parts.find(|part| !same_size.contains(part) && !other.iter().any(|net| overlaps(net, part)))
}

fn assign(node: &Node, ranges: &[IpNet]) -> Action {
    let texts: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
    // The API lets an empty podCIDR be set once and never be changed; the uid is guard enough.
    let spec = json!({ "podCIDR": texts.first(), "podCIDRs": texts });
    let body = json!({ "metadata": { "uid": node.metadata.uid }, "spec": spec });
    Action::merge(NODE, Key::cluster(node.name()), "", body).missing_ok()
}

impl Range {
    /// The range, if nodes' ranges fit into the cluster's.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn new(cluster: IpNet, node_prefix: u8) -> Result<Self, String> {
        let longest = if matches!(cluster.addr(), IpAddr::V4(_)) { 32 } else { 128 };
        if node_prefix < cluster.prefix_len() || node_prefix > longest {
            return Err(format!("a node's pod range /{node_prefix} does not fit into {cluster}"));
        }
        if node_prefix - cluster.prefix_len() > 16 {
            return Err(format!("{cluster} would give more than 65536 node ranges of /{node_prefix}"));
        }
        Ok(Self { cluster: cluster.trunc(), node_prefix })
    }
}

impl Controller for PodCidrs {
    type Snapshot = Snapshot;
    const NAME: &'static str = "node-ipam";
    const WORKERS: usize = 1;

    async fn snapshot(&self, _key: &Key) -> Result<Option<Snapshot>, LookError> {
        Ok(Some(Snapshot { ranges: self.ranges.clone(), nodes: self.caches.nodes.all() }))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan(snapshot)
    }
}
