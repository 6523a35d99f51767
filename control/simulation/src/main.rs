//! Runs seeds of the simulation: one with its trace, or many on all processors.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use carrack_simulation::plan::Broken;
use carrack_simulation::run::{Report, run};
use clap::Parser;
use parking_lot::Mutex;

/// Simulates clusters of the store under faults, and checks what their clients saw.
#[derive(Parser)]
#[command(bin_name = "cargo xtask simulate")]
struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed alone
    #[arg(long)]
    seed: Option<u64>,
    /// Show every event (with --seed)
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Show the store's own messages, filtered like this, such as carrack_store=debug (with --seed)
    #[arg(long, requires = "seed")]
    log: Option<String>,
    /// Break things on purpose, one after the other, and see that each is found; and that runs are repeatable
    #[arg(long, conflicts_with_all = ["seeds", "from", "seed"])]
    prove: bool,
    /// How many seeds to run at a time; all processors unless said
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let failed = match options.seed {
        _ if options.prove => prove(),
        Some(seed) => one(seed, &options),
        None => many(&options),
    };
    match failed {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, options: &Options) -> std::io::Result<usize> {
    if let Some(filter) = &options.log {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    let report = run(seed, Broken::default(), options.trace)?;
    if report.wrong.is_empty() {
        println!("seed {seed}: {}", summary(&report));
    } else {
        show(&report);
    }
    Ok(usize::from(!report.wrong.is_empty()))
}

fn prove() -> std::io::Result<usize> {
    let proofs = carrack_simulation::prove::all()?;
    for proof in &proofs {
        println!("{} {}: {}", if proof.found { "ok    " } else { "FAILED" }, proof.name, proof.detail);
    }
    Ok(proofs.iter().filter(|proof| !proof.found).count())
}

fn summary(report: &Report) -> String {
    let Report { calls: (calls, answered), revisions, terms, messages, events, time, hash, .. } = report;
    format!(
        "{calls} calls, {answered} answered, {revisions} revisions, {terms} terms, {messages} messages, {events} events, {:.1} s, trace {hash:016x}",
        time.as_secs_f64()
    )
}

fn show(report: &Report) {
    println!("seed {} failed after {}:", report.seed, summary(report));
    report.tail.iter().for_each(|line| println!("  {line}"));
    report.wrong.iter().for_each(|wrong| println!("  wrong: {wrong}"));
    println!("  again: cargo xtask simulate --seed {} --trace", report.seed);
}

/// What many runs were, together.
#[derive(Default)]
struct Totals {
    calls: usize,
    answered: usize,
    events: u64,
    simulated: f64,
    failed: Vec<u64>,
}

fn many(options: &Options) -> std::io::Result<usize> {
    let began = Instant::now();
    let (next, end) = (AtomicU64::new(options.from), options.from + options.seeds);
    let totals = Mutex::new(Totals::default());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> std::io::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(());
            }
            let report = run(seed, Broken::default(), false)?;
            let mut totals = totals.lock();
            totals.calls += report.calls.0;
            totals.answered += report.calls.1;
            totals.events += report.events;
            totals.simulated += report.time.as_secs_f64();
            if !report.wrong.is_empty() {
                show(&report);
                totals.failed.push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads.unwrap_or(processors)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(std::io::Error::other("a run panicked; see above")))
        })
    })?;
    let Totals { calls, answered, events, simulated, failed } = totals.into_inner();
    println!(
        "{} seeds in {:.0?}: {calls} calls, {answered} answered, {events} events, {:.0} simulated minutes; {} failed{}",
        options.seeds,
        began.elapsed(),
        simulated / 60.0,
        failed.len(),
        failed.iter().map(|seed| format!(" {seed}")).collect::<String>()
    );
    Ok(failed.len())
}
