//! Why a pod got no node, in the words that people know.

use std::collections::BTreeMap;

use crate::framework::{PluginSet, Reason};

/// What preemption says where leaving pods would change nothing; `{}` is the number of nodes.
pub(crate) const NOT_HELPFUL: &str =
    "preemption: 0/{} nodes are available: {} Preemption is not helpful for scheduling.";

/// Why no node will do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: u32,
    /// What made it pointless to look at nodes.
    pub pre_filter: Option<Reason>,
    /// How many nodes each reason kept out. A node may have several.
    pub reasons: BTreeMap<String, u32>,
    /// What was tried then.
    pub post_filter: Option<String>,
    /// The plugins that rejected nodes: events that help none of them need no new try.
    pub plugins: PluginSet,
}

impl Diagnosis {
    /// `0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: …`
    #[must_use]
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut message = format!("0/{} nodes are available:", self.nodes);
        if let Some(reason) = &self.pre_filter {
            message += &format!(" {reason}.");
        } else if !self.reasons.is_empty() {
            // Sorted as text, number first, as upstream does.
            let mut each: Vec<String> =
                self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            each.sort();
            message += &format!(" {}.", each.join(", "));
        }
        if let Some(text) = &self.post_filter {
            message += &format!(" {text}");
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_upstreams() {
        let reasons = [("Insufficient cpu", 2), ("node(s) were unschedulable", 1)];
        let diagnosis = Diagnosis {
            nodes: 3,
            reasons: reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            post_filter: Some("preemption: x.".into()),
            ..Diagnosis::default()
        };
        assert_eq!(
            diagnosis.message(),
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: x."
        );
        assert_eq!(Diagnosis::default().message(), "no nodes available to schedule pods");
    }
}
