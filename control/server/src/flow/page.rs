//! The metrics of priority and fairness, under upstream's names.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::FlowControl;
use super::level::{BOUNDS, Counters, Histogram, REASONS};
use crate::metrics::head;

type Number = fn(&Counters) -> i64;

/// What is counted for each schema: name, kind, help, where.
const OF_SCHEMAS: [(&str, &str, &str, Number); 4] = [
    ("dispatched_requests_total", "counter", "Requests that were let in.", |c| {
        c.dispatched.load(Relaxed).cast_signed()
    }),
    ("current_inqueue_requests", "gauge", "Requests that wait.", |c| c.waiting.load(Relaxed)),
    ("current_executing_requests", "gauge", "Requests that run.", |c| c.executing.load(Relaxed)),
    ("current_executing_seats", "gauge", "Seats of requests that run.", |c| c.seats.load(Relaxed)),
];

/// Appends the metrics.
pub(crate) fn page(out: &mut String, flow: &FlowControl) {
    let rules = flow.rules.read().clone();
    let labels: Vec<(String, &Counters)> = rules
        .entries
        .iter()
        .map(|e| {
            (format!("priority_level=\"{}\",flow_schema=\"{}\"", e.level.name, e.schema.name), &*e.counters)
        })
        .collect();
    for (name, kind, help, number) in OF_SCHEMAS {
        let name = format!("apiserver_flowcontrol_{name}");
        head(out, &name, kind, help);
        for (labels, counters) in &labels {
            let _ = writeln!(out, "{name}{{{labels}}} {}", number(counters));
        }
    }
    let name = "apiserver_flowcontrol_rejected_requests_total";
    head(out, name, "counter", "Requests that were turned away, by reason.");
    for (labels, counters) in &labels {
        for (reason, count) in REASONS.iter().zip(&counters.rejected) {
            let count = count.load(Relaxed);
            if count > 0 {
                let _ = writeln!(out, "{name}{{{labels},reason=\"{reason}\"}} {count}");
            }
        }
    }
    type Pick = fn(&Counters) -> &Histogram;
    let histograms: [(&str, &str, &str, Pick); 2] = [
        (
            "request_wait_duration_seconds",
            "How long requests waited that were let in.",
            ",execute=\"true\"",
            |c| &c.waits,
        ),
        ("request_execution_seconds", "How long requests ran.", ",type=\"regular\"", |c| &c.executions),
    ];
    for (name, help, more, pick) in histograms {
        let name = format!("apiserver_flowcontrol_{name}");
        head(out, &name, "histogram", help);
        for (labels, counters) in &labels {
            histogram(out, &name, &format!("{labels}{more}"), pick(counters));
        }
    }
    levels(out, flow);
}

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let count = histogram.count.load(Relaxed);
    if count == 0 {
        return;
    }
    for (bucket, bound) in histogram.buckets.iter().zip(BOUNDS) {
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {}", bucket.load(Relaxed));
    }
    let seconds = histogram.micros.load(Relaxed) as f64 / 1e6;
    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {count}");
}

fn levels(out: &mut String, flow: &FlowControl) {
    let rules = flow.rules.read().clone();
    let limits: Vec<_> = rules.levels.iter().map(|(name, (level, _))| (name, level.limits())).collect();
    for (metric, help, which) in [
        ("nominal_limit_seats", "Seats by the shares.", 0),
        ("lower_limit_seats", "Seats that are not lent.", 1),
        ("upper_limit_seats", "Seats with all that may be borrowed.", 2),
        ("current_limit_seats", "Seats at present.", 3),
    ] {
        let metric = format!("apiserver_flowcontrol_{metric}");
        head(out, &metric, "gauge", help);
        for (name, (bounds, limit)) in &limits {
            let seats = [bounds.nominal, bounds.lower, bounds.upper, f64::from(*limit)][which];
            let _ = writeln!(out, "{metric}{{priority_level=\"{name}\"}} {seats}");
        }
    }
}
