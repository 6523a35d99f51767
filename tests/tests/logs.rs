//! Logs that grow beyond one file: rotated while carrack is killed and restarted, followed and read as one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::{Scene, eventually, on_a_scene};
use futures::{AsyncBufReadExt, TryStreamExt};
use kube::api::LogParams;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// So many lines, of which a file of 10 MiB holds about 40,000.
const LINES: u64 = 130_000;
/// The kubelet's limits.
const MAX_FILES: usize = 5;
const MAX_BYTES: u64 = 10 << 20;

/// The numbers of all lines, which have to be in order and without gaps.
fn check(numbers: impl Iterator<Item = u64>) -> Result<u64> {
    let mut next = 1;
    for number in numbers {
        ensure!(number == next, "line {number} follows line {}", next - 1);
        next += 1;
    }
    Ok(next - 1)
}

fn number(line: &str) -> u64 {
    line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[test]
fn logs_rotate_and_no_line_is_lost() {
    on_a_scene("logs", |mut scene| async move {
        let print = |from: u64, to: u64| {
            format!("awk 'BEGIN {{ for (i = {from}; i <= {to}; i++) printf \"%d %0200d\\n\", i, 0 }}'")
        };
        let half = LINES / 2;
        let line = format!("{}; sleep 6; {}; sleep 1000", print(1, half), print(half + 1, LINES));
        scene.run_pod("loud", "Never", &line, json!({})).await?;
        scene.container("loud", "runs", SOON, |s| s.ready).await?;
        // The second half is written while nobody but the pod's supervisor is there.
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.cluster.kill()?;
        tokio::time::sleep(Duration::from_secs(6)).await;
        scene.cluster.restart().await?;
        scene.container("loud", "runs on", SOON, |s| s.ready && s.restart_count == 0).await?;
        let pods = scene.cluster.pods("default");
        eventually("the node's API answers", SOON, || async {
            let last = LogParams { tail_lines: Some(1), ..LogParams::default() };
            Ok(pods.logs("loud", &last).await.ok())
        })
        .await?;
        let followed = tokio::time::timeout(SOON, follow(&scene)).await.context("the log ends early")??;
        ensure!(followed == LINES, "{followed} lines were followed");
        let all = pods.logs("loud", &LogParams::default()).await?;
        ensure!(check(all.lines().map(number))? == LINES, "lines are missing at the end");
        let files = files(&scene).await?;
        ensure!((2..=MAX_FILES).contains(&files.len()), "{files:?}");
        ensure!(files.iter().all(|size| *size <= MAX_BYTES + (1 << 20)), "{files:?}");
        eprintln!("{LINES} lines in {} files", files.len());
        scene.delete_pod("loud").await?;
        Ok(scene)
    });
}

/// Follows the log until its last line; answers how many lines there were.
async fn follow(scene: &Scene) -> Result<u64> {
    let params = LogParams { follow: true, ..LogParams::default() };
    let mut lines = scene.cluster.pods("default").log_stream("loud", &params).await?.lines();
    let mut seen = Vec::new();
    while seen.last() != Some(&LINES) {
        let line = lines.try_next().await?.context("the stream ended")?;
        seen.push(number(&line));
    }
    check(seen.into_iter())
}

/// The sizes of the log's files.
async fn files(scene: &Scene) -> Result<Vec<u64>> {
    let uid = scene.cluster.pods("default").get("loud").await?.metadata.uid.context("no uid")?;
    let dir = scene.cluster.data_dir().join("logs/pods").join(format!("default_loud_{uid}")).join("main");
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).collect()
}
