//! What a server costs over its life: memory with many keys, a start with much data, a snapshot while it serves, a
//! leader that dies.

use std::time::{Duration, Instant};

use prost::Message;

use crate::client::{Client, Failed, pb};
use crate::load::{self, Work};
use crate::report::Figure;
use crate::servers::Cluster;

const MEMORY_KEYS: usize = 1_000_000;
const BIG_VALUE: usize = 64 << 10;
const BIG_KEYS: usize = (2 << 30) / BIG_VALUE;
const DEATHS: usize = 5;

/// Memory that a million keys of 256 bytes cost, after they were written.
pub(crate) async fn memory(cluster: &Cluster) -> Result<Vec<Figure>, Failed> {
    let client = Client::connect(&cluster.addresses[0]).await?;
    let began = Instant::now();
    load::fill(&client, "memory/", MEMORY_KEYS, load::VALUE_BYTES).await?;
    let took = began.elapsed();
    // What was only needed to write them is given back within some seconds.
    tokio::time::sleep(Duration::from_secs(10)).await;
    Ok(vec![
        Figure::new("time to write 1,000,000 keys", took.as_secs_f64(), "s"),
        Figure::new("memory with 1,000,000 keys", cluster.memory()? as f64 / 1e6, "MB"),
        Figure::new("disk with 1,000,000 keys", cluster.disk()? as f64 / 1e6, "MB"),
    ])
}

/// A snapshot while clients put, and a start with the same data.
pub(crate) async fn much_data(cluster: &mut Cluster) -> Result<Vec<Figure>, Failed> {
    let client = Client::connect(&cluster.addresses[0]).await?;
    load::fill(&client, "big/", BIG_KEYS, BIG_VALUE).await?;
    let (mut figures, address) = (Vec::new(), cluster.addresses[0].clone());
    let snapshot = tokio::spawn(async move { snapshot(&address).await });
    let puts = load::load(cluster, "put", Work::Put, 32, Duration::from_secs(4)).await?;
    let (bytes, took) = snapshot.await??;
    figures.push(Figure::new("puts of 32 clients during a snapshot", puts.per_second, "/s"));
    figures.push(Figure::new("their p99", puts.p99.as_secs_f64() * 1e3, "ms"));
    figures.push(Figure::new("snapshot", bytes as f64 / 1e6, "MB"));
    figures.push(Figure::new("snapshot, rate", bytes as f64 / 1e6 / took.as_secs_f64(), "MB/s"));
    cluster.kill(0)?;
    let began = Instant::now();
    cluster.restart(0)?;
    cluster.serves().await?;
    figures.push(Figure::new("start with 2 GB to the first write", began.elapsed().as_secs_f64(), "s"));
    figures.push(Figure::new("memory after that start", cluster.memory()? as f64 / 1e6, "MB"));
    Ok(figures)
}

async fn snapshot(address: &str) -> Result<(u64, Duration), Failed> {
    #[derive(Clone, PartialEq, Message)]
    struct Part {
        #[prost(bytes = "bytes", tag = "3")]
        blob: bytes::Bytes,
    }
    let (client, began) = (Client::connect(address).await?, Instant::now());
    let (_, mut parts) = client.stream("/etcdserverpb.Maintenance/Snapshot", &(), true).await?;
    let mut bytes = 0;
    while let Some(part) = parts.next().await? {
        bytes += Part::decode(part)?.blob.len() as u64;
    }
    Ok((bytes, began.elapsed()))
}

/// Time from the death of the leader to the next acknowledged write.
pub(crate) async fn deaths(cluster: &mut Cluster) -> Result<Vec<Figure>, Failed> {
    let mut times = Vec::new();
    for _ in 0..DEATHS {
        let dead = cluster.kill_leader().await?;
        times.push(cluster.serves().await?);
        cluster.restart(dead)?;
        // It follows again, and the next death leaves a majority.
        loop {
            let Ok(client) = Client::connect(&cluster.addresses[dead]).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let request = pb::RangeRequest { key: "ready".into(), ..pb::RangeRequest::default() };
            if client.range(&request).await.is_ok() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    times.sort();
    Ok(vec![
        Figure::new("kill -9 of the leader to the next write, median", times[DEATHS / 2].as_secs_f64(), "s"),
        Figure::new("the longest of five", times[DEATHS - 1].as_secs_f64(), "s"),
    ])
}
