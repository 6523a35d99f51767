//! Messages of members that come again, late, in any order, or with any content.

use std::time::{Duration, Instant};

use carrack_store::peer::message::{self, Append, Ballot, Envelope, Position, Refused, Request, SavedVote};
use carrack_store::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::common::*;
use crate::memory::Cluster;

/// How long an answer is waited for: what has to wait for a majority may take as long as a request.
const ANSWER: Duration = Duration::from_secs(30);

/// How long messages are made up: requests may have to wait, once what was made up has confused the members.
const ENOUGH: Duration = Duration::from_secs(10);

/// What takes effect each time it arrives, as the transport's contract says.
fn acts_again(message: &Envelope) -> bool {
    matches!(message.request, Request::Write(_) | Request::Change(_))
}

/// All that members say to each other in a life with elections, snapshots and a change of the leader.
async fn listen(cluster: &Cluster, stores: &[Store]) -> Vec<Envelope> {
    *cluster.wires.heard.lock() = Some(Vec::new());
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    let lagging = (first + 1) % 3;
    let url = format!("http://m{}:2380", lagging + 1);
    cluster.wires.unplug(&url);
    for n in 0..250 {
        put(&stores[first], &format!("k{}", n % 5), &n.to_string()).await;
    }
    stores[first].checkpoint().await.expect("checkpoint");
    cluster.wires.plug(&url, &stores[lagging]);
    ready(&stores[lagging]).await;
    stores[first].move_leader(stores[lagging].member_id()).await.expect("moved");
    for store in stores {
        put(store, "last", &format!("{:x}", store.member_id())).await;
    }
    cluster.wires.heard.lock().take().expect("heard")
}

/// What all members hold, which has to be the same.
async fn contents(stores: &[Store]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for store in stores {
        ready(store).await;
        let found = store.range(Range::prefix("")).await.expect("range");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        all.push(found.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect::<Vec<_>>());
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "members differ");
    all.remove(0)
}

async fn deliver(cluster: &Cluster, stores: &[Store], message: Envelope) {
    let to = stores.iter().position(|store| store.member_id() == message.to).expect("a member");
    let handler = cluster.wires.at(&format!("http://m{}:2380", to + 1));
    let said = format!("{:?}", message.request);
    let answered = tokio::time::timeout(ANSWER, handler.handle(message)).await;
    assert!(answered.is_ok(), "no answer to {said:.300}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_messages_change_nothing() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    let mut heard = listen(&cluster, &stores).await;
    heard.retain(|message| !acts_again(message));
    let before = contents(&stores).await;
    let mut random = StdRng::seed_from_u64(7);
    // All of the rare kinds, and some of the rest.
    let is_rare = |message: &Envelope| matches!(message.request, Request::Snapshot(_) | Request::Vote(_));
    heard.shuffle(&mut random);
    heard.sort_by_key(|message| !is_rare(message));
    assert!(is_rare(&heard[0]));
    heard.truncate(600);
    heard.shuffle(&mut random);
    for message in heard {
        deliver(&cluster, &stores, message).await;
    }
    assert_eq!(contents(&stores).await, before);
    for (n, store) in stores.iter().enumerate() {
        assert_eq!(store.status().failed, None);
        put(store, &format!("after{n}"), "").await;
    }
    assert_eq!(contents(&stores).await.len(), before.len() + 3);
    for store in &stores {
        store.shutdown().await;
    }
}

/// A member that makes things up can do harm, as everybody who is trusted can. But it gets answers, nobody panics, and whoever
/// stops says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_messages_are_answered() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    let heard = listen(&cluster, &stores).await;
    let mut random = StdRng::seed_from_u64(11);
    let (mut made_up, began) = (0, Instant::now());
    for _ in 0..3000 {
        let message = &heard[random.random_range(0..heard.len())];
        let mut bytes = message::encode(&message.request).expect("encodes").to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        let Ok(request) = message::decode::<Request>(&bytes) else { continue };
        made_up += 1;
        deliver(&cluster, &stores, Envelope { request, ..message.clone() }).await;
        if made_up == 400 || began.elapsed() > ENOUGH {
            break;
        }
    }
    assert!(made_up > 20, "only {made_up} messages could be read");
    for store in &stores {
        if let Some(why) = store.status().failed {
            assert!(!why.contains("panic"), "{:x}, after {made_up} messages: {why}", store.member_id());
        }
        tokio::time::timeout(ANSWER, store.shutdown()).await.expect("stops");
    }
}

/// Raft would take a leader's word that the log has another entry where one was committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_contradicts_what_was_committed_is_refused() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    leader(&stores.iter().collect::<Vec<_>>()).await;
    *cluster.wires.heard.lock() = Some(Vec::new());
    for n in 0..10 {
        put(&stores[0], "k", &n.to_string()).await;
    }
    for store in &stores {
        ready(store).await;
    }
    let heard = cluster.wires.heard.lock().take().expect("heard");
    for (n, store) in stores.iter().enumerate() {
        let said = heard.iter().filter(|message| message.to == store.member_id()).cloned();
        let mut told = said.filter_map(|message| match &message.request {
            Request::Append(append) => Some((append.vote, message)),
            _ => None,
        });
        // The leader hears no entries.
        let Some((vote, message)) = told.next_back() else { continue };
        let vote = SavedVote { term: vote.term + 1, ..vote };
        let prev = Some(Position { term: vote.term, index: 3 });
        let request = Request::Append(Append { vote, prev, entries: Vec::new(), commit: None });
        let answer = store.peer_handler().handle(Envelope { request, ..message }).await;
        assert!(matches!(answer, Err(Refused::Bad(_))), "{answer:?}");
        assert_eq!(store.status().failed, None);
        put(store, &format!("k{n}"), "").await;
    }
    let changed = stores[0].range(Range::prefix("k")).await.expect("range").kvs.len();
    assert!(changed >= 3, "nobody was told entries: {changed}");
    for store in &stores {
        store.shutdown().await;
    }
}

/// A leader's message with the receiver's own name would make Raft take it for its own decision to lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_in_the_name_of_another_is_refused() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    leader(&stores.iter().collect::<Vec<_>>()).await;
    for (n, store) in stores.iter().enumerate() {
        let (cluster_id, to) = store.ids();
        let from = stores[(n + 1) % 3].member_id();
        for node in [to, stores[(n + 2) % 3].member_id()] {
            let vote = SavedVote { term: 99, node, committed: true };
            let append = Append { vote, prev: None, entries: Vec::new(), commit: None };
            let ballot = Ballot { vote: SavedVote { committed: false, ..vote }, last: None, transfer: false };
            for request in [Request::Append(append), Request::Vote(ballot)] {
                let answer = store.peer_handler().handle(Envelope { cluster_id, from, to, request }).await;
                assert!(matches!(answer, Err(Refused::Bad(_))), "{answer:?}");
            }
        }
        assert_eq!(store.status().failed, None);
        put(store, &format!("k{n}"), "").await;
    }
    for store in &stores {
        store.shutdown().await;
    }
}
