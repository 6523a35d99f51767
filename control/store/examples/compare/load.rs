//! Many clients, each of which makes one call after the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::client::{Client, Failed, pb};
use crate::report::Figures;
use crate::servers::Cluster;
use crate::wire::{Came, Wire};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// Calls share connections, as they do in real clients.
pub(crate) const CLIENTS_ON_A_CONNECTION: usize = 32;

pub(crate) const VALUE_BYTES: usize = 256;
const LISTED: usize = 10_000;

/// What a client does, by its number and its turn.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Put,
    Range {
        serializable: bool,
    },
    /// Four ranges for each put.
    Mixed,
    List,
}

/// What is measured, and with how many clients.
pub(crate) const LOADS: &[(&str, Work, &[usize])] = &[
    ("put", Work::Put, &[1, 32, 256, 1000]),
    ("linearizable range", Work::Range { serializable: false }, &[1, 32, 256, 1000]),
    ("serializable range", Work::Range { serializable: true }, &[1, 32, 256, 1000]),
    ("4 ranges to 1 put", Work::Mixed, &[32, 256]),
    ("list of 10,000", Work::List, &[1]),
];

pub(crate) fn value() -> Bytes {
    Bytes::from_static(&[7; VALUE_BYTES])
}

impl Work {
    /// Begins the client's next call.
    fn begin(self, wire: &mut Wire, client: &mut One) {
        let key = Bytes::from(format!("put/{:04}/{:03}", client.number, client.turn % 100));
        let range = |wire: &mut Wire, key: Bytes, range_end: &'static str, serializable| {
            wire.call(RANGE, &pb::RangeRequest { key, range_end: range_end.into(), serializable }, true)
        };
        client.stream = match self {
            Work::Mixed if !client.turn.is_multiple_of(5) => range(wire, key, "", false),
            Work::Put | Work::Mixed => wire.call(PUT, &pb::PutRequest { key, value: value() }, true),
            Work::Range { serializable } => range(wire, key, "", serializable),
            Work::List => range(wire, "list/".into(), "list0", false),
        };
        client.turn += 1;
        client.began = Instant::now();
    }

    fn check(self, message: Bytes) -> Result<(), Failed> {
        if !matches!(self, Work::List) {
            return Ok(());
        }
        match pb::RangeResponse::decode(message)?.count {
            count if count == LISTED as i64 => Ok(()),
            count => Err(format!("{count} keys instead of {LISTED}").into()),
        }
    }
}

/// A client: it has one call under way.
struct One {
    number: usize,
    turn: usize,
    stream: u32,
    began: Instant,
    answered: bool,
}

/// Runs a load for some time.
pub(crate) async fn load(
    cluster: &Cluster,
    what: &str,
    work: Work,
    clients: usize,
    time: Duration,
) -> Result<Figures, Failed> {
    let addresses = cluster.leader_first().await?;
    if matches!(work, Work::List) {
        let client = Client::connect(&addresses[0]).await?;
        fill(&client, "list/", LISTED, VALUE_BYTES).await?;
    }
    let connections = clients.div_ceil(CLIENTS_ON_A_CONNECTION).max(addresses.len().min(clients));
    let (cpu, start) = (cluster.cpu()?, Instant::now());
    let mut tasks = Vec::new();
    for n in 0..connections {
        let wire = Wire::connect(&addresses[n % addresses.len()]).await?;
        let numbers = (n..clients).step_by(connections);
        let one = |number| One { number, turn: 0, stream: 0, began: start, answered: false };
        tasks.push(tokio::spawn(drive(wire, work, numbers.map(one).collect(), start + time)));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let took = start.elapsed();
    Ok(Figures::new(format!("{what}, {clients}"), latencies, took, cluster.cpu()? - cpu))
}

/// Each client makes one call after the other until `end`; gives how long they took.
async fn drive(
    mut wire: Wire,
    work: Work,
    mut clients: Vec<One>,
    end: Instant,
) -> Result<Vec<Duration>, Failed> {
    let (mut latencies, mut came, mut busy) = (Vec::new(), Vec::new(), HashMap::new());
    for (n, client) in clients.iter_mut().enumerate() {
        work.begin(&mut wire, client);
        busy.insert(client.stream, n);
    }
    while !busy.is_empty() {
        wire.flush().await?;
        wire.receive(&mut came).await?;
        let now = Instant::now();
        for came in came.drain(..) {
            match came {
                Came::Message(stream, message) => {
                    work.check(message)?;
                    clients[busy[&stream]].answered = true;
                }
                Came::End(stream) => {
                    let Some(n) = busy.remove(&stream) else { continue };
                    let client = &mut clients[n];
                    if !std::mem::take(&mut client.answered) {
                        return Err("a call was refused".into());
                    }
                    latencies.push(now - client.began);
                    if now < end {
                        work.begin(&mut wire, client);
                        busy.insert(client.stream, n);
                    }
                }
            }
        }
    }
    Ok(latencies)
}

/// Writes keys `prefix` and seven digits, hundreds at once.
pub(crate) async fn fill(client: &Client, prefix: &str, keys: usize, bytes: usize) -> Result<(), Failed> {
    const AT_ONCE: usize = 16;
    // etcd allows 128 operations and 1.5 MB in a transaction.
    let group = ((1 << 20) / bytes).clamp(1, 100);
    let mut under_way = tokio::task::JoinSet::new();
    for first in (0..keys).step_by(group) {
        let put = |n| pb::PutRequest { key: format!("{prefix}{n:07}").into(), value: vec![7; bytes].into() };
        let success = (first..keys.min(first + group)).map(|n| pb::RequestOp { put: Some(put(n)) }).collect();
        let client = client.clone();
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.transpose()?.transpose()?;
        }
        under_way.spawn(async move {
            client.call::<pb::Header>("/etcdserverpb.KV/Txn", &pb::TxnRequest { success }).await.map(drop)
        });
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}
