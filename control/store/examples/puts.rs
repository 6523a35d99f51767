//! Measures writes: puts a second and their latency with 1, 32 and 256 clients, beside a bare append and fdatasync of
//! groups of the same sizes on the same disk.
//!
//! `cargo run --profile bench -p carrack-store --example puts [directory] [seconds]`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carrack_store::{Options, Store, Txn};

const VALUE_BYTES: usize = 256;
const CLIENTS: [usize; 3] = [1, 32, 256];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(3.0);
    let time = Duration::from_secs_f64(seconds);
    let dir = base.join(format!("carrack-puts-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, time).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn measure(dir: &Path, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", idle(&dir.join("idle")).await?)?;
    writeln!(
        out,
        "{VALUE_BYTES}-byte values, {} s each; `bare` appends as many values as there are clients, then",
        time.as_secs_f64()
    )?;
    writeln!(out, "calls fdatasync once, in a preallocated file: no store can be faster on this disk")?;
    writeln!(
        out,
        "{:>8} {:>10} {:>9} {:>9} {:>8} {:>8} | {:>10} {:>9} {:>9}",
        "clients", "puts/s", "p50 us", "p99 us", "per sync", "sync us", "bare/s", "p50 us", "p99 us"
    )?;
    for clients in CLIENTS {
        let bare = bare(&dir.join("bare"), clients, time)?;
        let store = store(&dir.join(format!("store-{clients}")), clients, time).await?;
        let row = (
            store.per_second(),
            store.quantile(0.5),
            store.quantile(0.99),
            store.count() / store.syncs as f64,
            store.sync_time.as_secs_f64() * 1e6 / store.syncs as f64,
        );
        let limit = (bare.per_second() * clients as f64, bare.quantile(0.5), bare.quantile(0.99));
        writeln!(
            out,
            "{clients:>8} {:>10.0} {:>9.0} {:>9.0} {:>8.1} {:>8.0} | {:>10.0} {:>9.0} {:>9.0}",
            row.0, row.1, row.2, row.3, row.4, limit.0, limit.1, limit.2
        )?;
    }
    Ok(())
}

/// How long opening takes and what an idle store costs, in anonymous memory: most of it is a table of histogram
/// buckets that a dependency of openraft makes, and no release of it lets go of.
async fn idle(dir: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let resident = || -> std::io::Result<f64> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        Ok(kib.unwrap_or(f64::NAN) / 1024.0)
    };
    let before = resident()?;
    let start = Instant::now();
    let store = Store::open(Options::new(dir)).await?;
    let made = start.elapsed();
    store.txn(Txn::put("key", "value")).await?;
    let cost = resident()? - before;
    store.shutdown().await;
    drop(store);
    let start = Instant::now();
    let store = Store::open(Options::new(dir)).await?;
    let opened = start.elapsed();
    store.shutdown().await;
    Ok(format!(
        "an empty store is made in {made:.1?}, opened again in {opened:.1?}, and costs {cost:.1} MiB of memory"
    ))
}

/// Durations in microseconds, sorted, and how long it took in all.
struct Measured {
    latencies: Vec<f64>,
    took: Duration,
    syncs: u64,
    sync_time: Duration,
}

impl Measured {
    fn new(mut latencies: Vec<f64>, took: Duration, (syncs, sync_time): (u64, Duration)) -> Measured {
        latencies.sort_by(f64::total_cmp);
        Measured { latencies, took, syncs, sync_time }
    }

    fn count(&self) -> f64 {
        self.latencies.len() as f64
    }

    fn per_second(&self) -> f64 {
        self.count() / self.took.as_secs_f64()
    }

    fn quantile(&self, q: f64) -> f64 {
        let place = (self.count() * q) as usize;
        self.latencies.get(place.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

fn bare(path: &Path, group: usize, time: Duration) -> std::io::Result<Measured> {
    use std::os::unix::fs::FileExt;
    const LEN: u64 = 64 << 20;
    let file = std::fs::File::create(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LEN)?;
    file.sync_all()?;
    // What the store writes for a put of this size, key and framing included, is about a fifth more.
    let bytes = vec![7u8; group * (VALUE_BYTES + 64)];
    let (mut at, mut latencies) = (0, Vec::new());
    let start = Instant::now();
    while start.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        latencies.push(one.elapsed().as_secs_f64() * 1e6);
        at += bytes.len() as u64;
        if at + bytes.len() as u64 > LEN {
            at = 0;
        }
    }
    Ok(Measured::new(latencies, start.elapsed(), (1, Duration::ZERO)))
}

async fn store(dir: &Path, clients: usize, time: Duration) -> Result<Measured, Box<dyn std::error::Error>> {
    let store = Store::open(Options::new(dir)).await?;
    let before = store.status().log_sync;
    let start = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let value = bytes::Bytes::from(vec![client as u8; VALUE_BYTES]);
            let mut latencies = Vec::new();
            for n in 0.. {
                if start.elapsed() >= time {
                    break;
                }
                let one = Instant::now();
                let key = format!("/registry/pods/default/client-{client:03}-{:04}", n % 1000);
                store.txn(Txn::put(key, value.clone())).await?;
                latencies.push(one.elapsed().as_secs_f64() * 1e6);
            }
            Ok::<_, carrack_store::WriteError>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let took = start.elapsed();
    let after = store.status().log_sync;
    let syncs = (after.count - before.count, after.total - before.total);
    store.shutdown().await;
    Ok(Measured::new(latencies, took, syncs))
}
