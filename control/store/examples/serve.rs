//! Serves a store under etcd's API, for tests, benchmarks and trying things out.
//!
//! `cargo run -p carrack-store --example serve -- <data directory> <address> [quota in bytes]`
//!
//! With an address like `127.0.0.1:0`, the system chooses a port; the first line of output says where it is served.
//! Plain text: for loopback. Ends on SIGINT or SIGTERM.

use std::io::Write;

use carrack_store::etcd::{Config, Security, serve};
use carrack_store::{Options, Store};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: serve <data directory> <address> [quota in bytes]".into());
    };
    let mut options = Options::new(dir);
    if let Some(quota) = args.next() {
        options.quota_bytes = quota.parse()?;
    }
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let url = format!("http://{}", listener.local_addr()?);
    options.client_urls = vec![url.clone()];
    let store = Store::open(options).await?;
    writeln!(std::io::stdout(), "{url}")?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let shutdown = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::select! {
        () = serve(store.clone(), listener, Security::Plain, Config::default(), shutdown) => {}
        why = store.failed() => return Err(why.into()),
    }
    store.shutdown().await;
    Ok(())
}
