//! Datagrams of pods and of upstream servers.

#![allow(clippy::expect_used, clippy::panic, reason = "whatever is wrong is to be seen")]

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::RecordType;

use super::zone::Zone;
use super::{Resolver, message};
use crate::types::{Endpoint, Protocol, Service, ServicePort};

const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Knows a headless service and one that is a name elsewhere; asks nobody.
static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| {
    let resolver = Resolver::new("cluster.local", &[], DNS);
    let cidr = "10.244.0.0/24".parse().expect("a network");
    resolver.set_zone(Zone::new("cluster.local", DNS, cidr, &services()));
    resolver
});

fn services() -> Vec<Service> {
    let endpoint = |number| Endpoint {
        address: Ipv4Addr::new(10, 244, 0, number).into(),
        port: 5432,
        ready: true,
        serving: true,
        terminating: false,
        hostname: Some(format!("db-{number}")),
        node: None,
        local: true,
    };
    let sql = ServicePort {
        name: Some("sql".to_owned()),
        protocol: Protocol::Tcp,
        port: 5432,
        node_port: None,
        endpoints: (0..40).map(endpoint).collect(),
    };
    let db = Service {
        namespace: "shop".to_owned(),
        name: "db".to_owned(),
        cluster_ips: Vec::new(),
        headless: true,
        external_name: None,
        session_affinity_seconds: None,
        publish_not_ready: false,
        ports: vec![sql],
    };
    let alias = |name: &str, to: &str| Service {
        name: name.to_owned(),
        headless: false,
        external_name: Some(to.to_owned()),
        ports: Vec::new(),
        ..db.clone()
    };
    vec![alias("loop", "loop.shop.svc.cluster.local"), alias("away", "a.example"), db]
}

fn asked(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(message::name(name).expect("a name"), kind));
    query
}

pub(crate) fn queries() -> Vec<Vec<u8>> {
    let mut large = asked("_sql._tcp.db.shop.svc.cluster.local", RecordType::SRV);
    large.set_edns(Edns::new());
    let others = [
        asked("db.shop.svc.cluster.local", RecordType::A),
        asked("loop.shop.svc.cluster.local", RecordType::AAAA),
        asked("away.shop.svc.cluster.local", RecordType::ANY),
        asked("3.0.244.10.in-addr.arpa", RecordType::PTR),
        asked("a.example", RecordType::TXT),
    ];
    [large].iter().chain(&others).map(|query| query.to_vec().expect("it can be written")).collect()
}

/// Every query that is answered is answered by a message that can be read, and that fits.
pub(crate) fn query(data: &[u8]) {
    for (udp, most) in [(true, 1232), (false, usize::from(u16::MAX))] {
        let answer = match RESOLVER.respond_now(data, udp) {
            Ok(answer) => answer,
            // There is nobody upstream, so this waits for nothing.
            Err(later) => futures_now(RESOLVER.respond_later(later, udp)),
        };
        let Some(answer) = answer else { continue };
        assert!(answer.len() <= most, "an answer of {} bytes", answer.len());
        let read = Message::from_vec(&answer).expect("an answer that can be read");
        assert_eq!(Some(read.metadata.id.to_be_bytes().as_slice()), data.get(..2));
    }
}

/// The value of a future that does not wait.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

pub(crate) fn answers() -> Vec<Vec<u8>> {
    let query = queries().remove(0);
    let answer = RESOLVER.respond_now(&query, false).ok().flatten();
    answer.into_iter().chain([query]).collect()
}

/// What an upstream server answers goes on to the pod, if it can be read at all.
pub(crate) fn answer(data: &[u8]) {
    let Ok(mut answer) = Message::from_vec(data) else { return };
    let query = asked("a.example", RecordType::A);
    message::rotate(&mut answer, 3);
    for udp in [true, false] {
        if let Some(bytes) = message::encode(&query, &answer, udp) {
            assert!(!udp || bytes.len() <= 512, "{} bytes", bytes.len());
        }
    }
}
