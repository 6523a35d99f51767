//! A truth table of names, and what becomes of messages that are not simple questions.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use tokio::net::UdpSocket;

use super::zone::Zone;
use super::{Resolver, message};
use crate::types::{Endpoint, Protocol, Service, ServicePort};

const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

fn endpoint(ip: &str, port: u16, hostname: Option<&str>, ready: bool) -> Endpoint {
    Endpoint {
        address: ip.parse().unwrap(),
        port,
        ready,
        serving: ready,
        terminating: false,
        hostname: hostname.map(str::to_owned),
        node: None,
        local: true,
    }
}

fn service(namespace: &str, name: &str, ips: &[&str], ports: Vec<ServicePort>) -> Service {
    Service {
        namespace: namespace.into(),
        name: name.into(),
        cluster_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        headless: ips.is_empty(),
        external_name: None,
        session_affinity_seconds: None,
        publish_not_ready: false,
        ports,
    }
}

fn port(name: Option<&str>, protocol: Protocol, port: u16, endpoints: Vec<Endpoint>) -> ServicePort {
    ServicePort { name: name.map(str::to_owned), protocol, port, node_port: None, endpoints }
}

/// One of each sort.
fn services() -> Vec<Service> {
    let web = vec![endpoint("10.244.0.2", 8080, None, true), endpoint("10.244.0.3", 8080, None, false)];
    let db = |number| {
        vec![
            endpoint("10.244.0.4", number, Some("db-0"), true),
            endpoint("10.244.0.5", number, Some("db-1"), true),
            endpoint("10.244.0.6", number, Some("db-2"), false),
        ]
    };
    let external = |name: &str, target: &str| Service {
        external_name: Some(target.into()),
        headless: false,
        ..service("shop", name, &[], vec![])
    };
    vec![
        service(
            "shop",
            "web",
            &["10.96.1.1", "fd00:96::1"],
            vec![port(Some("http"), Protocol::Tcp, 80, web.clone()), port(None, Protocol::Udp, 81, web)],
        ),
        service("shop", "db", &[], vec![port(Some("sql"), Protocol::Tcp, 5432, db(5432))]),
        Service {
            publish_not_ready: true,
            ..service("shop", "peers", &[], vec![port(None, Protocol::Tcp, 1, db(1))])
        },
        service("shop", "bare", &[], vec![port(None, Protocol::Tcp, 0, db(0))]),
        service("shop", "empty", &[], vec![port(Some("x"), Protocol::Tcp, 1, vec![])]),
        external("alias", "web.shop.svc.cluster.local"),
        external("loop", "loop.shop.svc.cluster.local"),
        external("away", "example.com."),
        service("kube-system", "kube-dns", &["10.96.0.10"], vec![]),
    ]
}

fn resolver(upstream: &[std::net::SocketAddr]) -> Resolver {
    let resolver = Resolver::new("Cluster.Local.", upstream, DNS);
    resolver.set_zone(Zone::new("Cluster.Local.", DNS, "10.244.0.0/24".parse().unwrap(), &services()));
    resolver
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 4711;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(message::name(name).unwrap(), kind));
    query
}

async fn ask(resolver: &Resolver, query: &Message, udp: bool) -> Message {
    let bytes = resolver.respond(&query.to_vec().unwrap(), udp).await.unwrap();
    let response = Message::from_vec(&bytes).unwrap();
    assert_eq!(
        (response.metadata.id, response.metadata.message_type),
        (query.metadata.id, MessageType::Response)
    );
    assert_eq!(response.queries, query.queries);
    response
}

/// `CODE: record, record | additional`, records sorted, each `[owner] data` with the owner left out where it is the name asked.
fn text(response: &Message) -> String {
    let asked = &response.queries[0].name;
    let list = |records: &[Record]| {
        let one = |record: &Record| {
            let owner = if record.name == *asked { String::new() } else { format!("{} ", record.name) };
            format!("{owner}{} {}", record.record_type(), record.data)
        };
        let mut lines: Vec<_> = records.iter().map(one).collect();
        lines.sort();
        lines.join(", ")
    };
    let additional = if response.additionals.is_empty() {
        String::new()
    } else {
        format!(" | {}", list(&response.additionals))
    };
    format!("{}: {}{additional}", response.metadata.response_code, list(&response.answers))
}

const NO_ERROR: &str = "No Error: ";
const NO_NAME: &str = "Non-Existent Domain: ";

#[tokio::test]
async fn truth_table() {
    use RecordType::{A, AAAA, ANY, CNAME, MX, NS, PTR, SRV, TXT};
    let table = [
        // Cluster IPs, of either family, however the name is spelled.
        ("web.shop.svc.cluster.local", A, "No Error: A 10.96.1.1"),
        ("WEB.Shop.svc.CLUSTER.local", A, "No Error: A 10.96.1.1"),
        ("web.shop.svc.cluster.local", AAAA, "No Error: AAAA fd00:96::1"),
        ("kube-dns.kube-system.svc.cluster.local", A, "No Error: A 10.96.0.10"),
        // The name exists, the kind does not.
        ("kube-dns.kube-system.svc.cluster.local", AAAA, NO_ERROR),
        ("web.shop.svc.cluster.local", MX, NO_ERROR),
        ("web.shop.svc.cluster.local", TXT, NO_ERROR),
        ("cluster.local", A, NO_ERROR),
        ("svc.cluster.local", A, NO_ERROR),
        ("pod.cluster.local", A, NO_ERROR),
        ("shop.svc.cluster.local", A, NO_ERROR),
        ("shop.pod.cluster.local", A, NO_ERROR),
        ("_tcp.web.shop.svc.cluster.local", A, NO_ERROR),
        ("_http._tcp.web.shop.svc.cluster.local", A, NO_ERROR),
        ("empty.shop.svc.cluster.local", A, NO_ERROR),
        // The name does not exist.
        ("none.shop.svc.cluster.local", A, NO_NAME),
        ("web.none.svc.cluster.local", A, NO_NAME),
        ("none.svc.cluster.local", A, NO_NAME),
        ("web.shop.cluster.local", A, NO_NAME),
        ("none.web.shop.svc.cluster.local", A, NO_NAME),
        ("_none._tcp.web.shop.svc.cluster.local", SRV, NO_NAME),
        ("_http._udp.web.shop.svc.cluster.local", SRV, NO_NAME),
        ("_._udp.web.shop.svc.cluster.local", SRV, NO_NAME),
        ("_sctp.web.shop.svc.cluster.local", SRV, NO_NAME),
        ("a.b.c.web.shop.svc.cluster.local", A, NO_NAME),
        ("db-2.db.shop.svc.cluster.local", A, NO_NAME),
        ("www.example.com.shop.svc.cluster.local", A, NO_NAME),
        // Headless: usable endpoints, by hostname too; without a hostname by address.
        ("db.shop.svc.cluster.local", A, "No Error: A 10.244.0.4, A 10.244.0.5"),
        ("db-1.db.shop.svc.cluster.local", A, "No Error: A 10.244.0.5"),
        ("db-1.db.shop.svc.cluster.local", AAAA, NO_ERROR),
        ("peers.shop.svc.cluster.local", A, "No Error: A 10.244.0.4, A 10.244.0.5, A 10.244.0.6"),
        ("bare.shop.svc.cluster.local", A, "No Error: A 10.244.0.4, A 10.244.0.5"),
        ("bare.shop.svc.cluster.local", SRV, NO_ERROR),
        ("10-244-0-2.web.shop.svc.cluster.local", A, "No Error: A 10.244.0.2"),
        ("10-244-0-3.web.shop.svc.cluster.local", A, NO_NAME),
        // SRV.
        (
            "_http._tcp.web.shop.svc.cluster.local",
            SRV,
            "No Error: SRV 0 100 80 web.shop.svc.cluster.local. | \
             web.shop.svc.cluster.local. A 10.96.1.1, web.shop.svc.cluster.local. AAAA fd00:96::1",
        ),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            SRV,
            "No Error: SRV 0 100 5432 db-0.db.shop.svc.cluster.local., SRV 0 100 5432 db-1.db.shop.svc.cluster.local. | \
             db-0.db.shop.svc.cluster.local. A 10.244.0.4, db-1.db.shop.svc.cluster.local. A 10.244.0.5",
        ),
        (
            "web.shop.svc.cluster.local",
            SRV,
            "No Error: SRV 0 100 80 web.shop.svc.cluster.local., SRV 0 100 81 web.shop.svc.cluster.local. | \
             A 10.96.1.1, AAAA fd00:96::1",
        ),
        // Aliases inside the cluster are followed; around in a circle they are not.
        (
            "alias.shop.svc.cluster.local",
            A,
            "No Error: CNAME web.shop.svc.cluster.local., web.shop.svc.cluster.local. A 10.96.1.1",
        ),
        ("alias.shop.svc.cluster.local", CNAME, "No Error: CNAME web.shop.svc.cluster.local."),
        ("alias.shop.svc.cluster.local", ANY, "No Error: CNAME web.shop.svc.cluster.local."),
        ("x.alias.shop.svc.cluster.local", A, NO_NAME),
        ("loop.shop.svc.cluster.local", A, "Server Failure: "),
        // Pods.
        ("10-244-0-77.shop.pod.cluster.local", A, "No Error: A 10.244.0.77"),
        ("10-244-0-77.shop.pod.cluster.local", AAAA, NO_ERROR),
        ("10-244-0.shop.pod.cluster.local", A, NO_NAME),
        ("x.10-244-0-77.shop.pod.cluster.local", A, NO_NAME),
        // Reverse names.
        ("1.1.96.10.in-addr.arpa", PTR, "No Error: PTR web.shop.svc.cluster.local."),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa",
            PTR,
            "No Error: PTR web.shop.svc.cluster.local.",
        ),
        ("2.0.244.10.in-addr.arpa", PTR, "No Error: PTR 10-244-0-2.web.shop.svc.cluster.local."),
        ("99.0.244.10.in-addr.arpa", PTR, NO_NAME),
        ("1.1.96.10.in-addr.arpa", A, NO_ERROR),
        // The zone itself.
        ("dns-version.cluster.local", TXT, "No Error: TXT 1.1.0"),
        ("ns.dns.cluster.local", A, "No Error: A 10.96.0.10"),
        ("cluster.local", NS, "No Error: NS ns.dns.cluster.local."),
        // Elsewhere, with nobody to ask.
        ("example.com", A, "Query Refused: "),
        ("1.2.0.192.in-addr.arpa", PTR, "Query Refused: "),
        ("notcluster.local", A, "Query Refused: "),
    ];
    let resolver = resolver(&[]);
    for (name, kind, expected) in table {
        for udp in [true, false] {
            let mut query = query(name, kind);
            query.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(1232);
            let response = ask(&resolver, &query, udp).await;
            let mut found = text(&response);
            found.truncate(found.len().min(expected.len().max(found.find(" | OPT").unwrap_or(found.len()))));
            assert_eq!(found, expected, "{name} {kind}");
            let empty = response.answers.is_empty();
            let from_zone =
                !matches!(response.metadata.response_code, ResponseCode::Refused | ResponseCode::ServFail);
            assert_eq!(response.metadata.authoritative, from_zone, "{name} {kind}");
            let soa =
                response.authorities.iter().filter(|record| record.record_type() == RecordType::SOA).count();
            assert_eq!(soa == 1, empty && from_zone, "{name} {kind}: an empty answer comes with the SOA");
        }
    }
}

#[tokio::test]
async fn lifetimes() {
    let resolver = resolver(&[]);
    for (name, seconds) in [("web.shop", 30), ("db.shop", 5), ("db-0.db.shop", 5), ("alias.shop", 30)] {
        let response =
            ask(&resolver, &query(&format!("{name}.svc.cluster.local"), RecordType::A), true).await;
        assert!(response.answers.iter().all(|record| record.ttl == seconds), "{name}: {response}");
    }
    let response = ask(&resolver, &query("none.shop.svc.cluster.local", RecordType::A), true).await;
    assert!(response.authorities.iter().all(|record| record.ttl == 5), "{response}");
}

#[tokio::test]
async fn addresses_take_turns() {
    let resolver = resolver(&[]);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let response = ask(&resolver, &query("db.shop.svc.cluster.local", RecordType::A), true).await;
        first.insert(response.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 2);
}

#[tokio::test]
async fn nothing_is_said_of_the_cluster_before_it_is_known() {
    let resolver = Resolver::new("cluster.local", &[], DNS);
    let response = ask(&resolver, &query("web.shop.svc.cluster.local", RecordType::A), true).await;
    assert_eq!(text(&response), "Server Failure: ");
}

#[tokio::test]
async fn long_answers_are_cut_over_udp_alone() {
    let many = (0..200).map(|n| endpoint(&format!("10.244.1.{n}"), 1, None, true)).collect();
    let resolver = resolver(&[]);
    let big = service("shop", "big", &[], vec![port(None, Protocol::Tcp, 1, many)]);
    resolver.set_zone(Zone::new("cluster.local", DNS, "10.244.0.0/16".parse().unwrap(), &[big]));
    let mut query = query("big.shop.svc.cluster.local", RecordType::A);
    let response = ask(&resolver, &query, true).await;
    assert!(response.metadata.truncation && response.answers.is_empty());
    let response = ask(&resolver, &query, false).await;
    assert!(!response.metadata.truncation && response.answers.len() == 200);
    query.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(65_535);
    let bytes = resolver.respond(&query.to_vec().unwrap(), true).await.unwrap();
    assert!(bytes.len() <= 1232, "{} bytes would be cut into fragments", bytes.len());
}

#[tokio::test]
async fn what_is_no_question_gets_an_error_or_nothing() {
    let resolver = resolver(&[]);
    let bytes = query("web.shop.svc.cluster.local", RecordType::A).to_vec().unwrap();
    for length in 0..12 {
        assert_eq!(resolver.respond(&bytes[..length], true).await, None, "{length} bytes");
    }
    for length in 12..bytes.len() {
        let response = Message::from_vec(&resolver.respond(&bytes[..length], true).await.unwrap()).unwrap();
        assert_eq!(response.metadata.response_code, ResponseCode::FormErr, "{length} bytes");
    }
    let code = async |change: &dyn Fn(&mut Message)| {
        let mut query = query("web.shop.svc.cluster.local", RecordType::A);
        change(&mut query);
        let bytes = resolver.respond(&query.to_vec().unwrap(), true).await?;
        Some(Message::from_vec(&bytes).unwrap().metadata.response_code)
    };
    assert_eq!(code(&|query| query.metadata.message_type = MessageType::Response).await, None);
    assert_eq!(code(&|query| query.metadata.op_code = OpCode::Update).await, Some(ResponseCode::NotImp));
    assert_eq!(code(&|query| query.queries.clear()).await, Some(ResponseCode::FormErr));
    let chaos = |query: &mut Message| query.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&chaos).await, Some(ResponseCode::Refused));
    let edns_1 = |query: &mut Message| {
        query.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
    };
    // BADVERS and BADSIG are the same number.
    assert_eq!(code(&edns_1).await.map(u16::from), Some(u16::from(ResponseCode::BADVERS)));
}

/// An upstream server that knows example.com, counts, and answers every question twice: first wrongly.
async fn upstream() -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = message::respond(&query, ResponseCode::NoError);
            answer.metadata.id = query.metadata.id.wrapping_add(1);
            socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            answer.metadata.id = query.metadata.id;
            let data = hickory_proto::rr::RData::A("192.0.2.80".parse().unwrap());
            answer.add_answer(Record::from_rdata(query.queries[0].name.clone(), 60, data));
            socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test]
async fn other_names_are_asked_for_once() {
    let (server, asked) = upstream().await;
    // The first server is not there: nobody listens on the discard port.
    let resolver = resolver(&["127.0.0.1:9".parse().unwrap(), server]);
    for _ in 0..3 {
        let response = ask(&resolver, &query("Example.com", RecordType::A), true).await;
        assert_eq!(text(&response), "No Error: A 192.0.2.80");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    let response = ask(&resolver, &query("away.shop.svc.cluster.local", RecordType::A), true).await;
    assert_eq!(text(&response), "No Error: CNAME example.com., example.com. A 192.0.2.80");
}

#[tokio::test]
async fn silence_upstream_is_a_failure() {
    let resolver = resolver(&["127.0.0.1:9".parse().unwrap()]);
    let response = ask(&resolver, &query("example.com", RecordType::A), true).await;
    assert_eq!(text(&response), "Server Failure: ");
}
