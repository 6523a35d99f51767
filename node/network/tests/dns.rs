//! DNS as pods and host processes reach it: through the cluster's DNS address, over UDP and TCP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail"
)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::str::FromStr;

use carrack_network::{DnsConfig, DnsPolicy, Protocol, Service};
use common::net::{PATIENCE, udp_socket};
use common::{DNS, Lab, Netns, endpoint, port, service};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    query.to_vec().unwrap()
}

fn over_udp(query: &[u8]) -> std::io::Result<Message> {
    let server = SocketAddr::from((DNS, 53));
    let socket = udp_socket(server)?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer)?;
    Ok(Message::from_vec(&buffer[..length]).unwrap())
}

fn over_tcp(queries: &[&[u8]]) -> std::io::Result<Vec<Message>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((DNS, 53)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for query in queries {
        stream.write_all(&[&(query.len() as u16).to_be_bytes(), *query].concat())?;
    }
    let read = |_| {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut buffer)?;
        Ok(Message::from_vec(&buffer).unwrap())
    };
    (0..queries.len()).map(read).collect()
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn web(lab_ip: &str) -> Service {
    service("web", lab_ip, vec![port(Protocol::Tcp, 80, None, vec![endpoint([10, 244, 7, 9].into(), 80)])])
}

#[test]
fn pods_and_host_ask_the_cluster_address() {
    let lab = Lab::new();
    let node = lab.start();
    let pod = node.pod("a");
    node.set_services(vec![web("10.96.0.100")]);
    let name = "web.default.svc.cluster.local.";
    for from in [&pod.netns, &lab.node] {
        let answer = from.run(|| over_udp(&query(name, RecordType::A))).unwrap();
        assert_eq!(addresses(&answer), [IpAddr::from([10, 96, 0, 100])]);
        let (a, aaaa) = (query(name, RecordType::A), query(name, RecordType::AAAA));
        let answers = from.run(|| over_tcp(&[&a, &aaaa])).unwrap();
        assert_eq!(addresses(&answers[0]), [IpAddr::from([10, 96, 0, 100])]);
        assert!(
            addresses(&answers[1]).is_empty() && answers[1].metadata.response_code == ResponseCode::NoError
        );
    }
    // Names change with the next table.
    node.set_services(vec![web("10.96.0.101")]);
    let answer = pod.netns.run(|| over_udp(&query(name, RecordType::A))).unwrap();
    assert_eq!(addresses(&answer), [IpAddr::from([10, 96, 0, 101])]);
    node.set_services(vec![]);
    let answer = pod.netns.run(|| over_udp(&query(name, RecordType::A))).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert!(node.network.stats().dns_queries >= 8);
}

#[test]
fn names_are_known_after_a_restart_without_the_api() {
    let lab = Lab::new();
    let node = lab.start();
    let pod = node.pod("a");
    let ask = |netns: &Netns| netns.run(|| over_udp(&query("web.default.svc.cluster.local.", RecordType::A)));
    node.set_services(vec![]);
    node.set_services(vec![web("10.96.0.100")]);
    node.stop();
    assert!(ask(&pod.netns).is_err(), "nobody listens");
    let node = lab.start();
    assert_eq!(addresses(&ask(&pod.netns).unwrap()), [IpAddr::from([10, 96, 0, 100])]);
    node.stop();
    // A file that was spoilt is as good as none: not known is not the same as not there.
    std::fs::write(lab.dir.path().join("state/services.json"), "[{").unwrap();
    let _node = lab.start();
    assert_eq!(ask(&pod.netns).unwrap().metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn a_pods_resolver_is_told() {
    let lab = Lab::new();
    let node = lab.start();
    let text = node.network.resolv_conf("shop", DnsPolicy::ClusterFirst, &DnsConfig::default());
    let search = "search shop.svc.cluster.local svc.cluster.local cluster.local";
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0] == "nameserver 10.96.0.10" && lines[1].starts_with(search), "{text}");
    assert_eq!(lines[2], "options ndots:5");
}
