//! The table: columns follow nodes and pods, and sets answer what single questions answer.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::view::Pod;

pub(crate) fn node(name: &str, cpu: &str, memory: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "allocatable": { "cpu": cpu, "memory": memory, "pods": "110" } },
    }))
    .unwrap()
}

fn usage(spec: serde_json::Value) -> Usage {
    let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
    Usage::of(&pod)
}

fn cpu(milli: i64) -> Usage {
    usage(json!({ "containers": [{ "resources": { "requests": { "cpu": format!("{milli}m") } } }] }))
}

#[test]
fn pods_count_whichever_comes_first() {
    let mut table = Table::new();
    table.place("early", "n1", cpu(300), false);
    let (row, change) = table.set_node(&node("n1", "2", "1Gi"));
    assert!(change.added && change.allocatable && change.labels);
    table.place("late", "n1", cpu(200), true);
    assert_eq!(table.columns[CPU].used[row as usize], 500);
    assert_eq!(table.columns[PODS].used[row as usize], 2);
    assert_eq!(table.forget("early"), None, "what the API shows is not forgotten");
    assert_eq!(table.forget("late"), Some(row));
    assert_eq!(table.columns[CPU].used[row as usize], 300);
}

#[test]
fn a_row_that_is_used_again_starts_empty() {
    let mut table = Table::new();
    let mut first = node("n1", "2", "1Gi");
    first.spec.unschedulable = true;
    let (row, _) = table.set_node(&first);
    let port = json!({ "containers": [{ "ports": [{ "containerPort": 1, "hostPort": 80 }] }] });
    table.place("p", "n1", usage(port), false);
    table.remove_node("n1");
    assert_eq!(table.nodes(), 0);
    let (again, change) = table.set_node(&node("n2", "4", "1Gi"));
    assert_eq!(again, row);
    assert!(change.added);
    assert_eq!(table.columns[PODS].used[row as usize], 0);
    assert!(!table.unschedulable.contains(row));
    let (_, change) = table.set_node(&node("n2", "4", "1Gi"));
    assert!(!change.any(), "nothing changed: {change:?}");
    // The pod of n1 counts when n1 is back, at another row.
    let (back, _) = table.set_node(&node("n1", "2", "1Gi"));
    assert_eq!(table.columns[PODS].used[back as usize], 1);
}

#[test]
fn a_wildcard_port_conflicts_with_every_address() {
    let mut table = Table::new();
    let (row, _) = table.set_node(&node("n1", "2", "1Gi"));
    let with_ip = |ip: &str| {
        let port = json!({ "containerPort": 1, "hostPort": 80, "hostIP": ip });
        let pod = json!({ "metadata": { "uid": ip }, "spec": { "containers": [{ "ports": [port] }] } });
        PodInfo::of(&serde_json::from_value(pod).unwrap())
    };
    table.place("p", "n1", with_ip("10.0.0.1").usage.clone(), false);
    for (ip, conflict) in [("", true), ("0.0.0.0", true), ("10.0.0.1", true), ("10.0.0.2", false)] {
        assert_eq!(table.port_conflict(&with_ip(ip), row), conflict, "{ip}");
        assert_eq!(table.port_conflicts(&with_ip(ip)).contains(row), conflict, "{ip}");
    }
    table.remove_pod("p");
    assert!(!table.port_conflict(&with_ip(""), row));
}

#[derive(Clone, Debug)]
enum Step {
    Node(u8, u16),
    RemoveNode(u8),
    Place(u8, u8, u16, bool),
    RemovePod(u8),
    Forget(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_u8, 1..9_u16).prop_map(|(n, cpu)| Step::Node(n, cpu)),
        (0..6_u8).prop_map(Step::RemoveNode),
        (0..20_u8, 0..6_u8, 0..500_u16, any::<bool>()).prop_map(|(p, n, cpu, a)| Step::Place(p, n, cpu, a)),
        (0..20_u8).prop_map(Step::RemovePod),
        (0..20_u8).prop_map(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn what_is_used_is_the_sum_of_the_pods(steps in prop::collection::vec(step(), 0..80)) {
        let mut table = Table::new();
        let mut nodes: HashSet<u8> = HashSet::new();
        let mut pods: HashMap<u8, (u8, u16, bool)> = HashMap::new();
        for step in steps {
            match step {
                Step::Node(n, cpu) => { table.set_node(&node(&n.to_string(), &cpu.to_string(), "1Gi")); nodes.insert(n); }
                Step::RemoveNode(n) => { table.remove_node(&n.to_string()); nodes.remove(&n); }
                Step::Place(p, n, amount, assumed) => {
                    table.place(&p.to_string(), &n.to_string(), cpu(i64::from(amount)), assumed);
                    let same = pods.get(&p).filter(|(node, cpu, _)| (*node, *cpu) == (n, amount));
                    let assumed = same.map_or(assumed, |(_, _, before)| *before && assumed);
                    pods.insert(p, (n, amount, assumed));
                }
                Step::RemovePod(p) => { table.remove_pod(&p.to_string()); pods.remove(&p); }
                Step::Forget(p) => {
                    table.forget(&p.to_string());
                    if pods.get(&p).is_some_and(|(_, _, assumed)| *assumed) { pods.remove(&p); }
                }
            }
        }
        prop_assert_eq!(table.nodes() as usize, nodes.len());
        for n in nodes {
            let row = table.row(&n.to_string()).unwrap() as usize;
            let mine: Vec<_> = pods.values().filter(|(node, _, _)| *node == n).collect();
            prop_assert_eq!(table.columns[PODS].used[row], mine.len() as i64);
            prop_assert_eq!(table.columns[CPU].used[row], mine.iter().map(|(_, cpu, _)| i64::from(*cpu)).sum::<i64>());
        }
    }
}
