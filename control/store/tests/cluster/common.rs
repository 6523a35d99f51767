//! Clusters in one process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use carrack_store::peer::message::{Envelope, Request, Response};
use carrack_store::peer::{Peer, PeerHandler, Transport, TransportError};
use carrack_store::*;
use parking_lot::Mutex;

/// Carries messages within the process, as if each member were at its address.
#[derive(Default)]
pub(crate) struct Wires {
    members: Mutex<HashMap<String, PeerHandler>>,
    /// What becomes of the next parts of snapshots.
    pub(crate) losses: Mutex<VecDeque<Loss>>,
    /// What was said, if somebody listens.
    pub(crate) heard: Mutex<Option<Vec<Envelope>>>,
}

/// What is lost of a message and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Message,
    Answer,
    /// The answer, and whoever waits for it goes away before the work is done.
    Caller,
}

impl Wires {
    pub(crate) fn plug(&self, url: &str, store: &Store) {
        self.members.lock().insert(url.to_owned(), store.peer_handler());
    }

    /// Who is at an address.
    pub(crate) fn at(&self, url: &str) -> PeerHandler {
        self.members.lock().get(url).cloned().expect("plugged in")
    }

    pub(crate) fn unplug(&self, url: &str) {
        self.members.lock().remove(url);
    }
}

/// One member's end of the wires: what it sends while it is cut off goes nowhere.
pub(crate) struct End {
    pub(crate) wires: Arc<Wires>,
    pub(crate) url: String,
}

#[async_trait]
impl Transport for End {
    async fn call(
        &self,
        to: &Peer,
        message: Envelope,
        timeout: Duration,
    ) -> Result<Response, TransportError> {
        let there = {
            let members = self.wires.members.lock();
            // Who joins is not plugged in yet, and may ask nevertheless.
            let here = message.cluster_id == 0 || members.contains_key(&self.url);
            to.urls.iter().find_map(|url| members.get(url)).filter(|_| here).cloned()
        };
        let Some(handler) = there else {
            return Err(TransportError::Undelivered(format!("{:?} is away", to.urls)));
        };
        if let Some(heard) = self.wires.heard.lock().as_mut() {
            heard.push(message.clone());
        }
        let is_part = matches!(message.request, Request::Snapshot(_));
        let loss = is_part.then(|| self.wires.losses.lock().pop_front()).flatten();
        let handled = async {
            match loss {
                Some(Loss::Message) => std::future::pending().await,
                Some(Loss::Caller) => {
                    let _ = tokio::time::timeout(Duration::ZERO, handler.handle(message)).await;
                    std::future::pending().await
                }
                Some(Loss::Answer) => {
                    let _ = handler.handle(message).await;
                    std::future::pending().await
                }
                None => handler.handle(message).await,
            }
        };
        match tokio::time::timeout(timeout, handled).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(TransportError::NoAnswer("too late".to_owned())),
        }
    }
}

/// Names and addresses.
pub(crate) fn initial(count: usize) -> Vec<InitialMember> {
    let member = |n| InitialMember { name: format!("m{n}"), peer_urls: vec![format!("http://m{n}:2380")] };
    (1..=count).map(member).collect()
}

pub(crate) fn small(mut options: Options) -> Options {
    options.segment_bytes = 1 << 20;
    options.max_request_bytes = 128 << 10;
    options.checkpoint_bytes = 64 << 10;
    options.checkpoint_changes = 200;
    options.window_revisions = 64;
    options
}

/// How often what finds no leader or no answer is tried again; each try may take as long as a request. On a machine that has
/// hardly any time for the members, leaders change often.
const TRIES: usize = 15;

/// Puts a value, in exactly one revision. After an answer that leaves open whether it was done, which a busy machine may give,
/// it tries again as clients do: on the condition that the key is as it was.
pub(crate) async fn put(store: &Store, key: &str, value: &str) -> TxnResponse {
    let before = read(store, key).await.kvs.first().map_or(0, |kv| kv.mod_revision);
    for _ in 0..TRIES {
        let same = Compare::mod_revision(key.to_owned(), before);
        match store.txn(Txn::put(key.to_owned(), value.to_owned()).when(same)).await {
            // Done by a try before, unless somebody else writes.
            Ok(done) if !done.succeeded => {
                assert_eq!(
                    get(store, key).await.as_deref(),
                    Some(value),
                    "{key} was changed by somebody else"
                );
                return done;
            }
            Ok(done) => return done,
            Err(WriteError::Unknown | WriteError::NotLeader { .. }) => {}
            Err(error) => panic!("put {key}: {error}"),
        }
    }
    panic!("put {key}: no answer to {TRIES} tries");
}

/// Reads a key, again if there is no leader at the moment.
async fn read(store: &Store, key: &str) -> RangeResponse {
    for _ in 0..TRIES {
        match store.range(Range::key(key.to_owned())).await {
            Err(ReadError::NotLeader { .. }) => {}
            answer => return answer.expect("range"),
        }
    }
    panic!("get {key}: no leader for {TRIES} tries");
}

/// Waits until the member has a leader and all that anybody was told.
pub(crate) async fn ready(store: &Store) {
    for _ in 0..TRIES {
        match store.ready().await {
            Err(ReadError::NotLeader { .. }) => {}
            answer => return answer.expect("ready"),
        }
    }
    panic!("no leader for {TRIES} tries");
}

pub(crate) async fn get(store: &Store, key: &str) -> Option<String> {
    read(store, key).await.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

/// Waits until `found` finds something; fails after half a minute: sixteen clusters share the machine here.
pub(crate) async fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The index of the member that leads, once all of `stores` agree on it.
pub(crate) async fn leader(stores: &[&Store]) -> usize {
    eventually("a leader", || {
        let leader = stores[0].leader()?;
        let agreed = stores.iter().all(|store| store.leader() == Some(leader));
        let place = stores.iter().position(|store| store.member_id() == leader)?;
        (agreed && stores[place].is_leader()).then_some(place)
    })
    .await
}
