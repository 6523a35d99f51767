//! Puts the same load on `carrack store` and on etcd, and prints their figures side by side as tables in Markdown.
//!
//! `compare CARRACK [--etcd etcd] [--members N] [--dir DIRECTORY] [--seconds N] [--only loads,fanout,life]`
//!
//! where `CARRACK` is the binary. Both servers are started on loopback, one after the other, with the same options and
//! empty data directories; both sync what they acknowledge. Client and servers share the processors of the host, which
//! is why the servers' processor time is a column of its own. `--only-ours` leaves etcd out.

mod client;
mod fanout;
mod life;
mod load;
mod report;
mod servers;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use client::Failed;
use fanout::Writes;
use report::Measured;
use servers::{Cluster, Kind};

struct Options {
    kinds: Vec<Kind>,
    members: usize,
    dir: PathBuf,
    time: Duration,
    parts: Vec<String>,
}

fn main() -> Result<(), Failed> {
    let options = options()?;
    // One thread: the servers have the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results = Vec::new();
    std::fs::create_dir_all(&options.dir)?;
    for kind in &options.kinds {
        results.push(runtime.block_on(measure(kind, &options))?);
    }
    report::tables(&mut std::io::stdout(), &results)
}

fn options() -> Result<Options, Failed> {
    const USAGE: &str = "usage: compare CARRACK [--etcd ETCD] [--only-ours] [--members N] [--dir DIRECTORY] \
                         [--seconds N] [--only loads,fanout,life]";
    let mut args = std::env::args().skip(1);
    let carrack = args.next().ok_or(USAGE)?;
    let mut etcd = Some("etcd".to_owned());
    let mut options = Options {
        kinds: vec![Kind {
            name: "carrack",
            program: carrack.into(),
            first: &["store", "--log", "error"],
            ports: 23_900,
        }],
        members: 1,
        dir: std::env::temp_dir().join(format!("carrack-compare-{}", std::process::id())),
        time: Duration::from_secs(3),
        parts: ["loads", "fanout", "life"].map(str::to_owned).to_vec(),
    };
    while let Some(arg) = args.next() {
        if arg == "--only-ours" {
            etcd = None;
            continue;
        }
        let value = args.next().ok_or(USAGE)?;
        match arg.as_str() {
            "--etcd" => etcd = Some(value),
            "--members" => options.members = value.parse()?,
            "--dir" => options.dir = value.into(),
            "--seconds" => options.time = Duration::from_secs_f64(value.parse()?),
            "--only" => options.parts = value.split(',').map(str::to_owned).collect(),
            _ => return Err(USAGE.into()),
        }
    }
    options.kinds.extend(etcd.map(|program| Kind {
        name: "etcd",
        program: program.into(),
        first: &["--log-level", "error"],
        ports: 24_900,
    }));
    Ok(options)
}

async fn measure(kind: &Kind, options: &Options) -> Result<Measured, Failed> {
    let (dir, members, time) = (&options.dir, options.members, options.time);
    let wanted = |part: &str| options.parts.iter().any(|wanted| wanted == part);
    let mut measured = Measured { name: kind.name, loads: Vec::new(), others: Vec::new() };
    let tell = |what: &str| eprintln!("{} ({members}): {what}", kind.name);
    if wanted("loads") {
        let cluster = Cluster::start(kind, members, dir).await?;
        for (what, work, clients) in load::LOADS {
            for clients in *clients {
                tell(&format!("{what}, {clients}"));
                measured.loads.push(load::load(&cluster, what, *work, *clients, time).await?);
            }
        }
    }
    if wanted("fanout") {
        for watchers in fanout::WATCHERS {
            // A server that still works on the last one must not pay for it in the next.
            let cluster = Cluster::start(kind, members, dir).await?;
            tell(&format!("events to {watchers}"));
            measured.loads.push(fanout::fan_out(&cluster, watchers, Writes::Burst).await?);
            let rate = (20_000 / watchers).clamp(4, 200) as u32;
            measured.loads.push(fanout::fan_out(&cluster, watchers, Writes::Paced(rate, time)).await?);
        }
    }
    if wanted("life") {
        if members == 1 {
            tell("memory");
            measured.others.extend(life::memory(&Cluster::start(kind, members, dir).await?).await?);
            tell("much data");
            measured.others.extend(life::much_data(&mut Cluster::start(kind, members, dir).await?).await?);
        } else {
            tell("deaths of leaders");
            measured.others.extend(life::deaths(&mut Cluster::start(kind, members, dir).await?).await?);
        }
    }
    Ok(measured)
}
