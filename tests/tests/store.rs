//! Three members of the store as processes: leaders and followers are killed and stopped under load, and nothing that was
//! acknowledged is lost; a snapshot saved, the data destroyed and restored holds every key. The clients are etcd's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrack_tests::{Host, binary, patience};
use serde_json::Value;

const NAMES: [&str; 3] = ["a", "b", "c"];
/// How many times a member is killed or stopped; more with `CARRACK_ROUNDS`.
const ROUNDS: usize = 12;

/// The members, each with a directory; a cluster of processes on one host.
struct Members {
    host: Arc<Host>,
    dir: tempfile::TempDir,
    running: [Option<Child>; 3],
}

fn client(n: usize) -> String {
    format!("http://127.0.0.1:{}", 12379 + n)
}

fn peer(n: usize) -> String {
    format!("http://127.0.0.1:{}", 22380 + n)
}

impl Members {
    fn new(host: Arc<Host>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut members = Self { host, dir, running: [None, None, None] };
        (0..3).try_for_each(|n| members.start(n))?;
        Ok(members)
    }

    fn data_dir(&self, n: usize) -> PathBuf {
        self.dir.path().join(NAMES[n])
    }

    fn start(&mut self, n: usize) -> Result<()> {
        let all: Vec<String> = (0..3).map(|n| format!("{}={}", NAMES[n], peer(n))).collect();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        let mut command = self.host.command(binary()?);
        command.args(["store", "--name", NAMES[n], "--listen-client-urls", &client(n)]);
        command.args(["--listen-peer-urls", &peer(n), "--initial-cluster", &all.join(",")]);
        command.arg("--data-dir").arg(self.data_dir(n)).stderr(log).stdout(Stdio::null());
        self.running[n] = Some(command.spawn()?);
        Ok(())
    }

    /// A signal by name to a member.
    fn signal(&self, n: usize, name: &str) -> Result<()> {
        let pid = self.running[n].as_ref().context("the member does not run")?.id();
        let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{name} {pid}") }
    }

    fn kill(&mut self, n: usize) -> Result<()> {
        self.signal(n, "KILL")?;
        if let Some(mut child) = self.running[n].take() {
            child.wait()?;
        }
        Ok(())
    }

    /// `carrack ctl … -o json`; it fails if a member does not answer, and says what it knows all the same.
    fn ctl(&self, args: &[&str]) -> Result<Value> {
        let all: Vec<String> = (0..3).map(client).collect();
        let output = self
            .host
            .command(binary()?)
            .args(["ctl", "-o", "json", "--endpoints", &all.join(",")])
            .args(args)
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).with_context(|| errors)
    }

    /// The member that leads, once `of` members agree that it does.
    fn leader(&self, of: usize) -> Result<usize> {
        let until = Instant::now() + patience(Duration::from_secs(20));
        while Instant::now() < until {
            let status = self.ctl(&["status"]).unwrap_or_default();
            let rows: Vec<Value> = status.as_array().cloned().unwrap_or_default();
            let role = |wanted: &'static str| rows.iter().filter(move |row| row["role"] == wanted);
            let leaders: Vec<_> = role("leader").collect();
            if let [one] = leaders.as_slice()
                && leaders.len() + role("follower").count() >= of
            {
                return NAMES.iter().position(|name| one["name"] == *name).context("a name");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("no leader: {}", std::fs::read_to_string(self.dir.path().join("log"))?)
    }

    fn etcdctl(&self, endpoints: &[usize], args: &[&str]) -> Result<String> {
        let all: Vec<String> = endpoints.iter().map(|n| client(*n)).collect();
        etcdctl(&self.host, &all.join(","), args)
    }

    /// Every key with its value and revisions, as one member knows them by itself.
    fn contents(&self, n: usize) -> Result<Value> {
        let text = self.etcdctl(&[n], &["get", "", "--prefix", "-w", "json", "--consistency=s"])?;
        let mut answer: Value = serde_json::from_str(&text)?;
        Ok(answer["kvs"].take())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn etcdctl(host: &Host, endpoints: &str, args: &[&str]) -> Result<String> {
    let mut command = host.command("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints, "--command-timeout=4s"]).args(args);
    let output = command.output().context("etcdctl: `cargo xtask setup` installs it")?;
    if !output.status.success() {
        bail!("etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Puts one key after the other, on whichever member answers; the numbers that were acknowledged.
fn write_until(host: &Host, stop: &AtomicBool) -> Vec<usize> {
    let all: Vec<String> = (0..3).map(client).collect();
    let mut done = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if etcdctl(host, &all.join(","), &["put", &format!("key-{n:06}"), &format!("value {n}")]).is_ok() {
            done.push(n);
        }
    }
    done
}

#[test]
fn members_that_are_killed_and_stopped_lose_nothing() {
    let host = Arc::new(Host::isolated("store").unwrap());
    let mut members = Members::new(host.clone()).unwrap();
    members.leader(3).unwrap();
    let rounds = std::env::var("CARRACK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (host, stop) = (host.clone(), stop.clone());
            std::thread::spawn(move || write_until(&host, &stop))
        })
        .collect();
    let mut elections = Vec::new();
    for round in 0..rounds {
        let leader = members.leader(3).unwrap();
        // By turns: kill the leader, kill a follower, stop the leader, stop a follower.
        let victim = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
        let began = Instant::now();
        if round % 4 < 2 {
            members.kill(victim).unwrap();
            members.leader(2).unwrap();
            elections.extend((victim == leader).then(|| began.elapsed()));
            members.start(victim).unwrap();
        } else {
            members.signal(victim, "STOP").unwrap();
            std::thread::sleep(Duration::from_millis(1500));
            members.signal(victim, "CONT").unwrap();
        }
    }
    members.leader(3).unwrap();
    stop.store(true, Ordering::Relaxed);
    let done: Vec<usize> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    assert!(done.len() > 5 * rounds, "only {} writes in {rounds} rounds", done.len());
    let all = members.etcdctl(&[0, 1, 2], &["get", "key-", "--prefix"]).unwrap();
    let kept: std::collections::HashSet<&str> = all.lines().collect();
    let lost: Vec<_> = done.iter().filter(|n| !kept.contains(format!("key-{n:06}").as_str())).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    // What each of them has by itself is the same, to the revision.
    let contents = carrack_tests::eventually_sync(Duration::from_secs(20), || {
        let each: Vec<Value> = (0..3).map(|n| members.contents(n)).collect::<Result<_>>()?;
        Ok((each[0] == each[1] && each[1] == each[2]).then(|| each[0].clone()))
    });
    assert!(contents.unwrap().as_array().unwrap().len() >= done.iter().max().unwrap() / 2);
    println!("{} writes acknowledged, none lost; new leaders after {elections:.0?}", done.len());
}

#[test]
fn what_was_saved_is_restored_to_the_revision() {
    let host = Arc::new(Host::isolated("restore").unwrap());
    let mut members = Members::new(host.clone()).unwrap();
    members.leader(3).unwrap();
    for n in 0..20 {
        members.etcdctl(&[n % 3], &["put", &format!("key-{}", n % 7), &format!("value {n}")]).unwrap();
    }
    members.etcdctl(&[0], &["del", "key-3"]).unwrap();
    let before = members.contents(members.leader(3).unwrap()).unwrap();
    let old = members.etcdctl(&[0], &["get", "key-3", "--rev=5", "-w", "json"]).unwrap();
    let file = members.dir.path().join("saved.db");
    let saved = members.ctl(&["snapshot", "save", file.to_str().unwrap()]).unwrap();
    (0..3).for_each(|n| members.kill(n).unwrap());
    (0..3).for_each(|n| std::fs::remove_dir_all(members.data_dir(n)).unwrap());

    let new = members.data_dir(0);
    let args = ["snapshot", "restore", file.to_str().unwrap(), "--data-dir", new.to_str().unwrap()];
    let restored = members.ctl(&args).unwrap();
    assert_eq!(saved["revision"], restored["revision"]);
    assert!(members.ctl(&args).is_err(), "a directory that is not empty is left alone");
    let mut alone = host.command(binary().unwrap());
    alone.args(["store", "--listen-client-urls", &client(0), "--data-dir"]).arg(&new).stderr(Stdio::null());
    members.running[0] = Some(alone.spawn().unwrap());
    let after = carrack_tests::eventually_sync(Duration::from_secs(20), || Ok(members.contents(0).ok()));
    assert_eq!(before, after.unwrap());
    let kvs = |text: &str| serde_json::from_str::<Value>(text).unwrap()["kvs"].clone();
    let again = members.etcdctl(&[0], &["get", "key-3", "--rev=5", "-w", "json"]).unwrap();
    assert_eq!(kvs(&old), kvs(&again), "older revisions are there too");
}
