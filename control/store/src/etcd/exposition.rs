//! `/metrics`: the store's condition under etcd's names, so that dashboards and alerts made for etcd fit.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

use tonic::Code;

use super::calls::CALLS;
use super::{API_VERSION, Face};
use crate::metrics::{Latency, Status};

/// Metrics of one number: the name, the kind, what it means, where it comes from.
type Row = (&'static str, &'static str, &'static str, fn(&Status) -> f64);

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

const ROWS: &[Row] = &[
    ("etcd_server_has_leader", GAUGE, "Whether or not a leader exists. 1 is existence, 0 is not.", |s| {
        f64::from(u8::from(s.leader.is_some()))
    }),
    ("etcd_server_is_leader", GAUGE, "Whether or not this member is a leader. 1 if is, 0 otherwise.", |s| {
        f64::from(u8::from(s.leader == Some(s.member_id)))
    }),
    (
        "etcd_server_is_learner",
        GAUGE,
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        |s| f64::from(u8::from(s.is_learner)),
    ),
    ("etcd_server_leader_changes_seen_total", COUNTER, "The number of leader changes seen.", |s| {
        s.leader_changes as f64
    }),
    (
        "etcd_server_proposals_committed_total",
        GAUGE,
        "The total number of consensus proposals committed.",
        |s| s.applied_index as f64,
    ),
    ("etcd_server_proposals_applied_total", GAUGE, "The total number of consensus proposals applied.", |s| {
        s.applied_index as f64
    }),
    ("etcd_server_proposals_pending", GAUGE, "The current number of pending proposals to commit.", |s| {
        s.proposals_pending as f64
    }),
    ("etcd_server_proposals_failed_total", COUNTER, "The total number of failed proposals seen.", |s| {
        s.proposals_failed as f64
    }),
    ("etcd_server_quota_backend_bytes", GAUGE, "Current backend storage quota size in bytes.", |s| {
        s.quota_bytes as f64
    }),
    ("etcd_disk_wal_write_bytes_total", GAUGE, "Total number of bytes written in WAL.", |s| {
        s.log_bytes_written as f64
    }),
    (
        "etcd_mvcc_db_total_size_in_bytes",
        GAUGE,
        "Total size of the underlying database physically allocated in bytes.",
        |s| s.db_bytes as f64,
    ),
    (
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        GAUGE,
        "Total size of the underlying database logically in use in bytes.",
        |s| s.db_bytes_in_use as f64,
    ),
    ("etcd_mvcc_put_total", COUNTER, "Total number of puts seen by this member.", |s| s.tally.puts as f64),
    ("etcd_mvcc_delete_total", COUNTER, "Total number of deletes seen by this member.", |s| {
        s.tally.deletes as f64
    }),
    ("etcd_mvcc_txn_total", COUNTER, "Total number of txns seen by this member.", |s| s.tally.txns as f64),
    ("etcd_mvcc_range_total", COUNTER, "Total number of ranges seen by this member.", |s| s.ranges as f64),
    ("etcd_debugging_mvcc_keys_total", GAUGE, "Total number of keys.", |s| s.keys as f64),
    ("etcd_debugging_mvcc_watcher_total", GAUGE, "Total number of watchers.", |s| s.watchers as f64),
    ("etcd_debugging_mvcc_current_revision", GAUGE, "The current revision of store.", |s| s.revision as f64),
    ("etcd_debugging_mvcc_compact_revision", GAUGE, "The revision of the last compaction in store.", |s| {
        s.compacted_revision as f64
    }),
    ("etcd_debugging_mvcc_events_total", COUNTER, "Total number of events sent by this member.", |s| {
        (s.tally.puts + s.tally.deletes) as f64
    }),
    ("etcd_debugging_mvcc_db_compaction_keys_total", COUNTER, "Total number of db keys compacted.", |s| {
        s.tally.compacted_records as f64
    }),
    ("etcd_debugging_lease_total", GAUGE, "Total number of leases.", |s| s.leases as f64),
    (
        "etcd_debugging_mvcc_history_reads_total",
        COUNTER,
        "Reads of history by watchers that are behind the window in memory.",
        |s| s.history_reads as f64,
    ),
];

/// The text that a scrape gets.
pub(super) fn text(face: &Face) -> String {
    let status = face.store.status();
    let mut out = Exposition(String::with_capacity(16 << 10));
    for (name, kind, help, value) in ROWS {
        out.describe(name, kind, help);
        out.sample(name, &[], value(&status));
    }
    out.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        &status.log_sync,
    );
    out.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        &status.checkpoint,
    );
    let versions = [("etcd_server_version", "server_version"), ("etcd_cluster_version", "cluster_version")];
    for (name, label) in versions {
        out.describe(name, GAUGE, "Which version is running. 1 for the label with the current version.");
        out.sample(name, &[(label, &API_VERSION)], 1.0);
    }
    out.describe(
        "etcd_server_id",
        GAUGE,
        "Server or member ID in hexadecimal format. 1 for the label with the current ID.",
    );
    out.sample("etcd_server_id", &[("server_id", &format_args!("{:x}", status.member_id))], 1.0);
    network(face, &mut out);
    calls(face, &mut out);
    process(&mut out);
    out.0
}

fn network(face: &Face, out: &mut Exposition) {
    let counters = &face.counters;
    let watches = CALLS.iter().zip(&counters.calls).filter(|(call, _)| call.service == "etcdserverpb.Watch");
    let watches: u64 = watches.map(|(_, counted)| counted.under_way()).sum();
    let rows = [
        (
            "etcd_network_client_grpc_received_bytes_total",
            COUNTER,
            "The total number of bytes received from grpc clients.",
            counters.received_bytes.load(Relaxed) as f64,
        ),
        (
            "etcd_network_client_grpc_sent_bytes_total",
            COUNTER,
            "The total number of bytes sent to grpc clients.",
            counters.sent_bytes.load(Relaxed) as f64,
        ),
        (
            "etcd_network_client_connections",
            GAUGE,
            "Connections of clients.",
            counters.connections.load(Relaxed) as f64,
        ),
        ("etcd_debugging_mvcc_watch_stream_total", GAUGE, "Total number of watch streams.", watches as f64),
    ];
    for (name, kind, help, value) in rows {
        out.describe(name, kind, help);
        out.sample(name, &[], value);
    }
}

fn calls(face: &Face, out: &mut Exposition) {
    let each = || CALLS.iter().zip(&face.counters.calls);
    out.describe("grpc_server_started_total", COUNTER, "Total number of RPCs started on the server.");
    for (call, counted) in each() {
        let labels: [(_, &dyn Display); 3] =
            [("grpc_method", &call.method), ("grpc_service", &call.service), ("grpc_type", &call.kind)];
        out.sample("grpc_server_started_total", &labels, counted.started.load(Relaxed) as f64);
    }
    out.describe(
        "grpc_server_handled_total",
        COUNTER,
        "Total number of RPCs completed on the server, regardless of success or failure.",
    );
    for (call, counted) in each() {
        for (code, handled) in counted.handled.iter().enumerate() {
            let handled = handled.load(Relaxed);
            // All the others are absent until they happen, as in etcd.
            if handled > 0 || code == 0 {
                let code = format!("{:?}", Code::from_i32(code as i32)).replace("Ok", "OK");
                let labels: [(_, &dyn Display); 4] = [
                    ("grpc_code", &code),
                    ("grpc_method", &call.method),
                    ("grpc_service", &call.service),
                    ("grpc_type", &call.kind),
                ];
                out.sample("grpc_server_handled_total", &labels, handled as f64);
            }
        }
    }
    out.describe(
        "grpc_server_msg_sent_total",
        COUNTER,
        "Total number of messages sent on streams by the server.",
    );
    for (call, counted) in each().filter(|(call, _)| call.kind != "unary") {
        let labels: [(_, &dyn Display); 3] =
            [("grpc_method", &call.method), ("grpc_service", &call.service), ("grpc_type", &call.kind)];
        out.sample("grpc_server_msg_sent_total", &labels, counted.sent.load(Relaxed) as f64);
    }
    out.describe("grpc_server_handling_seconds", "histogram", "Response latency of calls that were handled.");
    for (call, counted) in each().filter(|(_, counted)| counted.started.load(Relaxed) > 0) {
        let labels: [(_, &dyn Display); 3] =
            [("grpc_method", &call.method), ("grpc_service", &call.service), ("grpc_type", &call.kind)];
        out.buckets("grpc_server_handling_seconds", &labels, &counted.took());
    }
}

/// What the Prometheus client libraries say of every process.
fn process(out: &mut Exposition) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = read("/proc/self/limits");
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let memory = read("/proc/self/statm");
    let pages = memory.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let rows = [
        ("process_open_fds", "Number of open file descriptors.", Some(open as f64)),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            most.and_then(|most| most.parse().ok()),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            pages.map(|pages| pages * rustix::param::page_size() as f64),
        ),
    ];
    for (name, help, value) in rows {
        if let Some(value) = value {
            out.describe(name, GAUGE, help);
            out.sample(name, &[], value);
        }
    }
}

/// Text in Prometheus' format.
struct Exposition(String);

impl Exposition {
    fn describe(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: f64) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{text}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram(&mut self, name: &str, help: &str, latency: &Latency) {
        self.describe(name, "histogram", help);
        self.buckets(name, &[], latency);
    }

    fn buckets(&mut self, name: &str, labels: &[(&str, &dyn Display)], latency: &Latency) {
        let bucket = format!("{name}_bucket");
        let mut with_bound = |bound: &dyn Display, count: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.sample(&bucket, &labels, count as f64);
        };
        for (bound, count) in &latency.cumulative {
            with_bound(bound, *count);
        }
        with_bound(&"+Inf", latency.count);
        self.sample(&format!("{name}_sum"), labels, latency.total.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, latency.count as f64);
    }
}
