//! The state of the scheduler and how news change it: the table of nodes, the queues, and what was assumed. No I/O; the
//! driver feeds it and does what it says.

use std::sync::Arc;
use std::time::Instant;

use carrack_client::Change;

use crate::decide::{Decision, decide, unreserve};
use crate::framework::{Event, Framework};
use crate::pod::{DEFAULT_SCHEDULER, PodInfo, Usage};
use crate::queue::{Counts, Queue};
use crate::table::Table;
use crate::view::{Node, Pod};

/// What the driver has to do for one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Bind it.
    Bind {
        /// The pod's uid.
        uid: String,
        /// The node.
        node: Arc<str>,
    },
    /// Tell why it got no node.
    Report {
        /// The pod's uid.
        uid: String,
        /// Why.
        message: String,
    },
}

/// The scheduler without its hands.
pub struct Core {
    name: String,
    framework: Framework,
    table: Table,
    queue: Queue,
}

impl Core {
    /// A scheduler for pods whose `spec.schedulerName` is `name`.
    #[must_use]
    pub fn new(name: &str, framework: Framework) -> Self {
        Self { name: name.to_owned(), framework, table: Table::new(), queue: Queue::default() }
    }

    /// The table of nodes.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How many pods wait where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.queue.counts()
    }

    /// A node came, changed or went.
    pub fn node_changed(&mut self, change: &Change<Node>, now: Instant) {
        match (&change.new, &change.old) {
            (Some(node), _) => {
                let (row, what) = self.table.set_node(node);
                if what.any() {
                    self.queue.wake(&self.framework, &self.table, Event::Node(row, what), now);
                }
            }
            (None, Some(node)) => self.table.remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            (None, None) => {}
        }
    }

    /// A pod came, changed or went.
    pub fn pod_changed(&mut self, change: &Change<Pod>, now: Instant) {
        if let Some(old) = &change.old {
            // Gone, or another pod under its name.
            if change.new.as_ref().is_none_or(|new| new.uid() != old.uid()) {
                self.pod_gone(old.uid(), now);
            }
        }
        let Some(pod) = &change.new else { return };
        let uid = pod.uid();
        if pod.ended() {
            self.pod_gone(uid, now);
        } else if let Some(node) = pod.node() {
            self.queue.remove(uid);
            self.table.place(uid, node, Usage::of(pod), false);
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(uid);
        } else if self.is_ours(pod) {
            self.queue.put(&self.framework, PodInfo::of(pod));
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let asked = pod.spec.scheduler_name.as_deref().filter(|name| !name.is_empty());
        asked.unwrap_or(DEFAULT_SCHEDULER) == self.name
    }

    fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        if let Some(row) = self.table.remove_pod(uid) {
            self.queue.wake(&self.framework, &self.table, Event::Freed(row), now);
        }
    }

    /// Decides the next pod, if any is ready.
    pub fn next(&mut self, now: Instant) -> Option<Task> {
        let pod = self.queue.pop()?;
        let uid = pod.uid.clone();
        Some(match decide(&self.framework, &self.table, &pod) {
            Decision::Bind(choice) => {
                self.table.place(&uid, &choice.node, pod.usage.clone(), true);
                Task::Bind { uid, node: choice.node }
            }
            Decision::Unschedulable(diagnosis) => {
                self.queue.park(&uid, diagnosis.plugins, now);
                Task::Report { uid, message: diagnosis.message() }
            }
            Decision::Denied(reason) => {
                self.queue.retry(&uid, now);
                Task::Report { uid, message: reason.into_owned() }
            }
        })
    }

    /// A pod was not bound: what was assumed is taken back, and it is tried again unless it is gone.
    pub fn not_bound(&mut self, uid: &str, node: &str, gone: bool, now: Instant) {
        if let Some(pod) = self.queue.get(uid) {
            unreserve(&self.framework, &self.table, pod, node);
        }
        if let Some(row) = self.table.forget(uid) {
            self.queue.wake(&self.framework, &self.table, Event::Freed(row), now);
        }
        if gone {
            self.queue.remove(uid);
        } else {
            self.queue.retry(uid, now);
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant) {
        self.queue.tick(now);
    }

    /// When [`Core::tick`] has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        self.queue.next_tick()
    }

    /// Whether a pod is ready to be decided.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.queue.has_active()
    }

    /// A pod that waits.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.queue.get(uid)
    }
}

#[cfg(test)]
mod tests;
