//! The nodes, as columns: one array for each property, kept up to date as nodes and pods change, so that a decision is
//! a few passes over plain numbers and sets of bits.
//!
//! A node is a row number; rows of nodes that are gone are used again.

mod labels;
mod taints;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::bits::Bits;
use crate::pod::{HostPort, PodInfo, Requests, Usage};
use crate::view::{Amounts, Node};

pub use labels::LabelIndex;
pub use taints::{TaintSets, tolerates};

/// A node's row.
pub type Row = u32;

/// The columns that every table has; extended resources follow.
pub const CPU: usize = 0;
/// Memory, in bytes.
pub const MEMORY: usize = 1;
/// Local storage, in bytes.
pub const STORAGE: usize = 2;
/// Number of pods.
pub const PODS: usize = 3;
/// How many columns every table has.
const FIXED: usize = 4;

/// One resource of all nodes.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// What pods may take.
    pub allocatable: Vec<i64>,
    /// What they take.
    pub used: Vec<i64>,
}

/// A pod that takes something from a node, bound or about to be.
#[derive(Clone, Debug)]
struct Placed {
    node: String,
    usage: Usage,
    /// Decided here, not yet seen in the API.
    assumed: bool,
}

/// What changed of a node, as far as it can help a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// It is new.
    pub added: bool,
    /// It may hold more or other resources.
    pub allocatable: bool,
    /// Its labels.
    pub labels: bool,
    /// Its taints, or whether it is cordoned.
    pub taints: bool,
}

impl NodeChange {
    /// Whether anything changed that matters to scheduling.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// The nodes and what pods take of them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: HashMap<String, Row>,
    names: Vec<Arc<str>>,
    free: Vec<Row>,
    /// Rows in use.
    pub live: Bits,
    /// Cordoned nodes.
    pub unschedulable: Bits,
    /// Resources: the fixed columns, then extended ones.
    pub columns: Vec<Column>,
    extended: HashMap<String, usize>,
    /// CPU and memory taken, with defaults for pods that ask for nothing: for scores only.
    pub scored_cpu: Vec<i64>,
    /// See `scored_cpu`.
    pub scored_memory: Vec<i64>,
    /// Labels of nodes.
    pub labels: LabelIndex,
    /// Taints of nodes.
    pub taints: TaintSets,
    /// Images by name: size, and the nodes that have it.
    pub images: HashMap<String, (i64, Bits)>,
    node_images: Vec<Vec<String>>,
    /// Ports of hosts that are taken: how often by row and address.
    ports: HashMap<(String, i32), BTreeMap<(Row, String), u32>>,
    pods: HashMap<String, Placed>,
    by_node: HashMap<String, HashSet<String>>,
}

impl Table {
    /// A table without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self { columns: vec![Column::default(); FIXED], ..Self::default() }
    }

    /// The number of rows, used or not.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.names.len()
    }

    /// The number of nodes.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.live.count()
    }

    /// The row of a node.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<Row> {
        self.rows.get(name).copied()
    }

    /// The name of the node in a row.
    #[must_use]
    pub fn name(&self, row: Row) -> &Arc<str> {
        &self.names[row as usize]
    }

    /// The column of a resource by name, if any node or pod has had it.
    #[must_use]
    pub fn extended(&self, name: &str) -> Option<usize> {
        self.extended.get(name).copied()
    }

    /// Adds a node or takes over its changes, and says what changed.
    pub fn set_node(&mut self, node: &Node) -> (Row, NodeChange) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut change = NodeChange::default();
        let row = match self.rows.get(name) {
            Some(row) => *row,
            None => {
                change.added = true;
                self.add_row(name)
            }
        };
        change.allocatable = self.set_allocatable(row, node);
        let labels = node.metadata.labels.clone().unwrap_or_default();
        change.labels = self.labels.set(row, labels);
        change.taints = self.taints.set(row, &node.spec.taints);
        change.taints |= self.unschedulable.contains(row) != node.spec.unschedulable;
        if node.spec.unschedulable {
            self.unschedulable.insert(row);
        } else {
            self.unschedulable.remove(row);
        }
        self.set_images(row, node);
        (row, change)
    }

    fn add_row(&mut self, name: &str) -> Row {
        let row = self.free.pop().unwrap_or_else(|| {
            let row = Row::try_from(self.names.len()).unwrap_or(Row::MAX);
            self.names.push(Arc::from(""));
            for column in &mut self.columns {
                column.allocatable.push(0);
                column.used.push(0);
            }
            self.scored_cpu.push(0);
            self.scored_memory.push(0);
            self.node_images.push(Vec::new());
            row
        });
        self.names[row as usize] = Arc::from(name);
        self.rows.insert(name.to_owned(), row);
        self.live.insert(row);
        // Pods that were bound to it before it was seen.
        for uid in self.by_node.get(name).cloned().unwrap_or_default() {
            if let Some(placed) = self.pods.get(&uid) {
                let usage = placed.usage.clone();
                self.charge(row, &usage, 1);
            }
        }
        row
    }

    fn set_allocatable(&mut self, row: Row, node: &Node) -> bool {
        let status = &node.status;
        let amounts = if status.allocatable.is_empty() { &status.capacity } else { &status.allocatable };
        let requests = Requests::of(amounts);
        let mut wanted: Vec<(usize, i64)> = vec![
            (CPU, requests.cpu),
            (MEMORY, requests.memory),
            (STORAGE, requests.storage),
            (PODS, pods_of(amounts)),
        ];
        for (name, amount) in &requests.extended {
            wanted.push((self.column(name), *amount));
        }
        let mut more = false;
        for index in 0..self.columns.len() {
            let amount = wanted.iter().find(|(column, _)| *column == index).map_or(0, |(_, amount)| *amount);
            let have = &mut self.columns[index].allocatable[row as usize];
            more |= amount > *have;
            *have = amount;
        }
        more
    }

    /// The column of an extended resource, added if it is new.
    fn column(&mut self, name: &str) -> usize {
        if let Some(column) = self.extended.get(name) {
            return *column;
        }
        let empty = vec![0; self.rows()];
        self.columns.push(Column { allocatable: empty.clone(), used: empty });
        self.extended.insert(name.to_owned(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    fn set_images(&mut self, row: Row, node: &Node) {
        for name in std::mem::take(&mut self.node_images[row as usize]) {
            if let Some((_, nodes)) = self.images.get_mut(&name) {
                nodes.remove(row);
                if nodes.is_empty() {
                    self.images.remove(&name);
                }
            }
        }
        for image in &node.status.images {
            for name in &image.names {
                let entry =
                    self.images.entry(name.clone()).or_insert_with(|| (image.size_bytes, Bits::default()));
                entry.1.insert(row);
                self.node_images[row as usize].push(name.clone());
            }
        }
    }

    /// Removes a node. Its pods stay known: they count again should it come back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(row) = self.rows.remove(name) else { return };
        self.live.remove(row);
        self.unschedulable.remove(row);
        self.labels.set(row, BTreeMap::new());
        self.taints.set(row, &[]);
        self.set_images(row, &Node::default());
        for column in &mut self.columns {
            column.allocatable[row as usize] = 0;
            column.used[row as usize] = 0;
        }
        self.scored_cpu[row as usize] = 0;
        self.scored_memory[row as usize] = 0;
        for taken in self.ports.values_mut() {
            taken.retain(|(at, _), _| *at != row);
        }
        self.ports.retain(|_, taken| !taken.is_empty());
        self.names[row as usize] = Arc::from("");
        self.free.push(row);
    }

    /// Notes that a pod takes what it asks for from a node; `assumed` until the API shows it.
    pub fn place(&mut self, uid: &str, node: &str, usage: Usage, assumed: bool) {
        if let Some(placed) = self.pods.get_mut(uid) {
            if placed.node == node && placed.usage == usage {
                placed.assumed &= assumed;
                return;
            }
            self.remove_pod(uid);
        }
        if let Some(row) = self.row(node) {
            self.charge(row, &usage, 1);
        }
        self.by_node.entry(node.to_owned()).or_default().insert(uid.to_owned());
        self.pods.insert(uid.to_owned(), Placed { node: node.to_owned(), usage, assumed });
    }

    /// Notes that a pod takes nothing any more; returns the row that it frees.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Row> {
        let placed = self.pods.remove(uid)?;
        if let Some(uids) = self.by_node.get_mut(&placed.node) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_node.remove(&placed.node);
            }
        }
        let row = self.row(&placed.node)?;
        self.charge(row, &placed.usage, -1);
        Some(row)
    }

    /// Takes back an assumption; a pod that the API has shown meanwhile stays.
    pub fn forget(&mut self, uid: &str) -> Option<Row> {
        if self.pods.get(uid).is_some_and(|placed| placed.assumed) { self.remove_pod(uid) } else { None }
    }

    /// Whether a pod takes something from a node.
    #[must_use]
    pub fn is_placed(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// Whether a pod with a priority below `priority` is on the node.
    #[must_use]
    pub fn has_lower(&self, row: Row, priority: i32) -> bool {
        let uids = self.by_node.get(&**self.name(row)).into_iter().flatten();
        uids.filter_map(|uid| self.pods.get(uid)).any(|placed| placed.usage.priority < priority)
    }

    fn charge(&mut self, row: Row, usage: &Usage, sign: i64) {
        let at = row as usize;
        let requests = &usage.requests;
        self.columns[CPU].used[at] += sign * requests.cpu;
        self.columns[MEMORY].used[at] += sign * requests.memory;
        self.columns[STORAGE].used[at] += sign * requests.storage;
        self.columns[PODS].used[at] += sign;
        for (name, amount) in &requests.extended {
            let column = self.column(name);
            self.columns[column].used[at] += sign * amount;
        }
        self.scored_cpu[at] += sign * usage.scored.0;
        self.scored_memory[at] += sign * usage.scored.1;
        for port in &usage.ports {
            self.charge_port(row, port, sign > 0);
        }
    }

    fn charge_port(&mut self, row: Row, port: &HostPort, take: bool) {
        let key = (port.protocol.clone(), port.port);
        let taken = self.ports.entry(key.clone()).or_default();
        let place = (row, port.ip.clone());
        if take {
            *taken.entry(place).or_insert(0) += 1;
        } else if let Some(count) = taken.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&place);
            }
        }
        if taken.is_empty() {
            self.ports.remove(&key);
        }
    }

    /// Nodes on which a port of `pod` is taken. A port of all addresses conflicts with every address.
    #[must_use]
    pub fn port_conflicts(&self, pod: &PodInfo) -> Bits {
        let mut conflicts = Bits::empty(self.rows());
        for port in &pod.usage.ports {
            let taken = self.ports.get(&(port.protocol.clone(), port.port));
            for (row, ip) in taken.into_iter().flat_map(BTreeMap::keys) {
                if ip.is_empty() || port.ip.is_empty() || *ip == port.ip {
                    conflicts.insert(*row);
                }
            }
        }
        conflicts
    }

    /// Whether a port of `pod` is taken on one node.
    #[must_use]
    pub fn port_conflict(&self, pod: &PodInfo, row: Row) -> bool {
        pod.usage.ports.iter().any(|port| {
            let taken = self.ports.get(&(port.protocol.clone(), port.port));
            let here =
                taken.into_iter().flat_map(|t| t.range((row, String::new())..)).map(|(place, _)| place);
            here.take_while(|(at, _)| *at == row)
                .any(|(_, ip)| ip.is_empty() || port.ip.is_empty() || *ip == port.ip)
        })
    }

    /// The resources that `pod` asks for: column and amount; `None` for one that no node has.
    pub fn asked<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = (&'a str, Option<usize>, i64)> {
        let requests = &pod.usage.requests;
        let fixed = [
            ("pods", PODS, 1),
            ("cpu", CPU, requests.cpu),
            ("memory", MEMORY, requests.memory),
            ("ephemeral-storage", STORAGE, requests.storage),
        ];
        let fixed = fixed.into_iter().map(|(name, column, amount)| (name, Some(column), amount));
        let extended =
            requests.extended.iter().map(|(name, amount)| (name.as_str(), self.extended(name), *amount));
        fixed.chain(extended).filter(|(_, _, amount)| *amount > 0)
    }
}

fn pods_of(amounts: &Amounts) -> i64 {
    let amount = amounts.get("pods").and_then(|q| carrack_api::quantity::Quantity::parse(&q.0).ok());
    amount.map_or(0, |amount| amount.units())
}

#[cfg(test)]
mod tests;
