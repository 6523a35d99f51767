//! `kill -9` on a real file system: what a process was told before it died is there afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use carrack_store::*;

use crate::common::*;

const DIR: &str = "CARRACK_STORE_TEST_DIR";
const ROUNDS: u64 = 30;

/// Not a test of its own: the process that [`killed_processes_lose_nothing`] starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only for killed_processes_lose_nothing"]
async fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Store::open(small(Options::new(dir))).await.expect("opens");
    let start = store.revision();
    let mut writers = Vec::new();
    for id in 0..4 {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            for n in 0u64.. {
                let key = format!("w/{id}/{}", n % 50);
                let done = put(&store, &key, &format!("{start} {n}")).await;
                // One line in one write, so that a kill cannot leave half of it.
                let line = format!("\nACK {key} {}\n", done.revision);
                std::io::stdout().write_all(line.as_bytes()).expect("written");
            }
        }));
    }
    for writer in writers {
        writer.await.expect("writer");
    }
}

/// Runs a writer for so long, kills it, and gives what it was told: key to revision.
fn told_before_the_kill(dir: &std::path::Path, life: Duration) -> BTreeMap<String, i64> {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "kill::writes_until_it_is_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("child");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (mut told, mut first) = (BTreeMap::new(), None);
    for line in lines.map_while(Result::ok) {
        let words: Vec<_> = line.split(' ').collect();
        if let ["ACK", key, revision] = words[..] {
            told.insert(key.to_owned(), revision.parse().expect("a revision"));
            let born = *first.get_or_insert_with(Instant::now);
            if born.elapsed() >= life {
                break;
            }
        }
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    told
}

#[test]
fn killed_processes_lose_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let mut newest = 1;
    for round in 0..ROUNDS {
        let told = told_before_the_kill(dir.path(), Duration::from_millis(5 + round * 7 % 60));
        assert!(!told.is_empty(), "round {round}: nothing was acknowledged");
        runtime.block_on(async {
            let store = Store::open(small(Options::new(dir.path()))).await.expect("opens");
            for (key, revision) in &told {
                let read = range(&store, Range::key(key.clone())).await;
                let found = read.kvs.first().map_or(0, |kv| kv.mod_revision);
                assert!(
                    found >= *revision,
                    "round {round}: {key} is at {found}, {revision} was acknowledged"
                );
                // And it is exactly what was acknowledged, not only something as new.
                let then = range(&store, Range::key(key.clone()).at(*revision)).await;
                assert_eq!(
                    then.kvs.first().map(|kv| kv.mod_revision),
                    Some(*revision),
                    "round {round}: {key}"
                );
            }
            assert!(store.revision() > newest, "round {round}");
            newest = store.revision();
            // Every other time without the order of a shutdown: a store that is dropped lets go on its own.
            if round % 2 == 0 {
                store.shutdown().await;
            }
            drop(store);
            let start = Instant::now();
            let again = loop {
                match Store::open(small(Options::new(dir.path()))).await {
                    Err(OpenError::InUse(_)) if start.elapsed() < Duration::from_secs(10) => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    opened => break opened.expect("opens"),
                }
            };
            again.shutdown().await;
        });
    }
}
