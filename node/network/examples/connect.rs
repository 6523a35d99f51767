//! How long a TCP connection to a service takes to be made: straight to the pod, through a ClusterIP in eBPF, and through an
//! nftables DNAT as a kube-proxy would set it up (a map of a thousand services).
//!
//! `cargo run --release -p carrack-network --example connect [rounds]`, as root; needs nft(8). Everything happens in
//! network namespaces and a cgroup made for it. The ways take turns, so that what else the host does hits all alike. The
//! nftables rules are there only in their turns: their connection tracking slows every packet of the node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark may fail"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carrack_network::Protocol;
use common::{Lab, endpoint, port, service};

const CLUSTER_IP: &str = "10.96.0.100";
/// How often the ways take turns.
const BLOCKS: usize = 26;
const NFT_IP: &str = "10.98.0.1";

fn main() {
    let rounds = std::env::args().nth(1).map_or(5000, |text| text.parse().expect("the number of rounds"));
    let lab = Lab::new();
    let node = lab.start();
    let (client, server) = (node.pod("client"), node.pod("server"));
    let listener = server.netns.run(|| TcpListener::bind("0.0.0.0:8080")).unwrap();
    server.netns.spawn(move || listener.incoming().for_each(drop));
    let mut services: Vec<_> = (0..1000_u32)
        .map(|n| {
            let ip = format!("10.99.{}.{}", n / 250, n % 250 + 1);
            service(
                &format!("s{n}"),
                &ip,
                vec![port(Protocol::Tcp, 80, None, vec![endpoint(server.ip, 8080)])],
            )
        })
        .collect();
    services.push(service(
        "it",
        CLUSTER_IP,
        vec![port(Protocol::Tcp, 80, None, vec![endpoint(server.ip, 8080)])],
    ));
    node.set_services(services);

    let direct = SocketAddr::from((server.ip, 8080));
    let ways = [
        ("direct", direct),
        ("ClusterIP, eBPF", SocketAddr::new(CLUSTER_IP.parse().unwrap(), 80)),
        ("ClusterIP, nftables", SocketAddr::new(NFT_IP.parse().unwrap(), 80)),
    ];
    let mut times = [const { Vec::new() }; 3];
    for block in 0..BLOCKS {
        for (index, (_, to)) in ways.iter().enumerate() {
            if index == 2 {
                nft(&lab, &rules(server.ip));
            }
            let measured = client.netns.run(|| measure(*to, rounds / BLOCKS));
            // The first block warms up.
            if block > 0 {
                times[index].extend(measured);
            }
        }
        nft(&lab, "delete table ip bench");
    }
    println!("{:20} {:>10} {:>10} {:>10} {:>14}", "way", "p50", "p90", "p99", "p50 / direct");
    let median = |times: &[Duration]| times[times.len() / 2];
    times.iter_mut().for_each(|times| times.sort());
    for ((name, _), sorted) in ways.iter().zip(&times) {
        let at =
            |percent: usize| format!("{:.1} µs", sorted[sorted.len() * percent / 100].as_secs_f64() * 1e6);
        let ratio = median(sorted).as_secs_f64() / median(&times[0]).as_secs_f64();
        println!("{name:20} {:>10} {:>10} {:>10} {ratio:>14.3}", at(50), at(90), at(99));
    }
}

fn measure(to: SocketAddr, rounds: usize) -> Vec<Duration> {
    let connect = |_| {
        let start = Instant::now();
        let stream = TcpStream::connect(to).unwrap();
        let time = start.elapsed();
        // Reset, so that no port waits.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        time
    };
    (0..rounds).map(connect).collect()
}

/// Destination NAT in the node's namespace, one service among a thousand.
fn rules(server: std::net::Ipv4Addr) -> String {
    let mut rules = String::from(
        "table ip bench {\n map services {\n type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service\n elements = {\n",
    );
    rules += &format!("{NFT_IP} . tcp . 80 : {server} . 8080");
    for n in 0..1000 {
        rules += &format!(",\n10.98.{}.{} . tcp . 80 : {server} . 8080", n / 250 + 1, n % 250 + 1);
    }
    rules += "\n}\n}\n chain prerouting {\n type nat hook prerouting priority dstnat; policy accept;\n\
              dnat ip to ip daddr . meta l4proto . th dport map @services\n}\n}\n";
    rules
}

fn nft(lab: &Lab, rules: &str) {
    lab.node.run(|| {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("run nft");
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft refused the rules");
    });
}
