//! Pods' links: who reaches whom, what comes back after a restart, what is left in the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail"
)]

mod common;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::net::{serve_tcp, tcp};
use common::{Lab, NODE, Netns, pod_ref};

#[test]
fn pods_and_host_reach_each_other() {
    let lab = Lab::new();
    let node = lab.start();
    let (a, b) = (node.pod("a"), node.pod("b"));
    assert_eq!(a.address.mac, "0a:58:0a:f4:07:02");
    assert_eq!(a.address.mtu, 1500);
    for (netns, name) in [(&a.netns, "a"), (&b.netns, "b"), (&lab.node, "node")] {
        serve_tcp(netns, "0.0.0.0:80", name);
    }
    let seen = |from: &Netns, to: std::net::Ipv4Addr| {
        let reply = from.run(|| tcp(SocketAddr::from((to, 80)))).unwrap();
        (reply.name, reply.saw.ip())
    };
    assert_eq!(seen(&a.netns, b.ip), ("b".into(), a.ip.into()));
    assert_eq!(seen(&b.netns, a.ip), ("a".into(), b.ip.into()));
    assert_eq!(seen(&a.netns, NODE), ("node".into(), a.ip.into()));
    assert_eq!(seen(&lab.node, a.ip), ("a".into(), NODE.into()), "the host speaks in the node's name");
    assert_eq!(seen(&a.netns, a.ip), ("a".into(), a.ip.into()));
    assert_eq!(seen(&a.netns, [127, 0, 0, 1].into()).0, "a", "loopback is up");
    // What a pod sends with another pod's source is dropped where it enters the host.
    let sink = lab.node.run(|| UdpSocket::bind((NODE, 9000))).unwrap();
    sink.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    b.netns.ip(&format!("addr add {}/32 dev eth0", a.ip));
    let heard = |source: Ipv4Addr| {
        b.netns.run(|| UdpSocket::bind((source, 0)).unwrap().send_to(b"x", (NODE, 9000))).unwrap();
        sink.recv_from(&mut [0; 16]).ok().map(|(_, from)| from.ip())
    };
    assert_eq!(heard(a.ip), None);
    assert_eq!(heard(b.ip), Some(b.ip.into()));
    let alias = lab.node.ip(&format!("link show {}", a.address.host_link));
    assert!(alias.contains("carrack a default/pod-a"), "{alias}");
    assert!(!alias.contains("inet6"), "{alias}");
}

#[test]
fn attaching_again_changes_nothing_or_repairs() {
    let lab = Lab::new();
    let node = lab.start();
    let a = node.pod("a");
    serve_tcp(&a.netns, "0.0.0.0:80", "a");
    let works = || lab.node.run(|| tcp(SocketAddr::from((a.ip, 80)))).is_ok();
    let before = (lab.node.inventory(), a.netns.inventory());
    assert_eq!(node.attach("a", &a.netns), a.address);
    assert_eq!((lab.node.inventory(), a.netns.inventory()), before);
    // Someone breaks it, on either side.
    a.netns.ip("route del default");
    a.netns.ip("neigh del 169.254.1.1 dev eth0");
    lab.node.ip(&format!("route del {}", a.ip));
    assert!(!works());
    assert_eq!(node.attach("a", &a.netns), a.address);
    assert!(works());
    // A new process finds it as it was, connections go on meanwhile.
    node.stop();
    assert!(works());
    let node = lab.start();
    assert!(works());
    assert_eq!(node.attach("a", &a.netns), a.address);
    assert_eq!((lab.node.inventory(), a.netns.inventory()), before);
    // The pod's namespace is made anew: the address stays, the link moves.
    let new = Netns::new();
    assert_eq!(node.attach("a", &new), a.address);
    serve_tcp(&new, "0.0.0.0:80", "new");
    assert_eq!(lab.node.run(|| tcp(SocketAddr::from((a.ip, 80)))).unwrap().name, "new");
    assert!(!a.netns.ip("-br link").contains("eth0"));
}

#[test]
fn detach_and_retain_take_links_away() {
    let lab = Lab::new();
    let node = lab.start();
    let before = lab.node.inventory();
    let pods = ["a", "b", "c", "d"].map(|id| node.pod(id));
    assert_eq!(node.network.stats().addresses_used, 4);
    node.detach("a");
    node.detach("a");
    node.detach("never there");
    // The namespace goes before the link is taken away.
    let [_, b, c, d] = pods;
    let kept = c.ip;
    drop((b, d));
    let keep = HashSet::from(["c".to_owned()]);
    node.call(|network| async move { network.retain(&keep).await }).unwrap();
    assert_eq!(node.network.stats().addresses_used, 1);
    assert_eq!(node.attach("c", &c.netns).ip, kept);
    node.call(|network| async move { network.retain(&HashSet::new()).await }).unwrap();
    assert_eq!(lab.node.inventory(), before);
    // Freed addresses are not given out at once.
    assert!(!["a", "b", "c", "d"].contains(&node.pod("e").ip.to_string().as_str()));
    assert_eq!(node.network.stats().addresses_used, 1);
}

#[test]
fn mistakes_are_told() {
    let lab = Lab::new();
    let node = lab.start();
    let netns = Netns::new();
    let attach = |id: &str, path: &str| {
        let (pod, path) = (pod_ref(id), path.to_owned());
        node.call(|network| async move { network.attach(&pod, path.as_ref()).await }).unwrap_err().to_string()
    };
    assert!(attach("a b", "/").contains("printable"));
    assert!(attach("a", "/nowhere").contains("network namespace /nowhere"));
    assert!(attach("a", "/dev/null").contains("network namespace /dev/null"));
    // A link that has the name but belongs to somebody else is left alone.
    let z = node.pod("z");
    for alias in ["carrack other default/pod", "mine"] {
        let arguments = ["link", "set", &z.address.host_link, "alias", alias];
        assert!(
            lab.node.run(|| std::process::Command::new("ip").args(arguments).status()).unwrap().success()
        );
        let error = attach("z", &z.netns.path().display().to_string());
        assert!(error.contains(&format!("belongs to {alias:?}")), "{error}");
    }
    netns.ip("link add eth0 type veth peer name x");
    let error = attach("b", &netns.path().display().to_string());
    assert!(error.contains("make the pair"), "{error}");
}

/// The first packet after `attach` is not lost: a lost SYN would cost a second.
#[test]
fn a_link_works_as_soon_as_it_is_there() {
    let lab = Lab::new();
    let node = lab.start();
    let mut times = Vec::new();
    for number in 0..20 {
        let netns = Netns::new();
        serve_tcp(&netns, "0.0.0.0:80", "pod");
        let ip = node.attach(&format!("new-{number}"), &netns).ip;
        let start = Instant::now();
        assert!(lab.node.run(|| tcp((ip, 80).into())).is_ok());
        times.push(start.elapsed());
    }
    // A packet that is lost is sent again after a second. A few may have waited for what else runs on this machine.
    let late = times.iter().filter(|time| **time > Duration::from_millis(900)).count();
    assert!(late <= 4, "connecting took {times:?}");
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    let lab = Lab::new();
    let node = lab.start();
    let namespaces: Vec<_> = (0..32).map(|_| Netns::new()).collect();
    let paths: Vec<_> = namespaces.iter().map(Netns::path).collect();
    let addresses = node.call(|network| async move {
        let mut tasks = tokio::task::JoinSet::new();
        for (number, path) in paths.into_iter().enumerate() {
            // Each twice, as an impatient agent would.
            for _ in 0..2 {
                let (network, pod, path) =
                    (network.clone(), pod_ref(&format!("many-{number}")), path.clone());
                tasks.spawn(async move { (number, network.attach(&pod, &path).await.unwrap()) });
            }
        }
        tasks.join_all().await
    });
    let distinct: HashSet<_> = addresses.iter().map(|(number, address)| (*number, address.ip)).collect();
    let ips: HashSet<_> = distinct.iter().map(|(_, ip)| *ip).collect();
    assert_eq!((addresses.len(), distinct.len(), ips.len()), (64, 32, 32));
    serve_tcp(&namespaces[7], "0.0.0.0:80", "seven");
    let seven = addresses.iter().find(|(number, _)| *number == 7).unwrap().1.ip;
    assert_eq!(namespaces[31].run(|| tcp((seven, 80).into())).unwrap().name, "seven");
}

#[test]
fn attaching_is_quick() {
    let lab = Lab::new();
    let node = lab.start();
    let mut times = Vec::new();
    let namespaces: Vec<_> = (0..40).map(|_| Netns::new()).collect();
    for (number, netns) in namespaces.iter().enumerate() {
        let (pod, path) = (pod_ref(&format!("quick-{number}")), netns.path());
        let time = node.call(|network| async move {
            let start = Instant::now();
            network.attach(&pod, &path).await.unwrap();
            start.elapsed()
        });
        times.push(time);
    }
    times.sort();
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("attach: median {median:?}, slowest of {} {last:?}", times.len());
    // The quickest: the others may have waited for what else runs on this machine.
    assert!(times[0] < Duration::from_millis(30) * common::slowness(), "{times:?}");
}
