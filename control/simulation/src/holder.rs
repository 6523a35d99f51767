//! A client that holds leases: takes one, puts keys under it, keeps it alive for a while, then lets it go.

use std::time::Duration;

use rand::Rng;
use tokio::time::{sleep, timeout};

use crate::check::leases::Holding;
use crate::client::Client;
use crate::history::{Action, Step};

/// How long a holder waits for an answer about its lease.
const PATIENCE: Duration = Duration::from_secs(3);

/// Holds a few leases, one after the other.
pub async fn hold(mut client: Client) {
    for lease in 1..=client.random.random_range(1..4) {
        hold_one(&mut client, lease).await;
    }
}

async fn hold_one(client: &mut Client, lease: i64) {
    let ttl = client.random.random_range(1..5);
    if !granted(client, lease, ttl).await {
        return;
    }
    for n in 0..client.random.random_range(1..4) {
        let step = Step::Put { key: format!("l{n}"), value: format!("h.{lease}.{n}"), lease };
        client.call(Action::Write { guard: None, steps: vec![step] }).await;
    }
    for _ in 0..client.random.random_range(0..6) {
        sleep(Duration::from_millis(client.random.random_range(100..1000 * ttl as u64))).await;
        keep_alive(client, lease, ttl).await;
    }
    if client.random.random_range(0..3) == 0 {
        revoke(client, lease).await;
    }
}

fn note(client: &Client, holding: Holding) {
    client.world.book.lock().holdings.push(holding);
}

fn alive(client: &Client, lease: i64, ttl: i64, asked: Duration) {
    let ttl = Duration::from_secs(ttl.unsigned_abs());
    let ttl = if client.world.setup.broken.long_leases { ttl * 2 } else { ttl };
    note(client, Holding::Alive { lease, ttl, asked });
}

/// Says whether the lease may be there.
async fn granted(client: &mut Client, lease: i64, ttl: i64) -> bool {
    let (node, life) = client.member().await;
    let asked = client.world.trace.now();
    let answer = timeout(PATIENCE, life.store.lease_grant_as(lease, ttl)).await;
    client.world.trace.event(format_args!("lease {lease} for {ttl} s from m{node}: {answer:?}"));
    if matches!(answer, Ok(Ok(_))) {
        alive(client, lease, ttl, asked);
    }
    !matches!(answer, Ok(Err(_)))
}

async fn keep_alive(client: &mut Client, lease: i64, ttl: i64) {
    let (node, life) = client.member().await;
    let asked = client.world.trace.now();
    let answer = timeout(PATIENCE, life.store.lease_keep_alive(lease)).await;
    client.world.trace.event(format_args!("lease {lease} is kept alive by m{node}: {answer:?}"));
    let still = client.world.network.life(node).is_some_and(|now| now.number == life.number);
    if matches!(answer, Ok(Ok(_))) && still {
        alive(client, lease, ttl, asked);
    }
}

async fn revoke(client: &mut Client, lease: i64) {
    let (node, life) = client.member().await;
    note(client, Holding::Revoked { lease, asked: client.world.trace.now() });
    let answer = timeout(PATIENCE, life.store.lease_revoke(lease)).await;
    client.world.trace.event(format_args!("lease {lease} is revoked at m{node}: {answer:?}"));
}
