//! `etcdctl` cannot tell which is which.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::{mask, servers};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Step {
    args: Vec<String>,
    input: String,
    time: Duration,
    cut_off: bool,
    shape: bool,
}

fn script() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in include_str!("script.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some(input) = line.strip_prefix('|') {
            let step = steps.last_mut().expect("a command before its input");
            step.input += input.trim();
            step.input += "\n";
            continue;
        }
        let mut words: Vec<String> = line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        let shape = words[0] == "~";
        let cut_off = words[0] == "for";
        let mut time = PATIENCE;
        if shape {
            words.remove(0);
        } else if cut_off {
            time = Duration::from_millis(words[1].parse().expect("milliseconds"));
            words.drain(..2);
        }
        steps.push(Step { args: words, input: String::new(), time, cut_off, shape });
    }
    steps
}

/// Runs the script; gives what each step printed.
async fn run(endpoint: &str, dir: &str) -> Vec<String> {
    let mut lease = String::new();
    let mut printed = Vec::new();
    for step in script() {
        let fill = |arg: &String| arg.replace("<lease>", &lease).replace("<dir>", dir);
        let args: Vec<String> = step.args.iter().map(fill).collect();
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoint])
            .args(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl is there: `cargo xtask setup` installs it");
        child.stdin.take().expect("an input").write_all(step.input.as_bytes()).await.expect("takes it");
        let pid = child.id().expect("runs").to_string();
        let mut stdout = child.stdout.take().expect("an output");
        let mut printed_of_it = Vec::new();
        // What is cut off has its time from its first word on: a busy machine may take long to get there.
        let first = tokio::time::timeout(PATIENCE, stdout.read_buf(&mut printed_of_it)).await;
        first.unwrap_or_else(|_| panic!("no answer to {args:?}")).expect("reads");
        if tokio::time::timeout(step.time, stdout.read_to_end(&mut printed_of_it)).await.is_err() {
            assert!(step.cut_off, "no end of {args:?}");
            Command::new("kill").arg(&pid).status().await.expect("kill");
            stdout.read_to_end(&mut printed_of_it).await.expect("reads");
        }
        let output = child.wait_with_output().await.expect("output");
        let text =
            String::from_utf8_lossy(&printed_of_it).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if let Some((_, id)) = text.split_once("lease ").filter(|_| text.contains("granted with")) {
            lease = id.split(' ').next().unwrap_or_default().to_owned();
        }
        let lines = text.lines().filter_map(|line| mask::line(line, endpoint, dir));
        let lines = lines.map(|line| if step.shape { mask::shape(&line) } else { line });
        let code = if step.cut_off { None } else { output.status.code() };
        printed.push(format!(
            "$ {}\n{}\n= {code:?}",
            step.args.join(" "),
            lines.collect::<Vec<_>>().join("\n")
        ));
    }
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_prints_the_same() {
    let (ours, theirs) = (servers::ours().await, servers::theirs().await);
    let dirs = (ours.dir.path().to_string_lossy(), theirs.dir.path().to_string_lossy());
    let (ours, theirs) = tokio::join!(run(&ours.endpoint, &dirs.0), run(&theirs.endpoint, &dirs.1));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        // Members of theirs always have a URL for peers.
        let ours = ours.replace("default, , http", "default, http://<number>:<number>, http");
        assert_eq!(&ours, theirs, "ours, then etcd's");
    }
    assert!(theirs.iter().any(|step| step.contains("\"hash\":")), "the script did something: {theirs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_raises_the_alarm_and_there_is_a_way_out() {
    let ours = servers::ours_with(|options| options.quota_bytes = 20_000).await;
    let ctl = async |args: &[&str]| {
        let output = Command::new("etcdctl").args(["--endpoints", &ours.endpoint]).args(args).output().await;
        let output = output.expect("etcdctl is there");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let value = "x".repeat(5000);
    let mut full = String::new();
    for key in ["1", "2", "3", "4", "5", "6"] {
        full = ctl(&["put", key, &value]).await;
    }
    assert!(full.contains("Error: etcdserver: mvcc: database space exceeded"), "{full}");
    assert!(ctl(&["alarm", "list"]).await.contains("alarm:NOSPACE"));
    assert!(ctl(&["endpoint", "status"]).await.contains("alarm:NOSPACE"));
    assert_eq!(ctl(&["get", "1", "--keys-only"]).await.trim(), "1");
    assert_eq!(ctl(&["del", "", "--prefix"]).await.trim(), "4");
    ctl(&["compaction", &ours.store.revision().to_string()]).await;
    assert!(ctl(&["defrag"]).await.contains("Finished"));
    assert!(ctl(&["put", "1", "x"]).await.contains("space exceeded"), "until it is disarmed");
    assert!(ctl(&["alarm", "disarm"]).await.contains("alarm:NOSPACE"));
    assert_eq!(ctl(&["put", "1", "x"]).await.trim(), "OK");
    assert_eq!(ctl(&["alarm", "list"]).await, "");
}
