//! Which pods go first when there are too many: those that are worth least, in upstream's order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::DELETION_COST;
use crate::cache::Pod;
use crate::when::since;

/// The `count` pods of `active` to delete first. `siblings` are the active pods of all sets of the same
/// controller: where several share a node, one of them goes before a pod that is alone.
pub(super) fn to_delete(
    active: &[Arc<Pod>],
    siblings: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in siblings {
        if let Some(node) = pod.spec.node() {
            *on_node.entry(node).or_default() += 1;
        }
    }
    let crowd = |pod: &Pod| pod.spec.node().and_then(|node| on_node.get(node)).copied().unwrap_or(0);
    let mut pods = active.to_vec();
    pods.sort_by(|a, b| worth(a, b, crowd(a), crowd(b), now));
    pods.truncate(count);
    pods
}

/// `Less` when `a` should go before `b`.
fn worth(a: &Pod, b: &Pod, crowd_a: usize, crowd_b: usize, now: Timestamp) -> Ordering {
    // Unassigned before assigned.
    let order = a.spec.node().is_some().cmp(&b.spec.node().is_some());
    // Pending before unknown before running.
    let order = order.then_with(|| phase(a).cmp(&phase(b)));
    // Not ready before ready.
    let order = order.then_with(|| a.ready().cmp(&b.ready()));
    // Cheaper before dearer.
    let order = order.then_with(|| cost(a).cmp(&cost(b)));
    // On a crowded node before alone.
    let order = order.then_with(|| crowd_b.cmp(&crowd_a));
    // Ready for a shorter time first, by powers of two, so that old pods are not always spared.
    let order = order.then_with(|| age_class(a.ready_since(), now).cmp(&age_class(b.ready_since(), now)));
    // More restarts first.
    let order = order.then_with(|| restarts(b).cmp(&restarts(a)));
    // Younger first, by powers of two.
    let order = order.then_with(|| age_class(created(a), now).cmp(&age_class(created(b), now)));
    order.then_with(|| a.uid().cmp(b.uid()))
}

fn phase(pod: &Pod) -> u8 {
    match pod.status.phase.as_deref() {
        Some("Running") => 2,
        Some("Unknown") => 1,
        _ => 0,
    }
}

fn cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(DELETION_COST)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.container_statuses.iter().map(|s| s.restart_count).max().unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

/// The logarithm of an age in seconds; an unknown age counts as none.
fn age_class(from: Option<Timestamp>, now: Timestamp) -> u32 {
    let seconds = from.map_or(0, |from| since(now, from).as_secs());
    u64::BITS - seconds.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PodBuilder;

    fn order_of(pods: &[PodBuilder], siblings: &[PodBuilder]) -> Vec<String> {
        let build = |list: &[PodBuilder]| list.iter().map(PodBuilder::arc).collect::<Vec<_>>();
        let active = build(pods);
        let doomed = to_delete(&active, &build(siblings), active.len(), crate::testing::now());
        doomed.iter().map(|p| p.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn worthless_pods_go_first() {
        let pods = [
            PodBuilder::new("old").on("n1").running().ready_for(4000).aged(5000),
            PodBuilder::new("young").on("n1").running().ready_for(40).aged(50),
            PodBuilder::new("restarted").on("n1").running().ready_for(40).aged(50).restarts(3),
            PodBuilder::new("cheap").on("n1").running().ready_for(4000).aged(5000).cost("-5"),
            PodBuilder::new("unready").on("n1").running().aged(5000),
            PodBuilder::new("pending").on("n1").aged(5000),
            PodBuilder::new("unassigned").aged(5000),
        ];
        let expected = ["unassigned", "pending", "unready", "cheap", "restarted", "young", "old"];
        assert_eq!(order_of(&pods, &[]), expected);
    }

    #[test]
    fn a_doubled_up_pod_goes_before_one_that_is_alone() {
        let pods = [
            PodBuilder::new("alone").on("n1").running().ready_for(10),
            PodBuilder::new("doubled").on("n2").running().ready_for(4000),
        ];
        let other = PodBuilder::new("other").on("n2").running();
        let siblings = [pods[0].clone(), pods[1].clone(), other];
        assert_eq!(order_of(&pods, &siblings), ["doubled", "alone"]);
    }

    #[test]
    fn ages_of_one_class_do_not_decide() {
        let pods = [
            PodBuilder::new("a").uid("2").on("n").running().ready_for(100).aged(100),
            PodBuilder::new("b").uid("1").on("n").running().ready_for(90).aged(90),
        ];
        assert_eq!(order_of(&pods, &[]), ["b", "a"]);
        let pods = [
            PodBuilder::new("a").uid("1").on("n").running().ready_for(100).aged(100),
            PodBuilder::new("b").uid("2").on("n").running().ready_for(90).aged(90),
        ];
        assert_eq!(order_of(&pods, &[]), ["a", "b"]);
    }
}
