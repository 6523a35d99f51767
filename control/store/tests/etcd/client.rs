//! The `etcd-client` crate makes the same calls to both and gets the same answers.

use std::fmt::Debug;

use etcd_client::*;

use crate::{mask, servers};

/// Notes answers, masked.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn note<T: Debug>(&mut self, what: &str, answer: Result<T, Error>) -> Option<T> {
        let text = match &answer {
            Ok(answer) => format!("{answer:?}"),
            Err(Error::GRpcStatus(status)) => format!("{:?} {}", status.code(), status.message()),
            Err(error) => error.to_string(),
        };
        let text = ["raft_term: ", "cluster_id: ", "member_id: "]
            .iter()
            .fold(text, |text, name| mask::after(&text, name));
        self.0.push(format!("{what}: {}", mask::numbers(&text)));
        answer.ok()
    }
}

async fn keys(client: &mut Client, notes: &mut Notes) {
    let put = PutOptions::new().with_prev_key();
    notes.note("put", client.put("k/1", "one", None).await);
    notes.note("put", client.put("k/2", "two", None).await);
    notes.note("put", client.put("k/1", "uno", Some(put)).await);
    notes.note("get", client.get("k/1", None).await);
    let sorted = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(1);
    notes.note("sorted", client.get("k/", Some(sorted)).await);
    let limits = GetOptions::new().with_prefix().with_min_mod_revision(4).with_max_mod_revision(9);
    notes.note("limits", client.get("k/", Some(limits)).await);
    let created = GetOptions::new().with_prefix().with_max_create_revision(2).with_keys_only();
    notes.note("created", client.get("k/", Some(created)).await);
    notes.note("count", client.get("k/", Some(GetOptions::new().with_prefix().with_count_only())).await);
    notes.note("old", client.get("k/1", Some(GetOptions::new().with_revision(2))).await);
    notes.note("negative", client.get("k/1", Some(GetOptions::new().with_limit(-1).with_revision(-1))).await);
    notes.note("future", client.get("k/1", Some(GetOptions::new().with_revision(99))).await);
    notes.note("delete", client.delete("k/2", Some(DeleteOptions::new().with_prev_key())).await);
    notes.note("no key", client.delete("", None).await);
    notes.note("large", client.put("large", vec![0; 1_700_000], None).await);
}

async fn transactions(client: &mut Client, notes: &mut Notes) {
    let inside = Txn::new()
        .when([Compare::version("k/1", CompareOp::Greater, 1)])
        .and_then([TxnOp::put("k/3", "three", None), TxnOp::get("k/1", None)])
        .or_else([TxnOp::put("k/3", "other", None)]);
    let txn = Txn::new()
        .when([
            Compare::value("k/1", CompareOp::Equal, "uno"),
            Compare::create_revision("k/9", CompareOp::Equal, 0),
        ])
        .and_then([
            TxnOp::put("k/1", "ein", Some(PutOptions::new().with_prev_key())),
            TxnOp::txn(inside),
            TxnOp::get("k/1", Some(GetOptions::new().with_revision(2))),
            TxnOp::delete("k/8", None),
        ]);
    notes.note("nested", client.txn(txn).await);
    let absent = Txn::new().when([Compare::value("k/9", CompareOp::NotEqual, "x")]).and_then([]);
    notes.note("absent", client.txn(absent).await);
    let range = Txn::new().when([Compare::mod_revision("k/", CompareOp::Greater, 3).with_prefix()]);
    notes.note("range", client.txn(range).await);
    let twice = Txn::new().and_then([TxnOp::put("a", "", None), TxnOp::put("a", "", None)]);
    notes.note("twice", client.txn(twice).await);
    let many = (0..129).map(|n| TxnOp::get(format!("{n}"), None)).collect::<Vec<_>>();
    notes.note("many", client.txn(Txn::new().and_then(many)).await);
    let no_lease = Txn::new()
        .and_then([TxnOp::put("b", "", None), TxnOp::put("a", "", Some(PutOptions::new().with_lease(5)))]);
    notes.note("no lease", client.txn(no_lease).await);
    notes.note("nothing changed", client.get("b", None).await);
    let future = Txn::new().and_then([TxnOp::get("a", Some(GetOptions::new().with_revision(99)))]);
    notes.note("future", client.txn(future).await);
}

/// Notes responses until so many events have come, one line for each event: how they are grouped is free.
async fn events(stream: &mut WatchStream, notes: &mut Notes, mut wanted: usize) {
    while wanted > 0 {
        let response = stream.message().await.expect("open").expect("a response");
        let kind =
            (response.watch_id(), response.created(), response.canceled(), response.compact_revision());
        if response.events().is_empty() {
            notes.note("response", Ok((kind, response.cancel_reason().to_owned())));
            wanted -= 1;
        }
        for event in response.events() {
            notes.note("event", Ok((kind.0, event)));
            wanted -= 1;
        }
    }
}

async fn watches(client: &mut Client, notes: &mut Notes) {
    let from = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut stream = client.watch("k/", Some(from)).await.expect("a stream");
    events(&mut stream, notes, 7).await;
    let named = WatchOptions::new().with_watch_id(7).with_filters([WatchFilterType::NoPut]);
    stream.watch("k/1", Some(named.clone())).await.expect("sent");
    events(&mut stream, notes, 1).await;
    stream.watch("k/1", Some(named)).await.expect("sent");
    events(&mut stream, notes, 1).await;
    stream.watch("z", Some(WatchOptions::new().with_range("a"))).await.expect("sent");
    events(&mut stream, notes, 1).await;
    stream.watch("k/1", None).await.expect("sent");
    events(&mut stream, notes, 1).await;
    stream.cancel(0).await.expect("sent");
    events(&mut stream, notes, 1).await;
    client.put("k/1", "filtered for one", None).await.expect("put");
    events(&mut stream, notes, 1).await;
    let mut revision = client.get("k/1", None).await.expect("get").header().expect("a header").revision();
    notes.note("revision", Ok(revision));
    // Of watches that are up to date, one answer for all; etcd gives none while one of them is not.
    stream.request_progress().await.expect("sent");
    let progress = stream.message().await.expect("open").expect("a response");
    notes.note("progress", Ok((progress.watch_id(), progress.header().expect("a header").revision())));
    client.compact(revision, None).await.expect("compact");
    stream.watch("k/1", Some(WatchOptions::new().with_start_revision(2))).await.expect("sent");
    events(&mut stream, notes, 2).await;
    revision += 2;
    stream.watch("k/1", Some(WatchOptions::new().with_start_revision(revision))).await.expect("sent");
    events(&mut stream, notes, 1).await;
}

async fn leases(client: &mut Client, notes: &mut Notes) {
    notes.note("grant", client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(42))).await);
    notes.note("again", client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(42))).await);
    notes.note("short", client.lease_grant(0, Some(LeaseGrantOptions::new().with_id(43))).await);
    notes.note("long", client.lease_grant(9_000_000_001, None).await);
    notes.note("put", client.put("leased", "", Some(PutOptions::new().with_lease(42))).await);
    let (mut keeper, mut answers) = client.lease_keep_alive(42).await.expect("a stream");
    keeper.keep_alive().await.expect("sent");
    notes
        .note("kept", answers.message().await.map(|answer| answer.map(|answer| (answer.id(), answer.ttl()))));
    let with_keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(42, Some(with_keys)).await;
    notes.note("left", left.map(|left| (left.granted_ttl(), left.ttl() > 97, left.keys().to_vec())));
    notes.note("none", client.lease_time_to_live(44, None).await);
    notes.note("revoke", client.lease_revoke(42).await);
    notes.note("gone", client.get("leased", None).await);
    notes.note("revoke", client.lease_revoke(42).await);
}

async fn locks(client: &mut Client, notes: &mut Notes) {
    for id in [10, 11] {
        client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(id))).await.expect("grant");
    }
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let lock = notes.note("lock", client.lock("name", with(10)).await).expect("locked");
    let mut other = client.clone();
    let waits = tokio::spawn(async move { other.lock("name", with(11)).await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    notes.note("waits", Ok(waits.is_finished()));
    notes.note("unlock", client.unlock(lock.key()).await);
    notes.note("turn", waits.await.expect("no panic"));

    notes.note("no leader", client.leader("election").await);
    let won = notes.note("campaign", client.campaign("election", "me", 10).await).expect("won");
    let leader = won.leader().expect("a leader").clone();
    notes.note("leader", client.leader("election").await);
    let mut observed = client.observe("election").await.expect("a stream");
    notes.note("observed", observed.message().await);
    let as_leader = ProclaimOptions::new().with_leader(leader.clone());
    notes.note("proclaim", client.proclaim("still me", Some(as_leader.clone())).await);
    notes.note("observed", observed.message().await);
    notes.note("resign", client.resign(Some(ResignOptions::new().with_leader(leader))).await);
    notes.note("not leader", client.proclaim("no more", Some(as_leader)).await);
    notes.note("no leader", client.leader("election").await);
}

async fn upkeep(client: &mut Client, notes: &mut Notes) {
    notes.note(
        "alarms",
        client.alarm(AlarmAction::Get, AlarmType::None, None).await.map(|a| a.alarms().len()),
    );
    notes.note("status", client.status().await.map(|s| (s.leader() != 0, s.db_size() > 0, s.errors().len())));
    notes.note("hash", client.hash_kv(0).await.map(|hash| (hash.hash(), hash.compact_version())));
    notes.note("future", client.hash_kv(999).await);
    notes.note("compacted", client.hash_kv(2).await);
    notes.note("defragment", client.defragment().await);
    notes.note("move", client.move_leader(5).await);
    let mut snapshot = client.snapshot().await.expect("a stream");
    let (mut bytes, mut left) = (0, 0);
    while let Some(part) = snapshot.message().await.expect("open") {
        bytes += part.blob().len();
        left = part.remaining_bytes();
    }
    notes.note("snapshot", Ok((bytes % 512, left)));
    notes.note(
        "members",
        client.member_list().await.map(|list| (list.members().len(), list.members()[0].name().to_owned())),
    );
}

async fn run(endpoint: &str) -> Vec<String> {
    let mut client = Client::connect([endpoint], None).await.expect("connects");
    let mut notes = Notes::default();
    keys(&mut client, &mut notes).await;
    transactions(&mut client, &mut notes).await;
    leases(&mut client, &mut notes).await;
    watches(&mut client, &mut notes).await;
    locks(&mut client, &mut notes).await;
    upkeep(&mut client, &mut notes).await;
    notes.0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_gets_the_same_answers() {
    let (ours, theirs) = (servers::ours().await, servers::theirs().await);
    let time = std::time::Duration::from_secs(60);
    let ours = tokio::time::timeout(time, run(&ours.endpoint)).await.expect("in time");
    let theirs = tokio::time::timeout(time, run(&theirs.endpoint)).await.expect("in time");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "ours, then etcd's");
    }
    assert_eq!(ours.len(), theirs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_hurts_itself_alone() {
    let ours = servers::ours().await;
    let mut client = Client::connect([&ours.endpoint], None).await.expect("connects");
    let mut slow = client.watch("k", Some(WatchOptions::new().with_prefix())).await.expect("a stream");
    let mut other = Client::connect([&ours.endpoint], None).await.expect("connects");
    let mut quick = other.watch("k", Some(WatchOptions::new().with_prefix())).await.expect("a stream");
    const COUNT: usize = 400;
    let reads = tokio::spawn(async move {
        let mut seen = 0;
        while seen < COUNT {
            seen += quick.message().await.expect("open").expect("a response").events().len();
        }
    });
    let mut writer = Client::connect([&ours.endpoint], None).await.expect("connects");
    // Far more than windows and buffers take.
    for n in 0..COUNT {
        writer.put(format!("k{n}"), vec![1; 100_000], None).await.expect("put");
    }
    tokio::time::timeout(std::time::Duration::from_secs(20), reads).await.expect("in time").expect("reads");
    let mut next = 0;
    while next < COUNT {
        for event in slow.message().await.expect("open").expect("a response").events() {
            assert_eq!(event.kv().expect("a key").key(), format!("k{next}").as_bytes(), "nothing is missed");
            next += 1;
        }
    }
}
