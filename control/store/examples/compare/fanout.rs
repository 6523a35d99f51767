//! Many watchers of the same keys: events that they get in all, and how long after its put began each one came.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::client::{Client, Failed, pb};
use crate::load::CLIENTS_ON_A_CONNECTION;
use crate::report::Figures;
use crate::servers::Cluster;
use crate::wire::{Came, Wire};

pub(crate) const WATCHERS: [usize; 4] = [1, 100, 1_000, 10_000];

/// Who writes what is watched, as fast as puts are acknowledged.
const WRITERS: usize = 16;

/// Events that all watchers get together when the server has to work as fast as it can, and the most puts for them.
const EVENTS: usize = 400_000;
const PUTS: std::ops::Range<usize> = 40..20_000;

/// Events that are taken as samples of the delay; the rest is counted.
const SAMPLE: u64 = 16;

/// What is written for the watchers to see.
#[derive(Clone, Copy)]
pub(crate) enum Writes {
    /// [`EVENTS`] for all watchers together, as fast as puts are acknowledged.
    Burst,
    /// So many puts a second, for so long.
    Paced(u32, Duration),
}

impl Writes {
    /// How many puts each writer makes, and the pause between them.
    fn plan(self, watchers: usize) -> (usize, Option<Duration>) {
        match self {
            Writes::Burst => ((EVENTS / watchers).clamp(PUTS.start, PUTS.end).div_ceil(WRITERS), None),
            Writes::Paced(rate, time) => {
                let pause = Duration::from_secs(1) * WRITERS as u32 / rate;
                ((time.as_secs_f64() / pause.as_secs_f64()).ceil() as usize, Some(pause))
            }
        }
    }
}

/// The events that `watchers` get of these writes.
pub(crate) async fn fan_out(cluster: &Cluster, watchers: usize, writes: Writes) -> Result<Figures, Failed> {
    let (addresses, epoch) = (cluster.leader_first().await?, Instant::now());
    let connections = watchers.div_ceil(CLIENTS_ON_A_CONNECTION);
    let mut tasks = Vec::new();
    for n in 0..connections {
        let mut wire = Wire::connect(&addresses[n % addresses.len()]).await?;
        let mut left = (n..watchers).step_by(connections).count();
        for _ in 0..left {
            let create = pb::RangeRequest {
                key: "watched/".into(),
                range_end: "watched0".into(),
                serializable: false,
            };
            let request = pb::WatchRequest { call: Some(pb::WatchCall::Create(create)) };
            wire.call("/etcdserverpb.Watch/Watch", &request, false);
        }
        let (mut came, streams) = (Vec::new(), left);
        while left > 0 {
            wire.flush().await?;
            wire.receive(&mut came).await?;
            for came in came.drain(..) {
                let Came::Message(_, message) = came else {
                    return Err("the stream of a watch ended".into());
                };
                left -= usize::from(pb::WatchResponse::decode(message)?.created);
            }
        }
        tasks.push(tokio::spawn(follow(wire, streams, epoch)));
    }
    let (cpu, start) = (cluster.cpu()?, Instant::now());
    let (puts, pause) = writes.plan(watchers);
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let client = Client::connect(&addresses[n % addresses.len()]).await?;
        writers.push(tokio::spawn(async move {
            // Writers take turns.
            let first = tokio::time::Instant::now() + pause.unwrap_or_default() * n as u32 / WRITERS as u32;
            let mut turns = pause.map(|pause| tokio::time::interval_at(first, pause));
            for _ in 0..puts {
                if let Some(turns) = &mut turns {
                    turns.tick().await;
                }
                let sent = Bytes::from(epoch.elapsed().as_nanos().to_string());
                client.put(format!("watched/{n}").into(), sent).await?;
            }
            Ok::<_, Failed>(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    let written = (puts * WRITERS) as u64;
    // The last one: who has seen it has seen all.
    let client = Client::connect(&addresses[0]).await?;
    client.put("watched/~".into(), "end".into()).await?;
    let (mut delays, mut events) = (Vec::new(), 0);
    for task in tasks {
        let (some, seen) = task.await??;
        delays.extend(some);
        events += seen;
    }
    let took = start.elapsed();
    if events != written * watchers as u64 {
        return Err(format!("{watchers} watchers saw {events} events of {written} puts").into());
    }
    let what = match writes {
        Writes::Burst => format!("{written} puts at once"),
        Writes::Paced(rate, _) => format!("{rate} puts/s"),
    };
    let mut figures =
        Figures::new(format!("events to {watchers}, {what}"), delays, took, cluster.cpu()? - cpu);
    figures.count(events, took);
    Ok(figures)
}

/// Reads until all streams have seen the last event; gives delays of some of the events, and how many there were before
/// the last.
async fn follow(mut wire: Wire, mut streams: usize, epoch: Instant) -> Result<(Vec<Duration>, u64), Failed> {
    let (mut delays, mut seen, mut came) = (Vec::new(), 0, Vec::new());
    while streams > 0 {
        wire.flush().await?;
        wire.receive(&mut came).await?;
        let now = epoch.elapsed();
        for came in came.drain(..) {
            let Came::Message(_, message) = came else { return Err("the stream of a watch ended".into()) };
            for event in pb::WatchResponse::decode(message)?.events {
                let value = event.kv.ok_or("an event without a key")?.value;
                if value == "end" {
                    streams -= 1;
                    continue;
                }
                if seen % SAMPLE == 0 {
                    let sent: u64 = std::str::from_utf8(&value)?.parse()?;
                    delays.push(now.saturating_sub(Duration::from_nanos(sent)));
                }
                seen += 1;
            }
        }
    }
    Ok((delays, seen))
}
