//! In the end nothing is left, whatever was there; and two clusters on one host do not meet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use carrack_network::{Config, Protocol};
use common::{Lab, Netns, Node, endpoint, port, service};

/// The ids of the programs behind pinned links.
fn pinned_programs(links: &Path) -> BTreeSet<u32> {
    let pins = fs::read_dir(links).unwrap().map(|entry| entry.unwrap().path());
    let link = |pin| aya::programs::links::PinnedLink::from_pin(pin).unwrap();
    pins.map(|pin| aya::programs::links::FdLink::from(link(pin)).info().unwrap().program_id()).collect()
}

fn loaded(ids: &BTreeSet<u32>) -> usize {
    aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| ids.contains(&program.id()))
        .count()
}

fn fill(node: &Node) -> [Netns; 2] {
    node.set_services(vec![service(
        "web",
        "10.96.0.100",
        vec![port(Protocol::Tcp, 80, Some(30_080), vec![endpoint([10, 244, 7, 2].into(), 80)])],
    )]);
    [node.pod("a").netns, node.pod("b").netns]
}

#[test]
fn nothing_is_left() {
    let lab = Lab::new();
    // Host's ports overlap with masqueraded ones, so that a global setting has to change, too.
    lab.node.run(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")).unwrap();
    let before = lab.node.inventory();
    let uplink = || lab.node.run(|| fs::read_to_string("/proc/sys/net/ipv4/conf/up0/forwarding")).unwrap();
    assert_eq!(uplink(), "0\n");
    let node = lab.start();
    let pods = fill(&node);
    let mut programs = pinned_programs(&lab.dir.path().join("run/bpf/v1/links"));
    programs.extend(lab.node.filter_programs("up0"));
    assert_eq!((programs.len(), loaded(&programs)), (10, 10));
    assert!(lab.node.inventory().contains("61000-65535"));
    assert_ne!(lab.node.inventory(), before);
    assert_eq!(uplink(), "1\n");
    node.stop();
    let config = lab.config();
    for _ in 0..2 {
        lab.purge(&config).unwrap();
        assert_eq!(lab.node.inventory(), before);
        assert_eq!(uplink(), "0\n");
    }
    assert!(pods.iter().all(|pod| !pod.ip("-br link").contains("eth0")));
    let files =
        |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(files(&config.run_dir).is_empty() && files(&config.state_dir).is_empty());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*config.run_dir.to_string_lossy()), "{mounts}");
    // The kernel frees programs a little after their last user.
    let start = Instant::now();
    while loaded(&programs) > 0 && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(loaded(&programs), 0);
    // And it can begin anew.
    drop(lab.start());
}

#[test]
fn a_setting_that_somebody_else_changed_meanwhile_stays() {
    let lab = Lab::new();
    let reserved = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    lab.node.run(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")).unwrap();
    lab.node.run(|| fs::write(reserved, "8080")).unwrap();
    let now = || lab.node.run(|| fs::read_to_string(reserved)).unwrap();
    lab.start().stop();
    assert_eq!(now(), "8080,61000-65535\n");
    lab.start().stop();
    lab.purge(&lab.config()).unwrap();
    assert_eq!(now(), "8080\n");
    lab.start().stop();
    lab.node.run(|| fs::write(reserved, "9090,61000-65535")).unwrap();
    lab.purge(&lab.config()).unwrap();
    assert_eq!(now(), "9090,61000-65535\n");
}

#[test]
fn purging_what_never_was_is_fine() {
    let lab = Lab::new();
    let config = Config {
        run_dir: lab.dir.path().join("none"),
        state_dir: lab.dir.path().join("none"),
        ..lab.config()
    };
    lab.purge(&config).unwrap();
}

#[test]
fn a_start_that_fails_says_why() {
    let lab = Lab::new();
    let error = |config: Config| match lab.try_start(config) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    let no_uplink = error(Config { uplink: Some("nope0".into()), ..lab.config() });
    assert!(no_uplink.contains("nope0"), "{no_uplink}");
    let no_cgroup = error(Config { service_cgroup: "/nowhere".into(), ..lab.config() });
    assert!(no_cgroup.contains("/nowhere"), "{no_cgroup}");
    let not_a_cgroup = error(Config { service_cgroup: "/tmp".into(), ..lab.config() });
    assert!(not_a_cgroup.contains("connect4"), "{not_a_cgroup}");
    let small = error(Config { pod_cidr: "10.244.7.0/30".parse().unwrap(), ..lab.config() });
    assert!(small.contains("/30"), "{small}");
    let mtu = error(Config { mtu: Some(100), ..lab.config() });
    assert!(mtu.contains("100"), "{mtu}");
    let squatter = lab.node.run(|| std::net::UdpSocket::bind("0.0.0.0:53").unwrap());
    let dns = error(lab.config());
    assert!(dns.contains("169.254.20.10:53"), "{dns}");
    drop(squatter);
}

#[test]
fn two_clusters_on_one_host_do_not_meet() {
    let lab = Lab::new();
    let one = lab.start();
    let pods = fill(&one);
    // The second has the same addresses, in a namespace and a directory of its own; its cgroup is below the first's.
    let namespace = Netns::new();
    namespace.ip("link add up0 type veth peer name x");
    namespace.ip("addr add 192.0.2.1/24 dev up0");
    namespace.ip("link set x up");
    namespace.ip("link set up0 up");
    namespace.wait_until_up("up0");
    let inner = lab.cgroup.join("pods/inner");
    fs::create_dir(&inner).unwrap();
    let config = Config {
        run_dir: lab.dir.path().join("run2"),
        state_dir: lab.dir.path().join("state2"),
        service_cgroup: inner.clone(),
        ..lab.config()
    };
    let before = namespace.inventory();
    let two = common::start_in(&namespace, config.clone()).unwrap();
    let others = fill(&two);
    let of_one = lab.node.inventory();
    two.stop();
    namespace.run(|| carrack_network::Network::purge(&config)).unwrap();
    assert_eq!(namespace.inventory(), before);
    assert_eq!(lab.node.inventory(), of_one);
    assert!(others.iter().all(|pod| !pod.ip("-br link").contains("eth0")));
    assert!(pods.iter().all(|pod| pod.ip("-br link").contains("eth0")));
    assert_eq!(one.network.stats().frontends, 2 + 2);
    fs::remove_dir(&inner).unwrap();
}
