//! What goes on with a pod: exec, attach, port-forward and logs.

use anyhow::{Context, Result, ensure};
use carrack_tests::Scene;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, LogParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A pod that says what it reads, and that answers `hello`.
const TALKS: &str = "echo from the log; echo hello > /www/index.html; httpd -p 8080 -h /www; \
                     while read line; do echo read $line; done";

pub(super) async fn streams(scene: &Scene) -> Result<()> {
    scene.run_pod("talk", "Always", TALKS, json!({"stdin": true})).await?;
    scene.container("talk", "runs", std::time::Duration::from_secs(20), |s| s.ready).await?;
    let pods = scene.cluster.pods("default");
    exec(&pods).await.context("exec")?;
    attach(&pods).await.context("attach")?;
    forward(&pods).await.context("port-forward")?;
    logs(&pods).await.context("logs")?;
    scene.delete_pod("talk").await
}

async fn exec(pods: &Api<Pod>) -> Result<()> {
    let command = ["sh", "-c", "cat; echo problem >&2; exit 3"];
    let params = AttachParams::default().stdin(true);
    let mut process = pods.exec("talk", command, &params).await?;
    let mut input = process.stdin().context("stdin")?;
    let (mut out, mut err) = (process.stdout().context("stdout")?, process.stderr().context("stderr")?);
    let status = process.take_status().context("status")?;
    input.write_all(b"typed\n").await?;
    input.shutdown().await?;
    drop(input);
    let (mut said, mut complained) = (String::new(), String::new());
    out.read_to_string(&mut said).await?;
    err.read_to_string(&mut complained).await?;
    ensure!(said == "typed\n" && complained == "problem\n", "{said:?} {complained:?}");
    let status = status.await.context("no status")?;
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");
    process.join().await?;
    Ok(())
}

async fn attach(pods: &Api<Pod>) -> Result<()> {
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut attached = pods.attach("talk", &params).await?;
    let mut input = attached.stdin().context("stdin")?;
    let mut out = attached.stdout().context("stdout")?;
    input.write_all(b"this\n").await?;
    let mut said = vec![0; "read this\n".len()];
    out.read_exact(&mut said).await?;
    ensure!(said == b"read this\n", "{:?}", String::from_utf8_lossy(&said));
    attached.abort();
    Ok(())
}

async fn forward(pods: &Api<Pod>) -> Result<()> {
    let mut forwarder = pods.portforward("talk", &[8080]).await?;
    let mut stream = forwarder.take_stream(8080).context("stream")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.ends_with("hello\n"), "{answer:?}");
    // The node has closed the connection with its end; `join` would say that the client could not close it again.
    forwarder.abort();
    Ok(())
}

async fn logs(pods: &Api<Pod>) -> Result<()> {
    let whole = pods.logs("talk", &LogParams::default()).await?;
    ensure!(whole == "from the log\nread this\n", "{whole:?}");
    let tail = LogParams { tail_lines: Some(1), ..LogParams::default() };
    ensure!(pods.logs("talk", &tail).await? == "read this\n");
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream("talk", &follow).await?.lines();
    ensure!(lines.try_next().await?.as_deref() == Some("from the log"));
    Ok(())
}
