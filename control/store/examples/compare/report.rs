//! Figures, and the tables they are shown in.

use std::io::Write;
use std::time::Duration;

use crate::client::Failed;

/// A line about a load, for one server.
pub(crate) struct Figures {
    pub(crate) what: String,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of the server for each.
    pub(crate) cpu_each: Duration,
    cpu: Duration,
}

/// One number about one server; smaller or larger is better, as its unit says.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

impl Figure {
    pub(crate) fn new(what: &'static str, value: f64, unit: &'static str) -> Figure {
        Figure { what, value, unit }
    }
}

impl Figures {
    pub(crate) fn new(what: String, mut samples: Vec<Duration>, took: Duration, cpu: Duration) -> Figures {
        samples.sort();
        let at = |part: f64| {
            let place = (samples.len() as f64 * part) as usize;
            samples.get(place.min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let (p50, p99) = (at(0.5), at(0.99));
        let mut figures = Figures { what, per_second: 0.0, p50, p99, cpu_each: Duration::ZERO, cpu };
        figures.count(samples.len() as u64, took);
        figures
    }

    /// There were more than the samples.
    pub(crate) fn count(&mut self, done: u64, took: Duration) {
        self.per_second = done as f64 / took.as_secs_f64();
        self.cpu_each = self.cpu.div_f64((done as f64).max(1.0));
    }
}

/// What was measured of one cluster.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) loads: Vec<Figures>,
    pub(crate) others: Vec<Figure>,
}

/// The tables, in Markdown: all servers beside each other, and the first as a multiple of the last.
pub(crate) fn tables(out: &mut impl Write, results: &[Measured]) -> Result<(), Failed> {
    let (Some(first), Some(last)) = (results.first(), results.last()) else { return Ok(()) };
    write!(out, "| what, clients |")?;
    for result in results {
        write!(out, " {} a second | p50 | p99 | server CPU each |", result.name)?;
    }
    writeln!(out, " rate | p99 | CPU |")?;
    writeln!(out, "|---|{}---|---|---|", "---|---|---|---|".repeat(results.len()))?;
    for (line, (a, b)) in first.loads.iter().zip(&last.loads).enumerate() {
        write!(out, "| {} |", a.what)?;
        for figures in results.iter().filter_map(|result| result.loads.get(line)) {
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            let cpu = figures.cpu_each.as_secs_f64() * 1e6;
            write!(
                out,
                " {:.0} | {:.2} | {:.2} | {cpu:.1} |",
                figures.per_second,
                millis(figures.p50),
                millis(figures.p99)
            )?;
        }
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        writeln!(
            out,
            " ×{:.2} | ×{:.2} | ×{:.2} |",
            a.per_second / b.per_second,
            ratio(a.p99, b.p99),
            ratio(a.cpu_each, b.cpu_each)
        )?;
    }
    if first.others.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| what | {} | ratio |", results.iter().map(|r| r.name).collect::<Vec<_>>().join(" | "))?;
    writeln!(out, "|---|{}---|", "---|".repeat(results.len()))?;
    for (line, (a, b)) in first.others.iter().zip(&last.others).enumerate() {
        write!(out, "| {} |", a.what)?;
        for figure in results.iter().filter_map(|result| result.others.get(line)) {
            write!(out, " {:.2} {} |", figure.value, figure.unit)?;
        }
        writeln!(out, " ×{:.2} |", a.value / b.value)?;
    }
    Ok(())
}
