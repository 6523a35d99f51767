//! Clients: they write, compare, read and hold leases, note down what they are told, and do not wait forever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_store::{
    Compare, CompareOp, CompareTarget, KeyRange, Op, OpResponse, Put, Range, ReadError, Txn, TxnResponse,
    WriteError,
};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

use crate::book::seen;
use crate::history::{Action, Call, Guard, Keys, Moment, Outcome, Revision, Seen, Step};
use crate::network::{Life, Node};
use crate::world::World;

/// One client.
pub struct Client {
    pub(crate) world: Arc<World>,
    name: String,
    pub(crate) random: StdRng,
    /// The machine whose member it asks.
    node: Node,
    /// When it last saw keys change.
    modified: BTreeMap<String, Revision>,
    values: u64,
}

impl Client {
    /// A client with its own randomness.
    pub fn new(world: Arc<World>, name: String, random: StdRng) -> Client {
        Client { world, name, random, node: 0, modified: BTreeMap::new(), values: 0 }
    }

    /// Makes so many calls.
    pub async fn work(mut self, calls: usize) {
        for _ in 0..calls {
            let pause = self.random.random_range(0..=self.world.setup.think.as_micros() as u64);
            sleep(Duration::from_micros(pause)).await;
            let action = self.action();
            self.call(action).await;
        }
    }

    /// A living member, mostly the same.
    pub(crate) async fn member(&mut self) -> (Node, Life) {
        loop {
            let nodes = self.world.nodes();
            if self.random.random_range(0..8) == 0 || !nodes.contains(&self.node) {
                self.node = nodes[self.random.random_range(0..nodes.len())];
            }
            match self.world.network.life(self.node) {
                Some(life) => return (self.node, life),
                None => {
                    self.node = nodes[self.random.random_range(0..nodes.len())];
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    fn value(&mut self) -> String {
        self.values += 1;
        // Some values are long, so that frames and pages differ.
        let filler = if self.random.random_range(0..10) == 0 { self.random.random_range(0..3000) } else { 0 };
        format!("{}.{}{}", self.name, self.values, "x".repeat(filler))
    }

    fn action(&mut self) -> Action {
        let key = self.world.setup.key(&mut self.random);
        let put = Step::Put { key: key.clone(), value: self.value(), lease: 0 };
        let modified = self.modified.get(&key).copied().unwrap_or_default();
        let guard = Some(Guard { key: key.clone(), modified });
        let one = Keys::One(key.clone());
        match self.random.random_range(0..100) {
            0..30 => Action::Write { guard: None, steps: vec![put] },
            30..50 => Action::Write { guard, steps: vec![put] },
            50..56 => Action::Write { guard: None, steps: vec![Step::Delete { key }] },
            56..60 => Action::Write { guard, steps: vec![Step::Delete { key }] },
            60..66 => {
                let mut steps = vec![put];
                let other = self.world.setup.key(&mut self.random);
                if other != key {
                    steps.push(Step::Delete { key: other });
                }
                Action::Write { guard: None, steps }
            }
            66..80 => Action::Read { keys: one, at: None, local: false },
            80..86 => Action::Read { keys: Keys::All, at: None, local: false },
            86..91 => Action::Read { keys: one, at: None, local: true },
            91..95 => Action::Read { keys: Keys::All, at: None, local: true },
            _ => {
                let newest = self.world.book.lock().whole();
                let at = (newest - self.random.random_range(0..20)).max(1);
                Action::Read { keys: Keys::All, at: Some(at), local: self.random.random() }
            }
        }
    }

    /// Asks a member, and notes down what came of it.
    pub(crate) async fn call(&mut self, action: Action) -> Outcome {
        let (node, life) = self.member().await;
        let world = Arc::clone(&self.world);
        let who = format!("{}@m{node}.{}", self.name, life.number);
        let invoked = world.trace.moment();
        world.trace.event(format_args!("{who} asks {}", brief(&action)));
        let patience = Duration::from_millis(self.random.random_range(500..4000));
        let asked = async {
            let outcome = ask(&life, &action, world.setup.broken.stale_reads).await;
            // The answer leaves when the member is not frozen and its disk has done what it said.
            world.network.ready(node).await;
            let alive = world.network.life(node).is_some_and(|now| now.number == life.number);
            if alive { outcome } else { Outcome::Unknown }
        };
        let outcome = timeout(patience, asked).await.unwrap_or(Outcome::Unknown);
        let returned = if outcome == Outcome::Unknown { Moment::MAX } else { world.trace.moment() };
        world.trace.event(format_args!("{who} is told {}", told(&outcome)));
        self.learn(&action, &outcome);
        // Who got no answer asks someone else next.
        if matches!(outcome, Outcome::Unknown | Outcome::Refused) {
            let nodes = world.nodes();
            self.node = nodes[self.random.random_range(0..nodes.len())];
        }
        let call = Call { who, life: life.number, action, invoked, returned, outcome: outcome.clone() };
        world.book.lock().calls.push(call);
        outcome
    }

    fn learn(&mut self, action: &Action, outcome: &Outcome) {
        match (action, outcome) {
            (Action::Write { steps, .. }, Outcome::Wrote { revision, held: true, .. }) => {
                for step in steps {
                    match step {
                        Step::Put { key, .. } => drop(self.modified.insert(key.clone(), *revision)),
                        Step::Delete { key } => drop(self.modified.remove(key)),
                    }
                }
            }
            (Action::Write { .. }, Outcome::Wrote { before: found, .. }) => {
                found.iter().flatten().for_each(|seen| self.note(seen));
            }
            (_, Outcome::Read { found, .. }) => found.iter().for_each(|seen| self.note(seen)),
            _ => {}
        }
    }

    fn note(&mut self, seen: &Seen) {
        self.modified.insert(seen.key.clone(), seen.modified);
    }
}

async fn ask(life: &Life, action: &Action, stale: bool) -> Outcome {
    match action {
        Action::Write { guard, steps } => {
            written(life.store.txn(txn(guard.as_ref(), steps)).await, guard.as_ref())
        }
        Action::Read { keys, at, local } => {
            let all = match keys {
                Keys::One(key) => Range::key(key.clone()),
                Keys::All => Range::prefix(""),
            };
            let range = Range { revision: *at, serializable: *local || stale, ..all };
            match life.store.range(range).await {
                Ok(read) => {
                    let found = read.kvs.iter().map(|kv| seen(kv)).collect();
                    Outcome::Read { revision: read.revision, found }
                }
                Err(ReadError::History(_) | ReadError::Failed(_)) => Outcome::Unknown,
                Err(_) => Outcome::Refused,
            }
        }
    }
}

fn txn(guard: Option<&Guard>, steps: &[Step]) -> Txn {
    let compare = guard.map(|guard| Compare {
        keys: KeyRange::key(guard.key.clone()),
        op: CompareOp::Equal,
        target: CompareTarget::ModRevision(guard.modified),
    });
    let then = steps.iter().map(|step| match step {
        Step::Put { key, value, lease } => Op::Put(Put {
            key: key.clone().into(),
            value: value.clone().into(),
            lease: *lease,
            prev_kv: true,
            ..Put::default()
        }),
        Step::Delete { key } => Op::Delete { keys: KeyRange::key(key.clone()), prev_kv: true },
    });
    let otherwise = guard.map(|guard| Op::Range(Range::key(guard.key.clone())));
    Txn {
        compare: compare.into_iter().collect(),
        then: then.collect(),
        otherwise: otherwise.into_iter().collect(),
    }
}

fn written(result: Result<TxnResponse, WriteError>, _: Option<&Guard>) -> Outcome {
    match result {
        Ok(response) => {
            let before = response.responses.iter().map(|response| match response {
                OpResponse::Put { prev } => prev.as_deref().map(seen),
                OpResponse::Delete { prev, .. } => prev.first().map(|kv| seen(kv)),
                OpResponse::Range(read) => read.kvs.first().map(|kv| seen(kv)),
                // No step here is a transaction of its own.
                OpResponse::Txn(_) => None,
            });
            Outcome::Wrote { revision: response.revision, held: response.succeeded, before: before.collect() }
        }
        Err(WriteError::Unknown | WriteError::Failed(_)) => Outcome::Unknown,
        // Nothing has changed after any other error.
        Err(_) => Outcome::Refused,
    }
}

fn short(value: &str) -> &str {
    value.split('x').next().unwrap_or(value)
}

fn brief(action: &Action) -> String {
    match action {
        Action::Read { keys, at, local } => {
            format!("read {keys:?} at {at:?}{}", if *local { " locally" } else { "" })
        }
        Action::Write { guard, steps } => {
            let steps = steps.iter().map(|step| match step {
                Step::Put { key, value, lease: 0 } => format!(" put {key}={}", short(value)),
                Step::Put { key, value, lease } => format!(" put {key}={} lease {lease}", short(value)),
                Step::Delete { key } => format!(" delete {key}"),
            });
            let guard = guard.as_ref().map(|guard| format!(" if {} is of {}", guard.key, guard.modified));
            format!("{}{}", steps.collect::<String>().trim_start(), guard.unwrap_or_default())
        }
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Wrote { revision, held, .. } => format!("revision {revision}, {held}"),
        Outcome::Read { revision, found } => format!("revision {revision}, {} keys", found.len()),
        other => format!("{other:?}"),
    }
}
