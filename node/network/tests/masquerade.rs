//! Masquerade between namespaces: pods talk to hosts that know nothing of pods.
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
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::net::{PATIENCE, greeting, serve_tcp, serve_udp, tcp, tcp_echo, udp};
use common::{Lab, NODE, Netns, OUTSIDE, Pod};
use nix::sys::socket::{setsockopt, sockopt};

const BEYOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn outside(port: u16) -> SocketAddr {
    (OUTSIDE, port).into()
}

fn serve(lab: &Lab) {
    serve_tcp(&lab.outside, "0.0.0.0:8080", "outside");
    serve_udp(&lab.outside, "0.0.0.0:5353", "outside");
}

/// A namespace behind the outside host, over a narrow link.
fn beyond(lab: &Lab) -> Netns {
    let beyond = Netns::new();
    lab.outside.ip(&format!("link add far type veth peer name eth0 netns {}", beyond.path().display()));
    lab.outside.ip("addr add 198.51.100.1/24 dev far");
    lab.outside.ip("link set far up mtu 1300");
    beyond.ip(&format!("addr add {BEYOND}/24 dev eth0"));
    beyond.ip("link set eth0 up mtu 1300");
    beyond.ip("route add default via 198.51.100.1");
    lab.outside.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    lab.node.ip(&format!("route add 198.51.100.0/24 via {OUTSIDE}"));
    beyond
}

/// A UDP socket in a pod that is told of ICMP errors.
fn connected(pod: &Pod, to: SocketAddr) -> UdpSocket {
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        setsockopt(&socket.as_fd(), sockopt::Ipv4RecvErr, &true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        socket
    })
}

fn error_of(socket: &UdpSocket) -> Option<i32> {
    socket.recv(&mut [0; 64]).err().and_then(|error| error.raw_os_error())
}

#[test]
fn pods_speak_in_the_nodes_name() {
    let lab = Lab::new();
    let node = lab.start();
    let (a, b) = (node.pod("a"), node.pod("b"));
    serve(&lab);
    let in_range = |seen: SocketAddr| seen.ip() == NODE && seen.port() >= 61_000;
    for pod in [&a, &b] {
        assert!(in_range(pod.netns.run(|| tcp(outside(8080))).unwrap().saw));
        assert!(in_range(pod.netns.run(|| udp(outside(5353))).unwrap().saw));
    }
    // Two pods from the same port to the same server at the same time.
    let from_40000 = |pod: &Pod| {
        pod.netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:40000").unwrap();
            common::net::udp_with(&socket, outside(5353), 3).unwrap().saw
        })
    };
    let seen = BTreeSet::from([from_40000(&a), from_40000(&b), from_40000(&a)]);
    assert_eq!(seen.len(), 2, "{seen:?}");
    // Segments put together and checksums left to the card, both ways.
    assert!(a.netns.run(|| tcp_echo(outside(8080), 8 << 20)).unwrap());
    // The node's own connections are as they were, and so are pods among themselves.
    let own = lab.node.run(|| tcp(outside(8080))).unwrap().saw;
    assert!(own.ip() == NODE && own.port() < 61_000, "{own}");
    serve_tcp(&b.netns, "0.0.0.0:80", "b");
    assert_eq!(a.netns.run(|| tcp((b.ip, 80).into())).unwrap().saw.ip(), a.ip);
    assert!(node.counter("masquerade_packets_out") > 0 && node.counter("masquerade_packets_in") > 0);
    assert_eq!(
        node.network
            .stats()
            .counters
            .iter()
            .filter(|(name, _)| name.starts_with("dropped"))
            .map(|(_, n)| n)
            .sum::<u64>(),
        0
    );
}

#[test]
fn datagrams_in_fragments_go_both_ways() {
    let lab = Lab::new();
    let node = lab.start();
    let pod = node.pod("a");
    let server = lab.outside.run(|| UdpSocket::bind((OUTSIDE, 7)).unwrap());
    lab.outside.spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, peer)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], peer);
        }
    });
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for length in [100, 4000, 20_000, 60_000] {
            let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            socket.send_to(&sent, outside(7)).unwrap();
            let mut received = vec![0; 65_536];
            let length = socket.recv(&mut received).unwrap();
            assert!(received[..length] == sent, "{length} of {} bytes", sent.len());
        }
    });
    assert!(node.counter("masquerade_fragments") >= 4);
}

#[test]
fn icmp_errors_find_the_pod() {
    let lab = Lab::new();
    let node = lab.start();
    let (pod, other) = (node.pod("a"), node.pod("b"));
    let beyond = beyond(&lab);
    serve_udp(&beyond, "0.0.0.0:5353", "beyond");
    assert_eq!(pod.netns.run(|| udp((BEYOND, 5353).into())).unwrap().saw.ip(), NODE);
    // Port unreachable, from the server itself; the other pod's socket hears nothing of it.
    let bystander = connected(&other, outside(9));
    bystander.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let socket = connected(&pod, outside(9));
    socket.send(b"x").unwrap();
    assert_eq!(error_of(&socket), Some(libc::ECONNREFUSED));
    assert_eq!(error_of(&bystander), Some(libc::EAGAIN));
    // Time exceeded, from a router on the way.
    let socket = connected(&pod, (BEYOND, 5353).into());
    socket.set_ttl(2).unwrap();
    socket.send(b"x").unwrap();
    assert_eq!(error_of(&socket), Some(libc::EHOSTUNREACH));
    // Fragmentation needed: the pod learns what fits and says it in smaller pieces.
    let socket = connected(&pod, (BEYOND, 5353).into());
    socket.send(&[0; 1400]).unwrap();
    assert_eq!(error_of(&socket), Some(libc::EMSGSIZE));
    let route = pod.netns.ip(&format!("route get {BEYOND}"));
    assert!(route.contains("mtu 1300"), "{route}");
    socket.send(&[0; 1400]).unwrap();
    assert!(socket.recv(&mut [0; 64]).is_ok());
    // TCP learns it, too.
    serve_tcp(&beyond, "0.0.0.0:8080", "beyond");
    assert!(other.netns.run(|| tcp_echo((BEYOND, 8080).into(), 200_000)).unwrap());
    assert!(node.counter("masquerade_icmp_errors_in") >= 3);
    // The pod's own: it has closed the port before the answer comes.
    let server = lab.outside.run(|| UdpSocket::bind((OUTSIDE, 5555)).unwrap());
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = connected(&pod, outside(5555));
    socket.send(b"x").unwrap();
    let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
    drop(socket);
    server.connect(peer).unwrap();
    server.send(b"late").unwrap();
    assert_eq!(error_of(&server), Some(libc::ECONNREFUSED));
    assert_eq!(node.counter("masquerade_icmp_errors_out"), 1);
}

#[test]
fn echoes_come_back_to_their_pod() {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    let lab = Lab::new();
    let node = lab.start();
    let pods = [node.pod("a"), node.pod("b")];
    for (number, pod) in pods.iter().enumerate() {
        pod.netns.run(|| {
            fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
            let socket = socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)).unwrap();
            // The standard library has the calls, whatever the protocol.
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(outside(0)).unwrap();
            for sequence in 0..3 {
                let ask = [8, 0, 0, 0, 0, 0, 0, sequence, number as u8];
                socket.send(&ask).unwrap();
                let mut reply = [0; 64];
                let length = socket.recv(&mut reply).unwrap();
                assert_eq!((reply[0], reply[7], reply[8], length), (0, sequence, number as u8, 9));
            }
        });
    }
}

#[test]
fn connections_from_outside_to_pods_stay_what_they_are() {
    let lab = Lab::new();
    let node = lab.start();
    let pod = node.pod("a");
    serve_tcp(&pod.netns, "0.0.0.0:80", "a");
    serve_udp(&pod.netns, "0.0.0.0:53", "a");
    lab.outside.ip(&format!("route add 10.244.7.0/24 via {NODE}"));
    let reply = lab.outside.run(|| tcp((pod.ip, 80).into())).unwrap();
    assert_eq!((reply.name.as_str(), reply.saw.ip()), ("a", OUTSIDE.into()));
    let reply = lab.outside.run(|| udp((pod.ip, 53).into())).unwrap();
    assert_eq!(reply.peer, SocketAddr::from((pod.ip, 53)));
}

#[test]
fn programs_are_replaced_while_packets_pass() {
    let lab = Lab::new();
    let mut node = Some(lab.start());
    let pod = node.as_ref().unwrap().pod("a");
    serve(&lab);
    let stream = pod.netns.run(|| TcpStream::connect(outside(8080)).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let asker = pod.netns.spawn(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut ports, mut asked) = (BTreeSet::new(), 0);
        while !stopped.load(Relaxed) {
            let reply = common::net::udp_with(&socket, outside(5353), 3);
            ports.insert(reply.expect("an answer to every question").saw);
            asked += 1;
        }
        (ports, asked)
    });
    for _ in 0..20 {
        drop(node.take());
        node = Some(lab.start());
    }
    stop.store(true, Relaxed);
    let (seen, asked) = asker.join().unwrap();
    println!("20 replacements, {asked} questions");
    assert!(asked > 1000, "{asked}");
    assert_eq!(seen.len(), 1, "the flow kept its port: {seen:?}");
    assert_eq!(greeting(stream).unwrap().name, "outside", "the connection lived on");
}

#[test]
fn without_an_uplink_nothing_is_masqueraded() {
    let lab = Lab::new();
    let config = carrack_network::Config { uplink: None, ..lab.config() };
    let node = lab.try_start(config.clone()).unwrap();
    let pod = node.pod("a");
    let forwarding =
        || lab.node.run(|| fs::read_to_string("/proc/sys/net/ipv4/conf/up0/forwarding")).unwrap();
    assert_eq!(forwarding(), "0\n");
    let sink = lab.outside.run(|| TcpListener::bind((OUTSIDE, 8080)).unwrap());
    let attempt = pod.netns.run(|| TcpStream::connect_timeout(&outside(8080), Duration::from_millis(300)));
    assert!(attempt.is_err());
    node.stop();
    // With an uplink from the next start on, and without it again.
    let with = lab.start();
    assert_eq!(forwarding(), "1\n");
    let mut stream = pod.netns.run(|| TcpStream::connect_timeout(&outside(8080), PATIENCE)).unwrap();
    stream.write_all(b"x").unwrap();
    assert_eq!(sink.accept().unwrap().1.ip(), NODE);
    with.stop();
    let without = lab.try_start(config).unwrap();
    assert!(!lab.dir.path().join("run/bpf/v1/links/masquerade_out").exists());
    assert!(lab.node.filter_programs("up0").is_empty());
    drop(without);
}
