//! Puts the same load on several servers of etcd's API, one after the other, and prints their figures side by side.
//!
//! `cargo run --profile bench -p carrack-store --example compare -- [--json] [--seconds N] NAME=ADDRESS ...`
//!
//! for example `carrack=127.0.0.1:23790 etcd=127.0.0.1:2379`. The ratio is that of the first to the last. Each of the
//! servers should be empty, and otherwise idle.

use std::io::Write;
use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions, WatchOptions};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const VALUE_BYTES: usize = 256;
const CLIENTS: [usize; 4] = [1, 32, 256, 1000];
const READERS: [usize; 2] = [1, 256];
const WATCHERS: [usize; 3] = [1, 100, 1000];
const LISTED: usize = 10_000;
/// Calls share connections, as they do in real clients.
const CLIENTS_ON_A_CONNECTION: usize = 32;
/// Changes that each watcher is to see.
const CHANGES: usize = 100;

struct Options {
    json: bool,
    time: Duration,
    servers: Vec<(String, String)>,
}

/// Durations of calls.
struct Measured {
    sorted: Vec<Duration>,
    took: Duration,
}

/// A line of the table, for one server.
struct Figures {
    what: String,
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl Measured {
    fn new(mut latencies: Vec<Duration>, took: Duration) -> Measured {
        latencies.sort();
        Measured { sorted: latencies, took }
    }

    fn figures(&self, what: impl Into<String>) -> Figures {
        let at = |part: f64| {
            let place = (self.sorted.len() as f64 * part) as usize;
            self.sorted.get(place.min(self.sorted.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let per_second = self.sorted.len() as f64 / self.took.as_secs_f64();
        Figures { what: what.into(), per_second, p50: at(0.5), p99: at(0.99) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let options = options()?;
    let mut results = Vec::new();
    for (_, address) in &options.servers {
        results.push(measure(address, options.time).await?);
    }
    let mut out = std::io::stdout();
    if options.json {
        print_json(&mut out, &options, &results)
    } else {
        print_table(&mut out, &options, &results)
    }
}

fn options() -> Result<Options, Failed> {
    let mut options = Options { json: false, time: Duration::from_secs(3), servers: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => options.json = true,
            "--seconds" => {
                let seconds = args.next().ok_or("--seconds needs a number")?;
                options.time = Duration::from_secs_f64(seconds.parse()?);
            }
            server => {
                let (name, address) = server.split_once('=').ok_or("servers are NAME=ADDRESS")?;
                options.servers.push((name.to_owned(), address.to_owned()));
            }
        }
    }
    if options.servers.is_empty() {
        return Err("usage: compare [--json] [--seconds N] NAME=ADDRESS ...".into());
    }
    Ok(options)
}

async fn measure(address: &str, time: Duration) -> Result<Vec<Figures>, Failed> {
    let mut figures = Vec::new();
    for clients in CLIENTS {
        let put = |mut client: Client, key: String| async move {
            client.put(key, vec![7; VALUE_BYTES], None).await.map(drop)
        };
        figures.push(load(address, clients, time, put).await?.figures(format!("put, {clients} clients")));
    }
    for (name, serializable) in [("linearizable", false), ("serializable", true)] {
        for clients in READERS {
            let get = move |mut client: Client, key: String| async move {
                let options = GetOptions::new();
                let options = if serializable { options.with_serializable() } else { options };
                client.get(key, Some(options)).await.map(drop)
            };
            let what = format!("{name} range, {clients} clients");
            figures.push(load(address, clients, time, get).await?.figures(what));
        }
    }
    figures.push(list(address, time).await?);
    for watchers in WATCHERS {
        figures.push(watch(address, watchers).await?);
    }
    Ok(figures)
}

/// As many clients as asked for call `call` one time after the other.
async fn load<F, R>(address: &str, clients: usize, time: Duration, call: F) -> Result<Measured, Failed>
where
    F: Fn(Client, String) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), etcd_client::Error>> + Send,
{
    let mut connections = Vec::new();
    for _ in 0..clients.div_ceil(CLIENTS_ON_A_CONNECTION) {
        connections.push(Client::connect(address.split(',').collect::<Vec<_>>(), None).await?);
    }
    let start = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..clients {
        let (client, call) = (connections[n % connections.len()].clone(), call.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            for turn in 0.. {
                if start.elapsed() >= time {
                    break;
                }
                let one = Instant::now();
                call(client.clone(), format!("put/{n:04}/{:03}", turn % 100)).await?;
                latencies.push(one.elapsed());
            }
            Ok::<_, etcd_client::Error>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Measured::new(latencies, start.elapsed()))
}

/// Lists many keys again and again.
async fn list(address: &str, time: Duration) -> Result<Figures, Failed> {
    let mut client = Client::connect(address.split(',').collect::<Vec<_>>(), None).await?;
    let fill: Vec<_> = (0..LISTED)
        .map(|n| etcd_client::TxnOp::put(format!("list/{n:05}"), vec![7; VALUE_BYTES], None))
        .collect();
    for some in fill.chunks(100) {
        client.txn(etcd_client::Txn::new().and_then(some)).await?;
    }
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let one = Instant::now();
        let listed = client.get("list/", Some(GetOptions::new().with_prefix())).await?;
        if listed.kvs().len() != LISTED {
            return Err(format!("{} keys instead of {LISTED}", listed.kvs().len()).into());
        }
        latencies.push(one.elapsed());
    }
    Ok(Measured::new(latencies, start.elapsed()).figures(format!("list of {LISTED}")))
}

/// Many watchers of one key: events that they get in all, and how long after the put began.
async fn watch(address: &str, watchers: usize) -> Result<Figures, Failed> {
    let mut tasks = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..watchers.div_ceil(CLIENTS_ON_A_CONNECTION) {
        connections.push(Client::connect(address.split(',').collect::<Vec<_>>(), None).await?);
    }
    let epoch = Instant::now();
    for n in 0..watchers {
        let mut client = connections[n % connections.len()].clone();
        let mut stream = client.watch("watched", Some(WatchOptions::new())).await?;
        tasks.push(tokio::spawn(async move {
            let mut delays = Vec::new();
            while delays.len() < CHANGES {
                let response = stream.message().await?.ok_or("the stream of a watch ended")?;
                for event in response.events() {
                    let value = event.kv().map_or(&b""[..], |kv| kv.value());
                    let sent: u64 = std::str::from_utf8(value)?.parse()?;
                    delays.push(epoch.elapsed().saturating_sub(Duration::from_nanos(sent)));
                }
            }
            Ok::<_, Failed>(delays)
        }));
    }
    let mut client = Client::connect(address.split(',').collect::<Vec<_>>(), None).await?;
    let start = Instant::now();
    for _ in 0..CHANGES {
        client.put("watched", epoch.elapsed().as_nanos().to_string(), None).await?;
    }
    let mut delays = Vec::new();
    for task in tasks {
        delays.extend(task.await??);
    }
    Ok(Measured::new(delays, start.elapsed()).figures(format!("events to {watchers} watchers")))
}

fn print_table(out: &mut impl Write, options: &Options, results: &[Vec<Figures>]) -> Result<(), Failed> {
    writeln!(out, "{VALUE_BYTES}-byte values, {} s each; times in ms", options.time.as_secs_f64())?;
    write!(out, "{:<34}", "")?;
    for (name, _) in &options.servers {
        write!(out, " | {name:>10}/s {:>9} {:>9}", "p50", "p99")?;
    }
    writeln!(out, " | {:>6} {:>6}", "rate", "p99")?;
    for line in 0..results.first().map_or(0, Vec::len) {
        let row: Vec<&Figures> = results.iter().filter_map(|result| result.get(line)).collect();
        write!(out, "{:<34}", row.first().map_or("", |figures| figures.what.as_str()))?;
        for figures in &row {
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            write!(
                out,
                " | {:>12.0} {:>9.3} {:>9.3}",
                figures.per_second,
                millis(figures.p50),
                millis(figures.p99)
            )?;
        }
        match (row.first(), row.last()) {
            (Some(first), Some(last)) if row.len() > 1 => {
                let p99 = first.p99.as_secs_f64() / last.p99.as_secs_f64();
                writeln!(out, " | {:>6.2} {p99:>6.2}", first.per_second / last.per_second)?;
            }
            _ => writeln!(out)?,
        }
    }
    Ok(())
}

fn print_json(out: &mut impl Write, options: &Options, results: &[Vec<Figures>]) -> Result<(), Failed> {
    let mut lines = Vec::new();
    for ((name, _), result) in options.servers.iter().zip(results) {
        for figures in result {
            lines.push(serde_json::json!({
                "server": name,
                "what": figures.what,
                "per_second": figures.per_second,
                "p50_seconds": figures.p50.as_secs_f64(),
                "p99_seconds": figures.p99.as_secs_f64(),
            }));
        }
    }
    writeln!(out, "{}", serde_json::Value::from(lines))?;
    Ok(())
}
