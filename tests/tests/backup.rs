//! Backups on a schedule, to a directory and to an S3-compatible store (moto's server, from PyPI): they are made, thinned
//! out, and the last one restores to what was there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::http;
use carrack_tests::{Host, binary, eventually_sync, python};
use serde_json::Value;

const MOTO: [&str; 1] = ["moto[server]==5.2.5"];
const STORE: &str = "http://127.0.0.1:12379";
const S3: &str = "127.0.0.1:15000";
const BUCKET: &str = "backups";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quietly(command: &mut Command) -> Result<Running> {
    Ok(Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
}

fn etcdctl(host: &Host, args: &[&str]) -> Result<String> {
    let output =
        host.command("etcdctl").env("ETCDCTL_API", "3").args(["--endpoints", STORE]).args(args).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A store that backs up each second, keeps each of these for three seconds, and each of ten seconds for a minute.
fn store(host: &Host, dir: &Path) -> Result<Running> {
    let mut command = host.command(binary()?);
    command.args(["store", "--listen-client-urls", STORE, "--backup-tiers", "1s/3s,10s/60s"]);
    command.arg("--data-dir").arg(dir.join("data")).arg("--backup-to").arg(dir.join("kept"));
    command.args([
        "--backup-to",
        &format!("s3://{BUCKET}/one/cluster"),
        "--backup-s3-endpoint",
        &format!("http://{S3}"),
    ]);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    quietly(&mut command)
}

fn object_store(host: &Host, python: &Path) -> Result<Running> {
    let (ip, port) = S3.split_once(':').context("an address")?;
    quietly(host.command(python).args(["-m", "moto.server", "-H", ip, "-p", port]))
}

/// The names of the backups in the bucket, oldest first.
async fn objects(at: SocketAddr) -> Result<Vec<String>> {
    let listing = http::get(at, &format!("/{BUCKET}?list-type=2&prefix=one/cluster/")).await?;
    let keys = listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
    Ok(keys.filter_map(|key| Some(key.strip_prefix("one/cluster/")?.to_owned())).collect())
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[test]
fn backups_are_made_thinned_out_and_restored() {
    let host = Arc::new(Host::isolated("backup").unwrap());
    let inner = host.clone();
    // Before the test's host, which has no way to the package index.
    let python = python::python("moto", &MOTO).unwrap();
    host.run(async move { backups(&inner, &python).await }).unwrap();
}

async fn backups(host: &Host, python: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at: SocketAddr = S3.parse()?;
    let _objects = object_store(host, python)?;
    carrack_tests::eventually("the object store answers", Duration::from_secs(30), || async {
        let request = hyper::Request::put(format!("/{BUCKET}")).header("host", S3).body(Default::default())?;
        Ok(http::send(at, request).await?.status().is_success().then_some(()))
    })
    .await?;
    let running = store(host, dir.path())?;
    eventually_sync(Duration::from_secs(20), || etcdctl(host, &["put", "key", "1"]).map(Some))?;
    for n in 2..9 {
        etcdctl(host, &["put", "key", &n.to_string()])?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The newest holds the last put; those of three seconds ago are gone but for the first of ten seconds.
    let kept = dir.path().join("kept");
    let last = eventually_sync(Duration::from_secs(20), || {
        Ok(files(&kept).into_iter().rfind(|name| name.contains("-r9.snapshot")))
    })?;
    let (there, in_bucket) = (files(&kept), objects(at).await?);
    for names in [&there, &in_bucket] {
        ensure!((2..=7).contains(&names.len()), "{names:?}");
    }
    ensure!(!there.iter().any(|name| name.starts_with(".partial")), "{there:?}");
    drop(running);

    // From the object store, into another directory.
    let newest = objects(at).await?.into_iter().max().context("no backup")?;
    let saved = dir.path().join("fetched");
    let request = hyper::Request::get(format!("/{BUCKET}/one/cluster/{newest}")).header("host", S3);
    std::fs::write(&saved, http::send(at, request.body(Default::default())?).await?.body())?;
    ensure!(last <= newest || newest.contains("-r9."), "{last} {newest}");
    std::fs::rename(dir.path().join("data"), dir.path().join("old"))?;
    let mut restore = host.command(binary()?);
    restore.args(["ctl", "-o", "json", "snapshot", "restore"]).arg(&saved);
    let output = restore.arg("--data-dir").arg(dir.path().join("data")).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let restored: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(restored["revision"] == 9, "{restored}");
    let _again = store(host, dir.path())?;
    let value = eventually_sync(Duration::from_secs(20), || {
        etcdctl(host, &["get", "key", "--print-value-only"]).map(Some)
    })?;
    ensure!(value.trim() == "8", "{value}");
    Ok(())
}
