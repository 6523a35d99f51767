//! `/metrics/slis`: how health checks went, under upstream's names. Counted is each check of an answer about all checks; one
//! that is excluded, or asked for alone, is not, as upstream.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;

/// How a check went so far.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    held: u64,
    failed: u64,
    holds: bool,
}

/// The counts of all checks, by check and by the path that asked.
#[derive(Default)]
pub(crate) struct Slis {
    counts: Mutex<BTreeMap<(String, &'static str), Count>>,
}

impl Slis {
    /// Counts one check of `path`: `healthz`, `livez` or `readyz`.
    pub(crate) fn count(&self, path: &'static str, check: &str, holds: bool) {
        let mut counts = self.counts.lock();
        let count = counts.entry((check.to_owned(), path)).or_default();
        *(if holds { &mut count.held } else { &mut count.failed }) += 1;
        count.holds = holds;
    }

    /// The page in the Prometheus text format.
    pub(crate) fn page(&self) -> String {
        let counts = self.counts.lock();
        let mut page = "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n\
                        # TYPE kubernetes_healthcheck gauge\n"
            .to_owned();
        for ((check, path), count) in &*counts {
            let holds = u8::from(count.holds);
            let _ = writeln!(page, "kubernetes_healthcheck{{name=\"{check}\",type=\"{path}\"}} {holds}");
        }
        page.push_str(
            "# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n\
             # TYPE kubernetes_healthchecks_total counter\n",
        );
        for ((check, path), count) in &*counts {
            for (status, times) in [("error", count.failed), ("success", count.held)] {
                if times > 0 {
                    let labels = format!("name=\"{check}\",status=\"{status}\",type=\"{path}\"");
                    let _ = writeln!(page, "kubernetes_healthchecks_total{{{labels}}} {times}");
                }
            }
        }
        page
    }
}

#[test]
fn what_is_counted_is_shown() {
    let slis = Slis::default();
    slis.count("readyz", "etcd", true);
    slis.count("readyz", "etcd", true);
    slis.count("readyz", "etcd", false);
    slis.count("livez", "ping", true);
    let page = slis.page();
    let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 0",
        "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"readyz\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"readyz\"} 2",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 1",
    ];
    assert_eq!(lines, expected);
}
