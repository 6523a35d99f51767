//! The plugin framework: the extension points at which plugins take part in a decision, and the table that says which
//! plugin does at which.
//!
//! Points of the decision itself (PreFilter to Permit) are pure and work on columns: a filter takes nodes out of a set,
//! a score fills an array. PreBind, Bind and PostBind write to the API; they are [`crate::bind::BindPlugin`]s.

use std::borrow::Cow;
use std::fmt;

use crate::bits::Bits;
use crate::diagnosis::Diagnosis;
use crate::pod::PodInfo;
use crate::table::{NodeChange, Row, Table};

/// The best score that a plugin gives.
pub const BEST: i64 = 100;

/// A sentence about nodes that a plugin rejects; the diagnosis counts equal ones.
pub type Reason = Cow<'static, str>;

/// What PreFilter says.
#[derive(Clone, Debug, PartialEq)]
pub enum PreFilter {
    /// Go on; the plugin filters this pod.
    Filter,
    /// Go on; the plugin has nothing to filter for this pod.
    Skip,
    /// No node can do.
    Reject(Reason),
}

/// What Permit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Bind it.
    Allow,
    /// Do not bind it now.
    Deny(Reason),
}

/// What PostFilter says when no node is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostFilter {
    /// For the message.
    pub message: String,
}

/// Something that may help a pod that found no node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A node came or changed.
    Node(Row, NodeChange),
    /// A pod left a node.
    Freed(Row),
}

/// The nodes that are left, and why the others are not.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// Nodes that no plugin has rejected.
    pub left: Bits,
    rejections: Vec<Rejection>,
    plugin: usize,
}

/// Nodes that one plugin rejected for one reason.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The plugin's number in the framework.
    pub plugin: usize,
    /// Why.
    pub reason: Reason,
    /// Which nodes.
    pub nodes: Bits,
    /// Whether they might do if pods left them.
    pub resolvable: bool,
}

impl Candidates {
    /// All nodes.
    #[must_use]
    pub fn all(table: &Table) -> Self {
        Self { left: table.live.clone(), rejections: Vec::new(), plugin: 0 }
    }

    /// Why nodes were rejected.
    #[must_use]
    pub fn rejections(&self) -> &[Rejection] {
        &self.rejections
    }

    /// Rejects what is left of `nodes`; `resolvable` says that other pods' leaving would help.
    pub fn reject(&mut self, nodes: &Bits, reason: impl Into<Reason>, resolvable: bool) {
        let mut rejected = self.left.clone();
        rejected.keep(nodes);
        self.left.subtract(&rejected);
        self.note(rejected, reason, resolvable);
    }

    /// Rejects all but `nodes`, for good.
    pub fn retain(&mut self, nodes: &Bits, reason: impl Into<Reason>) {
        let mut rejected = self.left.clone();
        rejected.subtract(nodes);
        self.left.keep(nodes);
        self.note(rejected, reason, false);
    }

    /// Notes a reason for nodes, which stay until they are rejected: a node may have several.
    pub fn note(&mut self, nodes: Bits, reason: impl Into<Reason>, resolvable: bool) {
        if !nodes.is_empty() {
            let reason = reason.into();
            self.rejections.push(Rejection { plugin: self.plugin, reason, nodes, resolvable });
        }
    }
}

/// A plugin of the decision. Every method but the first two has a default that does nothing, and is called only where
/// [`Plugin::points`] names it.
pub trait Plugin: Send + Sync {
    /// Its name, as in KubeSchedulerConfiguration.
    fn name(&self) -> &'static str;

    /// The points at which it takes part.
    fn points(&self) -> &'static [Point];

    /// Whether a pod may enter the queue; `Err` says what it waits for.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), Reason> {
        Ok(())
    }

    /// Looks at the pod before any node.
    fn pre_filter(&self, _pod: &PodInfo, _table: &Table) -> PreFilter {
        PreFilter::Filter
    }

    /// Takes nodes out that will not do.
    fn filter(&self, _pod: &PodInfo, _table: &Table, _candidates: &mut Candidates) {}

    /// Whether one node will do: the same answer as [`Plugin::filter`], for a single node.
    fn admits(&self, _pod: &PodInfo, _table: &Table, _row: Row) -> bool {
        true
    }

    /// Whether an event may help a pod that this plugin rejected.
    fn helps(&self, pod: &PodInfo, table: &Table, event: Event) -> bool {
        match event {
            Event::Node(row, _) | Event::Freed(row) => self.admits(pod, table, row),
        }
    }

    /// Says something when no node is left.
    fn post_filter(&self, _pod: &PodInfo, _table: &Table, _candidates: &Candidates) -> Option<PostFilter> {
        None
    }

    /// Whether there is anything to score for this pod.
    fn pre_score(&self, _pod: &PodInfo, _table: &Table) -> bool {
        true
    }

    /// Fills in a score for each of `rows`.
    fn score(&self, _pod: &PodInfo, _table: &Table, _rows: &[Row], _scores: &mut [i64]) {}

    /// Brings the scores of one pod into 0 to [`BEST`].
    fn normalize(&self, _scores: &mut [i64]) {}

    /// Told that the pod will take the node.
    fn reserve(&self, _pod: &PodInfo, _table: &Table, _row: Row) -> Result<(), Reason> {
        Ok(())
    }

    /// Told that it will not after all.
    fn unreserve(&self, _pod: &PodInfo, _table: &Table, _node: &str) {}

    /// The last word before binding.
    fn permit(&self, _pod: &PodInfo, _table: &Table, _row: Row) -> Permit {
        Permit::Allow
    }
}

/// An extension point of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before the queue.
    PreEnqueue,
    /// Before filters.
    PreFilter,
    /// Which nodes will do.
    Filter,
    /// When none will.
    PostFilter,
    /// Before scores.
    PreScore,
    /// Which of those that will do is best.
    Score,
    /// Scores made comparable.
    NormalizeScore,
    /// The node is taken.
    Reserve,
    /// The last word.
    Permit,
}

/// Every point, in the order in which they are reached.
pub const POINTS: [Point; 9] = [
    Point::PreEnqueue,
    Point::PreFilter,
    Point::Filter,
    Point::PostFilter,
    Point::PreScore,
    Point::Score,
    Point::NormalizeScore,
    Point::Reserve,
    Point::Permit,
];

/// The plugins in order, with the weights of their scores, and for each point those that take part.
pub struct Framework {
    plugins: Vec<(Box<dyn Plugin>, i64)>,
    at: [Vec<usize>; POINTS.len()],
}

/// A set of plugins by their number; a framework has at most 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSet(u64);

impl PluginSet {
    /// Adds a plugin.
    pub fn insert(&mut self, plugin: usize) {
        self.0 |= 1 << (plugin % 64);
    }

    /// Whether a plugin is in.
    #[must_use]
    pub fn contains(self, plugin: usize) -> bool {
        self.0 >> (plugin % 64) & 1 == 1
    }
}

impl Framework {
    /// A framework of `plugins` with their weights.
    #[must_use]
    pub fn new(plugins: Vec<(Box<dyn Plugin>, i64)>) -> Self {
        let takes_part = |point: Point| -> Vec<usize> {
            let numbered = plugins.iter().enumerate();
            numbered.filter(|(_, (plugin, _))| plugin.points().contains(&point)).map(|(i, _)| i).collect()
        };
        let at = POINTS.map(takes_part);
        Self { plugins, at }
    }

    /// Plugins at a point: number, plugin, weight.
    pub(crate) fn at(&self, point: Point) -> impl Iterator<Item = (usize, &dyn Plugin, i64)> {
        let listed = POINTS.iter().position(|p| *p == point).map_or(&[][..], |index| &self.at[index]);
        listed.iter().map(|index| {
            let (plugin, weight) = &self.plugins[*index];
            (*index, &**plugin, *weight)
        })
    }

    /// Whether every filter lets the pod onto one node.
    #[must_use]
    pub fn admits(&self, pod: &PodInfo, table: &Table, row: Row) -> bool {
        table.live.contains(row)
            && self.at(Point::Filter).all(|(_, plugin, _)| plugin.admits(pod, table, row))
    }

    /// What a pod waits for before it may enter the queue.
    #[must_use]
    pub fn gate(&self, pod: &PodInfo) -> Option<Reason> {
        self.at(Point::PreEnqueue).find_map(|(_, plugin, _)| plugin.pre_enqueue(pod).err())
    }

    /// The nodes that will do, or why none does.
    pub(crate) fn filter(&self, pod: &PodInfo, table: &Table) -> Result<Candidates, Diagnosis> {
        let mut diagnosis = Diagnosis { nodes: table.nodes(), ..Diagnosis::default() };
        let mut skipped = PluginSet::default();
        for (number, plugin, _) in self.at(Point::PreFilter) {
            match plugin.pre_filter(pod, table) {
                PreFilter::Filter => {}
                PreFilter::Skip => skipped.insert(number),
                PreFilter::Reject(reason) => {
                    diagnosis.plugins.insert(number);
                    diagnosis.pre_filter = Some(reason);
                    diagnosis.post_filter =
                        Some(crate::diagnosis::NOT_HELPFUL.replace("{}", &diagnosis.nodes.to_string()));
                    return Err(diagnosis);
                }
            }
        }
        let mut candidates = Candidates::all(table);
        for (number, plugin, _) in self.at(Point::Filter).filter(|(number, _, _)| !skipped.contains(*number))
        {
            candidates.plugin = number;
            plugin.filter(pod, table, &mut candidates);
            if candidates.left.is_empty() {
                break;
            }
        }
        if !candidates.left.is_empty() {
            return Ok(candidates);
        }
        for rejection in candidates.rejections() {
            diagnosis.plugins.insert(rejection.plugin);
            *diagnosis.reasons.entry(rejection.reason.to_string()).or_insert(0) += rejection.nodes.count();
        }
        let post = self.at(Point::PostFilter).find_map(|(_, p, _)| p.post_filter(pod, table, &candidates));
        diagnosis.post_filter = post.map(|post| post.message);
        Err(diagnosis)
    }

    /// Weighted scores of `rows`.
    pub(crate) fn score(&self, pod: &PodInfo, table: &Table, rows: &[Row]) -> Vec<i64> {
        let mut totals = vec![0; rows.len()];
        let mut scores = vec![0; rows.len()];
        for (number, plugin, weight) in self.at(Point::Score) {
            let pre = self.at(Point::PreScore).find(|(n, _, _)| *n == number);
            if pre.is_some_and(|(_, plugin, _)| !plugin.pre_score(pod, table)) {
                continue;
            }
            scores.fill(0);
            plugin.score(pod, table, rows, &mut scores);
            if plugin.points().contains(&Point::NormalizeScore) {
                plugin.normalize(&mut scores);
            }
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weight;
            }
        }
        totals
    }

    /// Whether an event may help a pod that these plugins rejected.
    #[must_use]
    pub fn helps(&self, rejected_by: PluginSet, pod: &PodInfo, table: &Table, event: Event) -> bool {
        if rejected_by == PluginSet::default() {
            // There was no node to reject.
            return matches!(event, Event::Node(_, change) if change.added);
        }
        let numbered = self.plugins.iter().enumerate();
        numbered
            .filter(|(number, _)| rejected_by.contains(*number))
            .any(|(_, (plugin, _))| plugin.helps(pod, table, event))
    }
}

impl fmt::Debug for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.plugins.iter().map(|(plugin, weight)| (plugin.name(), weight));
        f.debug_map().entries(names).finish()
    }
}
