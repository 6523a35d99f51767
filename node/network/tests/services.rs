//! Services at the socket: what a client gets, what it believes, and that nobody misses anything while things change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail"
)]

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use carrack_network::{Protocol, Service};
use common::net::{
    address, errno, mapped, serve_tcp, serve_udp, tcp, udp, udp_connected, udp_socket, udp_with,
};
use common::{Lab, NODE, Netns, Node, Pod, endpoint, port, service};

const VIP: &str = "10.96.0.100";

/// Two pods that serve on TCP 8080 and UDP 5353, and one that does not.
struct Scene {
    client: Pod,
    servers: [Pod; 2],
}

impl Scene {
    fn new(node: &Node) -> Self {
        let scene = Scene { client: node.pod("client"), servers: [node.pod("one"), node.pod("two")] };
        for (pod, name) in scene.servers.iter().zip(["one", "two"]) {
            serve_tcp(&pod.netns, "0.0.0.0:8080", name);
            serve_udp(&pod.netns, "0.0.0.0:5353", name);
        }
        scene
    }

    fn service(&self) -> Service {
        self.service_of(&[0, 1])
    }

    /// TCP 80 and UDP 53, also on node ports, led to some of the servers.
    fn service_of(&self, which: &[usize]) -> Service {
        let to =
            |number| which.iter().map(|index| endpoint(self.servers[*index].ip, number)).collect::<Vec<_>>();
        let tcp = port(Protocol::Tcp, 80, Some(30_080), to(8080));
        service("web", VIP, vec![tcp, port(Protocol::Udp, 53, Some(30_053), to(5353))])
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((VIP.parse::<Ipv4Addr>().unwrap(), port))
}

/// How often each server answered.
fn spread(netns: &Netns, times: usize, ask: impl Fn() -> String + Send + Sync) -> BTreeMap<String, usize> {
    netns.run(|| {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(ask()).or_default() += 1;
        }
        counts
    })
}

#[test]
fn every_kind_of_socket_reaches_a_service_and_believes_it() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    node.set_services(vec![scene.service()]);
    let client = scene.client.ip.into();
    for from in [&scene.client.netns, &lab.node] {
        let seen = if std::ptr::eq(from, &lab.node) { NODE.into() } else { client };
        for to in [at(80), mapped(at(80))] {
            let reply = from.run(|| tcp(to)).unwrap();
            assert_eq!((reply.peer, reply.saw.ip()), (to, seen));
        }
        for to in [at(53), mapped(at(53))] {
            let reply = from.run(|| udp(to)).unwrap();
            assert_eq!((reply.peer, reply.saw.ip()), (to, seen), "unconnected");
            let reply = from.run(|| udp_connected(to)).unwrap();
            assert_eq!((reply.peer, reply.saw.ip()), (to, seen), "connected");
        }
    }
    // A back end that is its own client.
    let own =
        scene.servers[0].netns.run(|| (0..20).map(|_| tcp(at(80)).unwrap().saw.ip()).collect::<Vec<_>>());
    assert!(own.iter().all(|ip| *ip == scene.servers[0].ip), "{own:?}");
    // TCP connections and UDP sockets are spread; one UDP socket keeps its server.
    let counts = spread(&scene.client.netns, 200, || tcp(at(80)).unwrap().name);
    assert!(counts.len() == 2 && counts.values().all(|count| (60..=140).contains(count)), "{counts:?}");
    let counts = spread(&scene.client.netns, 100, || udp(at(53)).unwrap().name);
    assert!(counts.len() == 2 && counts.values().all(|count| (20..=80).contains(count)), "{counts:?}");
    let socket = scene.client.netns.run(|| udp_socket(at(53))).unwrap();
    let counts = spread(&scene.client.netns, 50, || udp_with(&socket, at(53), 1).unwrap().name);
    assert_eq!(counts.len(), 1, "{counts:?}");
    // The same socket also speaks to others, whose addresses stay what they are.
    let other = usize::from(counts.contains_key("one"));
    let plain = SocketAddr::from((scene.servers[other].ip, 5353));
    assert_eq!(scene.client.netns.run(|| udp_with(&socket, plain, 1)).unwrap().peer, plain);
    // Outside of the cgroup there are no services.
    assert!(lab.outside_of_cgroup(|| lab.node.run(|| tcp(at(80)))).is_err());
}

#[test]
fn node_ports_answer_on_the_nodes_addresses() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    node.set_services(vec![scene.service()]);
    let reached = |from: &Netns, to: &str| from.run(|| tcp(address(to))).is_ok();
    let node_port = format!("{NODE}:30080");
    assert!(reached(&lab.node, &node_port) && reached(&scene.client.netns, &node_port));
    assert!(reached(&lab.node, "127.0.0.1:30080") && reached(&lab.node, "[::ffff:127.0.0.1]:30080"));
    assert!(!reached(&scene.client.netns, "127.0.0.1:30080"), "a pod's loopback is its own");
    assert!(!reached(&lab.node, &format!("{NODE}:80")), "the service's port is not the node's");
    assert!(!reached(&lab.node, "192.0.2.9:30080"), "nor is another host's");
    let reply = scene.client.netns.run(|| udp(SocketAddr::from((NODE, 30_053)))).unwrap();
    assert_eq!(reply.peer, SocketAddr::from((NODE, 30_053)));
}

#[test]
fn a_service_without_back_ends_refuses() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    node.set_services(vec![scene.service_of(&[])]);
    let before = node.counter("service_no_backend");
    scene.client.netns.run(|| {
        for to in [at(80), mapped(at(80))] {
            assert_eq!(errno(tcp(to)), Some(libc::ECONNREFUSED));
        }
        for to in [at(53), mapped(at(53))] {
            assert_eq!(errno(udp(to)), Some(libc::ECONNREFUSED));
            assert_eq!(errno(udp_connected(to)), Some(libc::ECONNREFUSED));
        }
    });
    assert_eq!(node.counter("service_no_backend") - before, 6);
    // It comes back with its back ends, and is gone with its object.
    node.set_services(vec![scene.service()]);
    assert!(scene.client.netns.run(|| tcp(at(80))).is_ok());
    node.set_services(vec![]);
    assert_ne!(errno(scene.client.netns.run(|| tcp(at(80)))), None);
    let stats = node.network.stats();
    assert_eq!((stats.frontends, stats.backends), (2, 2), "DNS alone is left");
}

#[test]
fn clients_keep_their_back_end() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    let sticky = |which: &[usize], seconds| {
        node.set_services(vec![Service {
            session_affinity_seconds: Some(seconds),
            ..scene.service_of(which)
        }]);
    };
    let ask = || tcp(at(80)).unwrap().name;
    sticky(&[0, 1], 2);
    let counts = spread(&scene.client.netns, 30, ask);
    assert_eq!(counts.len(), 1, "{counts:?}");
    // Every pod is a client of its own: of 16 pods, not all have the same.
    let pods: Vec<_> = (0..16).map(|n| node.pod(&format!("other-{n}"))).collect();
    let firsts: std::collections::BTreeSet<_> = pods.iter().map(|pod| pod.netns.run(ask)).collect();
    assert_eq!(firsts.len(), 2);
    // A back end that goes loses its clients; they keep the next one.
    let kept = counts.keys().next().unwrap() == "one";
    sticky(&[usize::from(kept)], 2);
    let other = if kept { "two" } else { "one" };
    assert_eq!(scene.client.netns.run(ask), other);
    sticky(&[0, 1], 2);
    assert_eq!(spread(&scene.client.netns, 30, ask), BTreeMap::from([(other.to_owned(), 30)]));
    // After two seconds of silence the client is a new one: in 40 such pauses both come up.
    sticky(&[0, 1], 1);
    let mut seen = std::collections::BTreeSet::new();
    let start = Instant::now();
    while seen.len() < 2 && start.elapsed() < Duration::from_secs(40) {
        seen.insert(scene.client.netns.run(ask));
        std::thread::sleep(Duration::from_millis(1050));
    }
    assert_eq!(seen.len(), 2);
}

/// What clients that never stop have done.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    connects: AtomicU64,
    sends: AtomicU64,
    failures: AtomicU64,
}

/// Sends datagrams and connects in a loop, from a pod, until told to stop.
fn load(netns: &Netns) -> (Arc<Load>, Vec<std::thread::JoinHandle<()>>) {
    let load = Arc::new(Load::default());
    let fail = |load: &Load, what: &str, error: std::io::Error| {
        if load.failures.fetch_add(1, Relaxed) < 5 {
            eprintln!("{what}: {error}");
        }
    };
    let sender = load.clone();
    let sends = netns.spawn(move || {
        let socket = udp_socket(at(53)).unwrap();
        while !sender.stop.load(Relaxed) {
            match socket.send_to(b"x", at(53)) {
                Ok(_) => drop(sender.sends.fetch_add(1, Relaxed)),
                Err(error) => fail(&sender, "send", error),
            }
        }
    });
    let connector = load.clone();
    let connects = netns.spawn(move || {
        while !connector.stop.load(Relaxed) {
            match tcp(at(80)) {
                Ok(_) => drop(connector.connects.fetch_add(1, Relaxed)),
                Err(error) => fail(&connector, "connect", error),
            }
        }
    });
    (load, vec![sends, connects])
}

/// Runs `change` again and again under load; every attempt has to be translated, none may fail.
fn nobody_misses(
    scene: &Scene,
    counter: impl Fn(&str) -> u64,
    mut change: impl FnMut(usize),
    changes: usize,
) {
    let before = ["service_tcp_connects", "service_udp_sends"].map(&counter);
    let (load, threads) = load(&scene.client.netns);
    let start = Instant::now();
    (0..changes).for_each(&mut change);
    while start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(10));
    }
    load.stop.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let done = [load.connects.load(Relaxed), load.sends.load(Relaxed)];
    let after = ["service_tcp_connects", "service_udp_sends"].map(&counter);
    println!("{changes} changes in {:?}: {} connects, {} sends", start.elapsed(), done[0], done[1]);
    assert_eq!(load.failures.load(Relaxed), 0);
    assert_eq!([after[0] - before[0], after[1] - before[1]], done, "translated, attempted");
    assert!(done[0] > 100 && done[1] > 10_000, "too little load to mean anything: {done:?}");
    for never in
        ["service_slot_missing", "service_backend_missing", "service_reverse_full", "service_no_backend"]
    {
        assert_eq!(counter(never), 0, "{never}");
    }
}

#[test]
fn programs_are_replaced_under_load() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    node.set_services(vec![scene.service()]);
    // A whole new process each time. The old one's view of the maps serves to count.
    let counted = node.network.clone();
    let mut current = Some(node);
    let counter = |name: &str| {
        counted
            .stats()
            .counters
            .iter()
            .find(|(counter, _)| *counter == name)
            .map(|(_, count)| *count)
            .unwrap()
    };
    let replace = |_| {
        drop(current.take());
        current = Some(lab.start());
    };
    nobody_misses(&scene, counter, replace, 20 / common::slowness().min(4) as usize);
}

#[test]
fn back_ends_change_under_load() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    node.set_services(vec![scene.service()]);
    let sets: [&[usize]; 4] = [&[0], &[0, 1], &[1], &[1, 0]];
    let change = |n: usize| node.set_services(vec![scene.service_of(sets[n % sets.len()])]);
    // An emulated processor would take minutes for all.
    let changes = 2000 / common::slowness().min(4) as usize;
    nobody_misses(&scene, |name| node.counter(name), change, changes);
    // What was superfluous is deleted.
    std::thread::sleep(Duration::from_millis(1500));
    let slots = lab.dir.path().join("run/bpf/v1/maps/SLOTS");
    let map = aya::maps::Map::HashMap(aya::maps::MapData::from_pin(slots).unwrap());
    let map: aya::maps::HashMap<_, carrack_ebpf_abi::SlotKey, u32> = map.try_into().unwrap();
    let stats = node.network.stats();
    assert_eq!((map.keys().count(), stats.backends), (stats.backends, 2 * 2 + 2));
}

#[test]
fn services_go_on_without_a_process_and_are_taken_over() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    node.set_services(vec![scene.service()]);
    node.stop();
    assert!(scene.client.netns.run(|| tcp(at(80))).is_ok());
    let node = lab.start();
    assert!(scene.client.netns.run(|| tcp(at(80))).is_ok(), "nothing is flushed at start");
    assert_eq!(node.network.stats().frontends, 4 + 2);
    node.set_services(vec![scene.service_of(&[1])]);
    assert_eq!(
        spread(&scene.client.netns, 20, || tcp(at(80)).unwrap().name).keys().collect::<Vec<_>>(),
        ["two"]
    );
    // The cgroup is made anew under the same name: the programs are attached to the new one.
    node.stop();
    let former = lab.cgroup.join("pods");
    lab.outside_of_cgroup(|| {
        std::fs::remove_dir(&former).unwrap();
        std::fs::remove_dir(&lab.cgroup).unwrap();
        std::fs::create_dir_all(&former).unwrap();
    });
    assert!(scene.client.netns.run(|| tcp(at(80))).is_err());
    let _node = lab.start();
    assert!(scene.client.netns.run(|| tcp(at(80))).is_ok());
}

#[test]
fn thousands_of_services_cost_what_changes() {
    let lab = Lab::new();
    let node = lab.start();
    let scene = Scene::new(&node);
    let ip = |n: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 97, 0, 0)) + n).to_string();
    let mut services: Vec<_> = (0..5000)
        .map(|n| {
            let endpoints = (1..=4).map(|e| endpoint(Ipv4Addr::new(10, 244, 7, e), 8080)).collect();
            service(&format!("s{n}"), &ip(n), vec![port(Protocol::Tcp, 80, None, endpoints)])
        })
        .collect();
    services.push(scene.service());
    let time = |services: &[Service]| {
        let start = Instant::now();
        node.set_services(services.to_vec());
        start.elapsed()
    };
    let first = time(&services);
    let same = time(&services);
    services[2500].ports[0].endpoints.pop();
    let one = time(&services);
    println!("5000 services of 4: first {first:?}, unchanged {same:?}, one changed {one:?}");
    assert!(scene.client.netns.run(|| tcp(at(80))).is_ok());
    assert_eq!(node.network.stats().backends, 5000 * 4 - 1 + 4 + 2);
}
