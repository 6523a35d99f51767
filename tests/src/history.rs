//! Clients of the store that keep a history of what they were told, and notice when it cannot be: a write that was
//! acknowledged and is gone, a linearizable read that goes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, Compare, CompareOp, PutResponse, Txn, TxnOp, TxnResponse};
use tokio::task::JoinHandle;

use crate::members::Members;

/// How long a client waits for an answer before it asks another member.
const CALL: Duration = Duration::from_millis(1500);

/// The same for a read, which members that are cut off are asked for too.
const READ: Duration = Duration::from_millis(400);

/// A pause after something failed, so that clients do not take the processor from the members.
const PAUSE: Duration = Duration::from_millis(20);

/// One key, written by one client alone: its values count up.
#[derive(Default)]
struct Key {
    attempted: AtomicU64,
    acknowledged: AtomicU64,
    /// The highest value that a linearizable read has given.
    seen: AtomicU64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    keys: Vec<Key>,
    /// The highest revision that anybody was told.
    revision: AtomicI64,
    writes: AtomicU64,
    reads: AtomicU64,
    /// Why reads had no answer, and how often.
    unanswered: Mutex<BTreeMap<String, u64>>,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

/// What they were told.
#[derive(Clone, Debug)]
pub struct Told {
    pub writes: u64,
    pub reads: u64,
    /// Why reads had no answer, and how often.
    pub unanswered: BTreeMap<String, u64>,
}

fn text(value: u64) -> String {
    format!("{value:012}")
}

/// A client for each member, made when it is first needed and anew after a failure.
struct Clients {
    urls: Vec<String>,
    made: Vec<Option<Client>>,
    limit: Duration,
}

impl Clients {
    fn new(urls: Vec<String>, limit: Duration) -> Self {
        let made = urls.iter().map(|_| None).collect();
        Self { urls, made, limit }
    }

    async fn at(&mut self, n: usize) -> Result<&mut Client> {
        let slot = &mut self.made[n];
        if slot.is_none() {
            *slot = Some(Members::connect(&self.urls[n..=n], self.limit).await?);
        }
        slot.as_mut().context("a client")
    }
}

impl Load {
    /// Starts `writers` clients that write a key each and as many that read, on all of `these` members.
    pub fn start(members: &Members, these: &[usize], writers: usize) -> Result<Self> {
        let urls: Vec<String> = these.iter().map(|n| members.client_url(*n)).collect();
        let keys = (0..writers).map(|_| Key::default()).collect();
        let shared = Arc::new(Shared { keys, ..Shared::default() });
        members.ask(these[0], async |mut client: Client| {
            for key in 0..writers {
                // Many members on a busy machine may change their leader once more.
                let mut tries = 0;
                while let Err(error) = client.put(format!("load/{key}"), text(0), None).await {
                    tries += 1;
                    anyhow::ensure!(tries < 10, "{error}");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
            Ok(())
        })?;
        let mut tasks = Vec::new();
        for key in 0..writers {
            let clients = |limit| Clients::new(urls.clone(), limit);
            tasks.push(members.runtime.spawn(write(Arc::clone(&shared), key, clients(CALL))));
            tasks.push(members.runtime.spawn(read(Arc::clone(&shared), key, clients(READ))));
        }
        Ok(Self { shared, tasks })
    }

    /// How many writes were acknowledged by now.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(SeqCst)
    }

    /// Ends the clients, and looks whether each of `these` members has what was acknowledged.
    pub fn finish(self, members: &Members, these: &[usize]) -> Result<Told> {
        self.shared.stop.store(true, SeqCst);
        for task in self.tasks {
            members.runtime.block_on(task)??;
        }
        for n in these {
            members.ask(*n, async |mut client: Client| {
                for (number, key) in self.shared.keys.iter().enumerate() {
                    let (value, _) = get(&mut client, number).await?;
                    check(key, number, value, key.acknowledged.load(SeqCst))
                        .with_context(|| format!("in the end, on member {n}"))?;
                }
                Ok(())
            })?;
        }
        let count = |counter: &AtomicU64| counter.load(SeqCst);
        let unanswered = self.shared.unanswered.lock().map(|all| all.clone()).unwrap_or_default();
        Ok(Told { writes: count(&self.shared.writes), reads: count(&self.shared.reads), unanswered })
    }
}

/// A value is right if it is not below what was known before it was asked for, nor above what anybody wrote.
fn check(key: &Key, number: usize, value: u64, floor: u64) -> Result<()> {
    ensure!(value >= floor, "key {number} is {value}, though {floor} was acknowledged or read before");
    let most = key.attempted.load(SeqCst);
    ensure!(value <= most, "key {number} is {value}, though only {most} was ever written");
    Ok(())
}

async fn get(client: &mut Client, number: usize) -> Result<(u64, i64)> {
    let found = client.get(format!("load/{number}"), None).await?;
    let revision = found.header().context("a header")?.revision();
    let kv = found.kvs().first().context("the key is gone")?;
    Ok((kv.value_str()?.parse()?, revision))
}

async fn write(shared: Arc<Shared>, number: usize, mut clients: Clients) -> Result<()> {
    let (key, mut at) = (&shared.keys[number], number);
    let name = format!("load/{number}");
    for value in 1.. {
        if shared.stop.load(SeqCst) {
            break;
        }
        key.attempted.store(value, SeqCst);
        // One whose answer got lost may be done late, and must not undo a later one.
        let below = Compare::value(name.as_str(), CompareOp::Less, text(value));
        let txn = Txn::new().when([below]).and_then([TxnOp::put(name.as_str(), text(value), None)]);
        let member = at % clients.urls.len();
        let answer: Result<TxnResponse> = async { Ok(clients.at(member).await?.txn(txn).await?) }.await;
        match answer {
            Ok(done) => {
                ensure!(done.succeeded(), "key {number} holds more than {value}, which nobody wrote");
                key.acknowledged.store(value, SeqCst);
                shared.revision.fetch_max(done.header().context("a header")?.revision(), SeqCst);
                shared.writes.fetch_add(1, SeqCst);
            }
            Err(_) => {
                clients.made[member] = None;
                at += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

/// Reads all keys in turn, each time on another member.
async fn read(shared: Arc<Shared>, first: usize, mut clients: Clients) -> Result<()> {
    for turn in first.. {
        if shared.stop.load(SeqCst) {
            break;
        }
        let (number, member) = (turn % shared.keys.len(), (turn / 2) % clients.urls.len());
        let key = &shared.keys[number];
        let floor = key.acknowledged.load(SeqCst).max(key.seen.load(SeqCst));
        let oldest = shared.revision.load(SeqCst);
        let answer = async { get(clients.at(member).await?, number).await };
        match answer.await {
            Ok((value, revision)) => {
                check(key, number, value, floor)?;
                ensure!(revision >= oldest, "a read at revision {revision}, after one at {oldest}");
                key.seen.fetch_max(value, SeqCst);
                shared.revision.fetch_max(revision, SeqCst);
                shared.reads.fetch_add(1, SeqCst);
            }
            Err(error) if error.to_string().contains("gone") => return Err(error),
            Err(error) => {
                if let Ok(mut all) = shared.unanswered.lock() {
                    *all.entry(format!("{error:#}")).or_default() += 1;
                }
                clients.made[member] = None;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

/// Writes on `these` members, one after the other, until one of them acknowledges; how long that took.
pub fn until_written(members: &Members, these: &[usize], limit: Duration) -> Result<Duration> {
    let (began, limit) = (Instant::now(), crate::patience(limit));
    let urls = these.iter().map(|n| members.client_url(*n)).collect();
    members.runtime.block_on(async {
        let mut clients = Clients::new(urls, CALL);
        let mut last = None;
        for n in (0..these.len()).cycle() {
            let put: Result<PutResponse> =
                async { Ok(clients.at(n).await?.put("progress", "", None).await?) }.await;
            match put {
                Ok(_) => return Ok(began.elapsed()),
                Err(error) => last = Some(error),
            }
            clients.made[n] = None;
            if began.elapsed() > limit {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("members {these:?} took no write within {limit:?}: {last:?}")
    })
}

/// Asks each of `these` for a write and a linearizable read at the same time, and fails if one of them does it within
/// `limit`.
pub async fn refuse(urls: Vec<String>, limit: Duration) -> Result<()> {
    let asked = urls.into_iter().flat_map(|url| [(url.clone(), true), (url, false)]);
    let all = asked.map(|(url, write)| async move {
        let Ok(mut client) = Members::connect(std::slice::from_ref(&url), limit).await else { return Ok(()) };
        let done = match write {
            true => client.put("minority", "", None).await.map(drop),
            false => client.get("minority", None).await.map(drop),
        };
        ensure!(done.is_err(), "{url} is cut off from the majority, and answers (a write: {write})");
        Ok(())
    });
    futures::future::try_join_all(all).await.map(drop)
}
