//! Figures, and the tables they are shown in.

use std::time::Duration;

/// Requests of one kind.
pub(crate) struct Load {
    what: String,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of the server for each.
    cpu_each: Duration,
}

/// One number.
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure { what: what.into(), value, unit }
    }
}

impl Load {
    pub(crate) fn new(what: String, mut latencies: Vec<Duration>, took: Duration, cpu: Duration) -> Load {
        latencies.sort();
        let at = |part: f64| {
            let place = (latencies.len() as f64 * part) as usize;
            latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let (p50, p99) = (at(0.5), at(0.99));
        let count = latencies.len() as f64;
        Load { what, per_second: count / took.as_secs_f64(), p50, p99, cpu_each: cpu.div_f64(count.max(1.0)) }
    }
}

/// Loads as a table in Markdown.
pub(crate) fn loads(loads: &[Load]) {
    println!(
        "| pods of 4 kB: request, clients | a second | p50 | p99 | server CPU each |\n|---|---|---|---|---|"
    );
    for load in loads {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let cpu = load.cpu_each.as_secs_f64() * 1e6;
        let (p50, p99) = (millis(load.p50), millis(load.p99));
        println!("| {} | {:.0} | {p50:.2} ms | {p99:.2} ms | {cpu:.0} µs |", load.what, load.per_second);
    }
}

/// Numbers as a table in Markdown.
pub(crate) fn figures(figures: &[Figure]) {
    println!("\n| figure | measured |\n|---|---|");
    for Figure { what, value, unit } in figures {
        println!("| {what} | {value:.1} {unit} |");
    }
}
