//! Random histories against a model that is too simple to be wrong: a whole map for each revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_store::*;
use proptest::prelude::*;

use crate::common::*;
use carrack_simulation::disk::SimDisk;

type Key = u8;

#[derive(Clone, Debug)]
enum Step {
    /// Keys to put and keys to delete, none twice.
    Txn {
        puts: Vec<(Key, u16)>,
        deletes: Vec<Key>,
    },
    /// Deletes the keys of a range.
    DeleteSpan(Key, Key),
    /// Puts if the key was last changed in the given revision of the model, shifted by this.
    Swap {
        key: Key,
        shift: i64,
        value: u16,
    },
    /// Compacts so many revisions behind the newest.
    Compact(i64),
    Checkpoint,
    /// Shuts down and opens.
    Restart,
    /// Loses power and opens.
    PowerLoss,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12u8;
    let puts = prop::collection::vec((key.clone(), any::<u16>()), 0..4);
    let deletes = prop::collection::vec(key.clone(), 0..3);
    let txn = (puts, deletes).prop_map(|(mut puts, mut deletes)| {
        puts.sort_by_key(|(key, _)| *key);
        puts.dedup_by_key(|(key, _)| *key);
        deletes.retain(|key| puts.iter().all(|(put, _)| put != key));
        Step::Txn { puts, deletes }
    });
    let step = prop_oneof![
        10 => txn,
        2 => (key.clone(), key.clone()).prop_map(|(a, b)| Step::DeleteSpan(a, b)),
        4 => (key, -1..2i64, any::<u16>()).prop_map(|(key, shift, value)| Step::Swap { key, shift, value }),
        1 => (0..10i64).prop_map(Step::Compact),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::PowerLoss),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    value: u16,
    create: i64,
    modified: i64,
    version: i64,
}

#[derive(Default)]
struct Model {
    /// The keys as of each revision; the first one is revision 1.
    revisions: Vec<BTreeMap<Key, Known>>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        self.revisions.len() as i64
    }

    fn now(&self) -> BTreeMap<Key, Known> {
        self.revisions.last().cloned().unwrap_or_default()
    }

    fn at(&self, revision: i64) -> &BTreeMap<Key, Known> {
        &self.revisions[revision as usize - 1]
    }

    /// Carries out changes; they get a revision if there are any.
    fn change(&mut self, puts: &[(Key, u16)], deletes: &[Key]) -> i64 {
        let (mut next, revision) = (self.now(), self.revision() + 1);
        for (key, value) in puts {
            let old = next.get(key);
            let known = Known {
                value: *value,
                create: old.map_or(revision, |old| old.create),
                modified: revision,
                version: old.map_or(1, |old| old.version + 1),
            };
            next.insert(*key, known);
        }
        let deleted = deletes.iter().filter(|key| next.remove(key).is_some()).count();
        if !puts.is_empty() || deleted > 0 {
            self.revisions.push(next);
        }
        self.revision()
    }
}

fn name(key: Key) -> String {
    format!("k{key:02}")
}

fn kv(key: Key, known: &Known) -> KeyValue {
    KeyValue::new(name(key), known.value.to_string(), known.create, known.modified, known.version, 0)
}

async fn run(steps: Vec<Step>, seed: u64) {
    let mut disk = Arc::new(SimDisk::new(seed, u64::MAX));
    let mut store = reopen(&disk).await;
    let mut model = Model { revisions: vec![BTreeMap::new()], compacted: 0 };
    for step in steps {
        match step {
            Step::Txn { puts, deletes } => {
                let ops = puts.iter().map(|(key, value)| Op::put(name(*key), value.to_string()));
                let ops = ops.chain(deletes.iter().map(|key| Op::delete(name(*key)))).collect();
                let done = store.txn(Txn::of(ops)).await.expect("txn");
                assert_eq!(done.revision, model.change(&puts, &deletes));
            }
            Step::DeleteSpan(from, to) => {
                let keys = KeyRange::span(name(from), name(to));
                let done = store.txn(Txn::of(vec![Op::Delete { keys, prev_kv: true }])).await.expect("txn");
                let doomed: Vec<_> = model.now().range(from..to.max(from)).map(|(key, _)| *key).collect();
                assert_eq!(deleted(&done), doomed.len() as u64);
                assert_eq!(done.revision, model.change(&[], &doomed));
            }
            Step::Swap { key, shift, value } => {
                let last = model.now().get(&key).map_or(0, |known| known.modified);
                let compare = Compare::mod_revision(name(key), last + shift);
                let txn = Txn::put(name(key), value.to_string()).when(compare).or_else(Op::get(name(key)));
                let done = store.txn(txn).await.expect("txn");
                assert_eq!(done.succeeded, shift == 0);
                if shift == 0 {
                    model.change(&[(key, value)], &[]);
                }
                assert_eq!(done.revision, model.revision());
            }
            Step::Compact(behind) => {
                let revision = model.revision() - behind;
                let done = store.compact(revision).await;
                if revision <= model.compacted {
                    let compacted = model.compacted;
                    assert_eq!(done, Err(WriteError::Compacted { requested: revision, compacted }));
                } else {
                    assert_eq!(done, Ok(()));
                    model.compacted = revision;
                }
            }
            Step::Checkpoint => store.checkpoint().await.expect("checkpoint"),
            Step::Restart => {
                store.shutdown().await;
                store = reopen(&disk).await;
            }
            Step::PowerLoss => {
                disk = Arc::new(disk.after_power_loss());
                store = reopen(&disk).await;
            }
        }
        assert_eq!(store.revision(), model.revision());
    }
    check_reads(&store, &model).await;
    check_watches(&store, &model).await;
}

/// Each kept revision reads as the model says, the others are refused.
async fn check_reads(store: &Store, model: &Model) {
    for revision in 1..=model.revision() {
        let read = store.range(Range::prefix("k").at(revision)).await;
        if revision < model.compacted {
            let compacted = model.compacted;
            assert_eq!(read, Err(ReadError::Compacted { requested: revision, compacted }));
            continue;
        }
        let found: Vec<_> = read.expect("read").kvs.iter().map(|kv| kv.as_ref().clone()).collect();
        let want: Vec<_> = model.at(revision).iter().map(|(key, known)| kv(*key, known)).collect();
        assert_eq!(found, want, "at {revision}");
    }
}

/// A watch from each kept revision delivers exactly the differences between the model's revisions.
async fn check_watches(store: &Store, model: &Model) {
    for start in model.compacted.max(1)..=model.revision() {
        let mut watcher = store.watch(Watch::prefix("k").since(start)).expect("watch");
        for revision in start.max(2)..=model.revision() {
            let batch = watcher.next().await.expect("open").expect("events");
            assert_eq!(batch.revision, revision);
            let (before, after) = (model.at(revision - 1), model.at(revision));
            let mut want = BTreeMap::new();
            for (key, known) in after.iter().filter(|(_, known)| known.modified == revision) {
                want.insert(
                    name(*key),
                    (EventKind::Put, kv(*key, known), before.get(key).map(|old| kv(*key, old))),
                );
            }
            for (key, old) in before.iter().filter(|(key, _)| !after.contains_key(key)) {
                let mark = KeyValue::new(name(*key), "", 0, revision, 0, 0);
                want.insert(name(*key), (EventKind::Delete, mark, Some(kv(*key, old))));
            }
            if revision <= model.compacted {
                // What was before may be compacted, and is left out then.
                want.values_mut().for_each(|(_, _, prev)| *prev = None);
            }
            let found = batch.events.iter().map(|event| {
                let prev = event.prev.as_deref().cloned().filter(|_| revision > model.compacted);
                (
                    String::from_utf8_lossy(&event.kv.key).into_owned(),
                    (event.kind, event.kv.as_ref().clone(), prev),
                )
            });
            let found: BTreeMap<_, _> = found.collect();
            assert_eq!(found, want, "revision {revision} from {start}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn random_histories_match_the_model(steps in steps(), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(run(steps, seed));
    }
}
