//! `/metrics`: what the server counts, under upstream's names, in the Prometheus text format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use carrack_api::Resource;
use parking_lot::Mutex;

use crate::audit::Counts;
use crate::flow;
use crate::server::Inner;

/// Upper bounds of the duration buckets, in seconds: those of upstream's alerts, thinned.
const BOUNDS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 5.0, 30.0, 60.0];

/// Group, version and plural name of a resource.
pub(crate) type Named = (&'static str, &'static str, &'static str);

/// What a request is counted under. All comes from the table and the router, so that clients cannot make series at will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    dry_run: bool,
}

impl Key {
    fn of(subject: &Subject) -> Self {
        let (group, version, resource) = subject.resource.unwrap_or_default();
        let Subject { verb, subresource, scope, dry_run, .. } = *subject;
        Key { verb, group, version, resource, subresource, scope, dry_run }
    }

    /// The labels, as upstream has them; `code` where it is one.
    fn labels(&self, code: Option<u16>) -> String {
        let Key { group, version, resource, subresource, scope, .. } = self;
        let code = code.map(|code| format!("code=\"{code}\",")).unwrap_or_default();
        let dry_run = if self.dry_run { "All" } else { "" };
        format!(
            "{code}component=\"apiserver\",dry_run=\"{dry_run}\",group=\"{group}\",resource=\"{resource}\",\
             scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{}\",version=\"{version}\"",
            self.verb_label()
        )
    }

    /// Upstream counts by method where it can.
    fn verb_label(&self) -> String {
        match self.verb {
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            other => other.to_ascii_uppercase(),
        }
    }
}

/// Durations of one verb on one resource.
#[derive(Clone, Copy, Debug, Default)]
struct Durations {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

/// The counters.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Key, u16), u64>>,
    durations: Mutex<BTreeMap<Key, Durations>>,
    watch_events: Mutex<BTreeMap<Named, Arc<AtomicU64>>>,
    failed_handshakes: AtomicU64,
    watches_started: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    watches_open: Arc<AtomicI64>,
}

/// Counts a watch as open as long as it lives.
pub(crate) struct OpenWatch(Arc<AtomicI64>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request was about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) verb: &'static str,
    /// Names are the table's or a definition's, and few.
    pub(crate) resource: Option<Named>,
    pub(crate) subresource: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) dry_run: bool,
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn request(&self, subject: Subject, code: u16, took: Duration) {
        let key = Key::of(&subject);
        *self.requests.lock().entry((key, code)).or_default() += 1;
        if subject.verb == "watch" {
            return;
        }
        let mut durations = self.durations.lock();
        let entry = durations.entry(key).or_default();
        let seconds = took.as_secs_f64();
        for (bucket, bound) in entry.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        entry.count += 1;
        entry.seconds += seconds;
    }

    /// Counts a watch that begins.
    pub(crate) fn watch_started(&self, resource: &Resource) {
        *self.watches_started.lock().entry((resource.group, resource.plural)).or_default() += 1;
    }

    /// What counts the events that watches of a resource are sent.
    pub(crate) fn watch_events(&self, resource: &Resource) -> Arc<AtomicU64> {
        let key = (resource.group, resource.version, resource.plural);
        self.watch_events.lock().entry(key).or_default().clone()
    }

    /// Counts a connection that did not come to be.
    pub(crate) fn failed_handshake(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a watch as open until the result is dropped.
    pub(crate) fn open_watch(&self) -> OpenWatch {
        self.watches_open.fetch_add(1, Ordering::Relaxed);
        OpenWatch(self.watches_open.clone())
    }
}

/// The page.
pub(crate) fn page(server: &Inner) -> String {
    let mut out = String::new();
    requests(&mut out, &server.metrics);
    durations(&mut out, &server.metrics);
    watches(&mut out, &server.metrics);
    objects(&mut out, server);
    in_flight(&mut out, server);
    flow::page(&mut out, &server.flow);
    audit(&mut out, server);
    for (name, help, count) in server.config.authenticator.counts() {
        head(&mut out, name, "counter", help);
        let _ = writeln!(out, "{name} {count}");
    }
    server.reloads.page(&mut out);
    store(&mut out, server);
    out
}

/// Writes the head of a metric.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn requests(out: &mut String, metrics: &Metrics) {
    head(out, "apiserver_request_total", "counter", "Requests by verb, resource and HTTP status.");
    for ((key, code), count) in &*metrics.requests.lock() {
        let _ = writeln!(out, "apiserver_request_total{{{}}} {count}", key.labels(Some(*code)));
    }
}

fn durations(out: &mut String, metrics: &Metrics) {
    let name = "apiserver_request_duration_seconds";
    head(out, name, "histogram", "Time until the answer began, in seconds; without watches.");
    for (key, entry) in &*metrics.durations.lock() {
        let labels = key.labels(None);
        for (count, bound) in entry.buckets.iter().zip(BOUNDS) {
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", entry.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", entry.seconds);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", entry.count);
    }
}

fn watches(out: &mut String, metrics: &Metrics) {
    head(out, "apiserver_watches_started_total", "counter", "Watches begun, by resource.");
    for ((group, resource), count) in &*metrics.watches_started.lock() {
        let _ = writeln!(
            out,
            "apiserver_watches_started_total{{group=\"{group}\",resource=\"{resource}\"}} {count}"
        );
    }
    head(out, "apiserver_longrunning_requests", "gauge", "Watches that are open.");
    let open = metrics.watches_open.load(Ordering::Relaxed);
    let _ = writeln!(out, "apiserver_longrunning_requests{{verb=\"WATCH\"}} {open}");
}

/// What is stored, what watches were sent, and connections that did not come to be.
fn objects(out: &mut String, server: &Inner) {
    head(out, "apiserver_storage_objects", "gauge", "Objects stored, by resource, counted once a minute.");
    let stored = server.flow.stored();
    let mut seen = BTreeSet::new();
    for row in carrack_api::resources().iter().filter(|row| row.is_storage_version()) {
        let Some(count) = stored.get(row.storage_prefix) else { continue };
        if seen.insert(row.storage_prefix) {
            let dot = if row.group.is_empty() { "" } else { "." };
            let (group, plural) = (row.group, row.plural);
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{plural}{dot}{group}\"}} {count}");
        }
    }
    head(out, "apiserver_watch_events_total", "counter", "Events sent to watches.");
    for ((group, version, resource), count) in &*server.metrics.watch_events.lock() {
        let count = count.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "apiserver_watch_events_total{{group=\"{group}\",resource=\"{resource}\",version=\"{version}\"}} {count}"
        );
    }
    let name = "apiserver_tls_handshake_errors_total";
    head(out, name, "counter", "Connections whose TLS handshake failed.");
    let _ = writeln!(out, "{name} {}", server.metrics.failed_handshakes.load(Ordering::Relaxed));
}

fn in_flight(out: &mut String, server: &Inner) {
    let name = "apiserver_current_inflight_requests";
    head(out, name, "gauge", "Requests in flight.");
    let (reads, writes) = server.flow.in_flight();
    let _ = writeln!(out, "{name}{{request_kind=\"readOnly\"}} {reads}");
    let _ = writeln!(out, "{name}{{request_kind=\"mutating\"}} {writes}");
}

fn audit(out: &mut String, server: &Inner) {
    let Some(audit) = server.audit.get() else { return };
    let Counts { events, lost, levels } = audit.counts();
    head(out, "apiserver_audit_event_total", "counter", "Audit events made.");
    let _ = writeln!(out, "apiserver_audit_event_total {events}");
    head(out, "apiserver_audit_error_total", "counter", "Audit events lost.");
    for (plugin, lost) in lost {
        let _ = writeln!(out, "apiserver_audit_error_total{{plugin=\"{plugin}\"}} {lost}");
    }
    head(out, "apiserver_audit_level_total", "counter", "Requests by the level that the policy gives them.");
    for (level, count) in levels {
        let _ = writeln!(out, "apiserver_audit_level_total{{level=\"{level}\"}} {count}");
    }
}

fn store(out: &mut String, server: &Inner) {
    let status = server.registry.store().status();
    let gauges: [(&str, &str, u64); 6] = [
        ("etcd_debugging_mvcc_keys_total", "Keys at the newest revision.", status.keys),
        ("etcd_debugging_mvcc_current_revision", "The newest revision.", status.revision.unsigned_abs()),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The oldest revision that can be read.",
            status.compacted_revision.unsigned_abs(),
        ),
        ("etcd_debugging_mvcc_watcher_total", "Watchers of the store.", status.watchers),
        ("etcd_mvcc_db_total_size_in_bytes", "Bytes of the history's file.", status.db_bytes),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of all kept revisions.", status.db_bytes_in_use),
    ];
    for (name, help, value) in gauges {
        head(out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
    for (name, help, latency) in [
        ("etcd_disk_wal_fsync_duration_seconds", "Syncs of the log, in seconds.", &status.log_sync),
        (
            "etcd_disk_backend_commit_duration_seconds",
            "Durable commits of the history, in seconds.",
            &status.checkpoint,
        ),
    ] {
        head(out, name, "histogram", help);
        for (bound, count) in latency.cumulative {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", latency.count);
        let _ = writeln!(out, "{name}_sum {}", latency.total.as_secs_f64());
        let _ = writeln!(out, "{name}_count {}", latency.count);
    }
}
