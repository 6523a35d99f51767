//! A snapshot that was saved, and restored after all data was destroyed, holds every key and revision. What is restored
//! is a new cluster, in which members of the old one have no part.

use std::time::Duration;

use carrack_tests::lan::Lan;
use carrack_tests::members::Members;
use carrack_tests::{binary, eventually_sync};
use serde_json::Value;

/// `carrack ctl … -o json` at one member.
fn ctl(members: &Members, n: usize, args: &[&str]) -> anyhow::Result<Value> {
    let mut command = members.lan.client(binary()?);
    let output =
        command.args(["ctl", "-o", "json", "--endpoints", &members.client_url(n)]).args(args).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Every key with its value and revisions, as one member knows them by itself.
fn contents(members: &Members, n: usize) -> anyhow::Result<Value> {
    kvs(&members.etcdctl(n, &["get", "", "--prefix", "-w", "json", "--consistency=s"])?)
}

fn kvs(text: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str::<Value>(text)?["kvs"].take())
}

#[test]
fn what_was_saved_is_restored_to_the_revision_as_a_cluster_of_its_own() {
    let mut members = Members::start(Lan::new("restore", 3).unwrap(), 3).unwrap();
    let leader = members.leader(&[0, 1, 2]).unwrap();
    for n in 0..20 {
        members.etcdctl(n % 3, &["put", &format!("key-{}", n % 7), &format!("value {n}")]).unwrap();
    }
    members.etcdctl(0, &["del", "key-3"]).unwrap();
    let before = contents(&members, leader).unwrap();
    let old = members.etcdctl(0, &["get", "key-3", "--rev=5", "-w", "json"]).unwrap();
    let file = members.dir.path().join("saved.db");
    let saved = ctl(&members, 0, &["snapshot", "save", file.to_str().unwrap()]).unwrap();

    // One of them loses its data and gets the snapshot's; the others go on without it.
    members.end(0, "KILL").unwrap();
    std::fs::remove_dir_all(members.data_dir(0)).unwrap();
    let dir = members.data_dir(0);
    let args = ["snapshot", "restore", file.to_str().unwrap(), "--data-dir", dir.to_str().unwrap()];
    let restored = ctl(&members, 0, &args).unwrap();
    assert_eq!(saved["revision"], restored["revision"]);
    assert!(ctl(&members, 0, &args).is_err(), "a directory that is not empty is left alone");
    members.start_with(0, &[]).unwrap();
    let after = eventually_sync(Duration::from_secs(20), || Ok(contents(&members, 0).ok()));
    assert_eq!(before, after.unwrap());
    let again = members.etcdctl(0, &["get", "key-3", "--rev=5", "-w", "json"]).unwrap();
    assert_eq!(kvs(&old).unwrap(), kvs(&again).unwrap(), "older revisions are there too");

    // Each cluster lives on by itself.
    members.leader(&[1, 2]).unwrap();
    members.etcdctl(1, &["put", "where", "old"]).unwrap();
    members.etcdctl(0, &["put", "where", "new"]).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let read = |n| members.etcdctl(n, &["get", "where", "--print-value-only"]).unwrap().trim().to_owned();
    assert_eq!([read(0), read(1), read(2)], ["new", "old", "old"]);
    let list = |n| members.etcdctl(n, &["member", "list"]).unwrap().lines().count();
    assert_eq!([list(0), list(1)], [1, 3]);
}
