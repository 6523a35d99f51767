//! The `kube` crate, the client of the Rust world, as programs use it.

#![allow(clippy::print_stdout, reason = "figures of a test that fails")]

#[path = "kube_client/custom.rs"]
mod custom;
#[path = "kube_client/objects.rs"]
mod objects;
#[path = "kube_client/streams.rs"]
mod streams;

use std::time::Duration;

use anyhow::{Context, Result};
use carrack_tests::on_a_cluster;

/// How long one part may take.
const LIMIT: Duration = Duration::from_secs(40);

async fn part(name: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    let began = std::time::Instant::now();
    tokio::time::timeout(carrack_tests::patience(LIMIT), work)
        .await
        .context("it hangs")
        .flatten()
        .with_context(|| name.to_owned())?;
    println!("{name}: {:?}", began.elapsed());
    Ok(())
}

#[test]
fn the_rust_client_works() {
    on_a_cluster("rust-client", |scene| async move {
        let client = scene.cluster.client.clone();
        part("objects", objects::objects(&client)).await?;
        part("pages", objects::pages(&client)).await?;
        part("watcher with lists that stream", objects::watches(&client)).await?;
        part("election", objects::election(&client)).await?;
        part("events", objects::events(&client)).await?;
        part("custom resources", custom::custom(&client)).await?;
        part("streams", streams::streams(&scene)).await
    });
}
