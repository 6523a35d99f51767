//! What `cargo xtask bench api` measures: the API server of `carrack up --no-node`, over TLS on loopback, with everything
//! on that a user has: certificates, RBAC, admission, synced writes, controllers and scheduler beside it.
//!
//! Client and server share the processors of the host, so that the server's processor time is a column of its own.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod client;
mod lists;
mod load;
mod pods;
mod report;
mod server;
mod watches;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use server::Server;

/// Measures the API server.
#[derive(Parser)]
struct Args {
    /// The binary
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/release/carrack")]
    carrack: PathBuf,
    /// Seconds for each load
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Pods stored when memory is looked at
    #[arg(long, default_value_t = 50_000)]
    stored: usize,
    /// Watchers, each of the pods of one node
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // One thread: the server has the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&args))
}

async fn measure(args: &Args) -> Result<()> {
    let time = Duration::from_secs_f64(args.seconds);
    let server = Server::start(&args.carrack).await?;
    report::loads(&load::all(&server, time).await?);
    drop(server);

    let server = Server::start(&args.carrack).await?;
    let mut others = vec![report::Figure::new("memory, empty cluster", server.memory()? as f64 / 1e6, "MB")];
    pods::create(&server, "list", 0..lists::PODS).await?;
    others.extend(lists::all(&server).await?);
    others.extend(watches::all(&server, args.watchers, time).await?);
    others.extend(load::leases(&server).await?);
    pods::create(&server, "more", lists::PODS..args.stored).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let what = format!("memory with {} pods of 4 kB", args.stored);
    others.push(report::Figure::new(what, server.memory()? as f64 / 1e6, "MB"));
    report::figures(&others);
    Ok(())
}
