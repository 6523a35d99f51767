//! Priority and fairness: which requests run at once, which wait for how long, which are turned away.
//!
//! A request belongs to the first FlowSchema that matches it; that leads to a priority level, which has a part of the
//! server's seats and queues of its own. Within a level, flows (users or namespaces) share fairly. Parts of this process
//! are judged and counted, too, and never wait: they have bounded queues of their own, and a burst from outside must
//! not stop them.

mod bootstrap;
mod follow;
mod held;
mod level;
mod page;
mod queues;
mod schema;
mod shard;
mod share;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::{HeaderMap, HeaderValue};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::time::Instant;

use crate::query::Query;
use crate::router::RequestInfo;
use crate::service::Origin;
use crate::{ApiError, UserInfo};
pub(crate) use follow::{care, start};
use level::{Counters, Level, Seat};
use queues::Shape;
use schema::{LevelConfig, Schema};
use share::Bounds;

pub(crate) use held::hold;
pub(crate) use page::page;

/// Seats in all: upstream's defaults of requests in flight, 400 that read and 200 that write.
const SEATS: u32 = 600;
/// How many objects of a list cost a seat, and how many seats a list takes at most; upstream's figures.
const OBJECTS_PER_SEAT: u64 = 100;
const MOST_SEATS: u64 = 10;

/// What judges requests. Works by upstream's objects from the beginning, and by the stored ones once they are read.
pub(crate) struct FlowControl {
    rules: RwLock<Arc<Rules>>,
    clock: Instant,
    /// Objects stored, by the prefix of their keys.
    stored: RwLock<HashMap<&'static str, u64>>,
    reads: Arc<AtomicI64>,
    writes: Arc<AtomicI64>,
}

/// The objects that requests are judged by.
#[derive(Default)]
struct Rules {
    /// In the order in which they are asked.
    entries: Vec<Entry>,
    /// The levels, by name, with their numbers.
    levels: BTreeMap<String, (Arc<Level>, LevelConfig)>,
}

/// A schema and where it leads.
struct Entry {
    schema: Schema,
    level: Arc<Level>,
    is_limited: bool,
    counters: Arc<Counters>,
    marks: Marks,
}

/// What the answer says about how a request was judged.
#[derive(Clone)]
pub(crate) struct Marks {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Marks {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert("x-kubernetes-pf-flowschema-uid", self.schema);
        headers.insert("x-kubernetes-pf-prioritylevel-uid", self.level);
    }
}

/// A request in flight.
pub(crate) struct Admitted {
    counter: Arc<AtomicI64>,
    _seat: Option<Seat>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for FlowControl {
    fn default() -> Self {
        let flow = FlowControl {
            rules: RwLock::default(),
            clock: Instant::now(),
            stored: RwLock::default(),
            reads: Arc::default(),
            writes: Arc::default(),
        };
        flow.configure(&bootstrap::schemas(), &bootstrap::levels());
        flow
    }
}

/// Whether the verb changes nothing.
fn is_read(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch" | "head" | "options")
}

fn header(uid: &str) -> HeaderValue {
    HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""))
}

/// Reads objects; one that cannot be read is left out, since the others are needed.
fn read_all<T>(objects: &[Value], read: impl Fn(&Value) -> Result<T, ApiError>) -> Vec<T> {
    let each = objects.iter().filter_map(|object| {
        read(object).inspect_err(|error| tracing::error!(%error, "an object of priority and fairness")).ok()
    });
    each.collect()
}

impl FlowControl {
    /// Judges by these objects from now on. Levels go on with who runs and waits in them.
    fn configure(&self, schemas: &[Value], levels: &[Value]) {
        let old = self.rules.read().clone();
        let configs = read_all(levels, LevelConfig::read);
        let all: i64 = configs.iter().map(|level| i64::from(level.shares.max(0))).sum();
        let mut rules = Rules::default();
        for config in configs {
            let shape = config.shape.unwrap_or(Shape { queues: 0, hand: 0, length: 0 });
            let known = old.levels.get(&config.name).map(|(level, _)| level.clone());
            let level = known.unwrap_or_else(|| Arc::new(Level::new(&config.name, self.clock, shape)));
            level.configure(shape, Bounds::new(SEATS, config.shares, all, config.lendable, config.borrowing));
            rules.levels.insert(config.name.clone(), (level, config));
        }
        for schema in read_all(schemas, Schema::read) {
            // A schema that leads nowhere judges nothing, as upstream has it.
            let Some((level, config)) = rules.levels.get(&schema.level) else { continue };
            let same = |e: &&Entry| e.schema.name == schema.name && e.level.name == level.name;
            let counters = old.entries.iter().find(same).map(|e| e.counters.clone()).unwrap_or_default();
            rules.entries.push(Entry {
                level: level.clone(),
                is_limited: config.shape.is_some(),
                counters,
                marks: Marks { schema: header(&schema.uid), level: header(&config.uid) },
                schema,
            });
        }
        rules.entries.sort_by(|a, b| a.schema.order().cmp(&b.schema.order()));
        *self.rules.write() = Arc::new(rules);
    }

    /// Shares the seats anew, by what was wanted since the last time.
    fn adjust(&self) {
        let rules = self.rules.read().clone();
        let limited: Vec<&Arc<Level>> =
            rules.levels.values().filter(|(_, c)| c.shape.is_some()).map(|(level, _)| level).collect();
        let wanted: Vec<_> = limited.iter().map(|level| level.round()).collect();
        for (level, limit) in limited.into_iter().zip(share::share(SEATS, &wanted)) {
            level.adjust(limit);
        }
    }

    /// Lets a request in once there is room for it; 429 when it is turned away. `marks` says how it was judged, also
    /// when it is turned away. Requests that go on for long are let in at once; watches count until they have read the
    /// state that they begin with.
    pub(crate) async fn enter(
        &self,
        info: &RequestInfo,
        query: &Query,
        user: &UserInfo,
        origin: Origin,
        marks: &mut Option<Marks>,
    ) -> Result<Option<Admitted>, ApiError> {
        let is_watch = info.verb == "watch";
        if origin == Origin::Server || (info.is_long_running() && !is_watch) {
            return Ok(None);
        }
        let rules = self.rules.read().clone();
        let entry = rules.entries.iter().find(|entry| entry.schema.matches(info, user));
        let seat = match entry {
            // Nobody is without a schema but for the moment in which somebody has changed `catch-all`.
            None => None,
            Some(entry) => {
                *marks = Some(entry.marks.clone());
                Some(self.seat(entry, info, query, user, origin).await?)
            }
        };
        let counter = if is_read(info.verb) { &self.reads } else { &self.writes };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Admitted { counter: counter.clone(), _seat: seat }))
    }

    async fn seat(
        &self,
        entry: &Entry,
        info: &RequestInfo,
        query: &Query,
        user: &UserInfo,
        origin: Origin,
    ) -> Result<Seat, ApiError> {
        if !entry.is_limited || origin == Origin::Process {
            return Ok(Seat::exempt(&entry.counters));
        }
        let flow = shard::flow_hash(&entry.schema.name, entry.schema.flow(info, user));
        let (bounds, _) = entry.level.limits();
        let seats = self.estimate(info, query).min((bounds.nominal * 0.15).ceil().max(1.0) as u64);
        let entered = entry.level.enter(&entry.counters, flow, u32::try_from(seats).unwrap_or(1)).await;
        entered.map_err(|_| ApiError::too_many_requests("Too many requests, please try again later.", 1))
    }

    /// How many seats a request takes: lists by how many objects they read.
    fn estimate(&self, info: &RequestInfo, query: &Query) -> u64 {
        let lists = match info.verb {
            "list" => true,
            "watch" => query.flag("sendInitialEvents"),
            _ => false,
        };
        if !lists || !info.name.is_empty() {
            return 1;
        }
        let Some(row) = carrack_api::find(&info.group, &info.version, &info.resource) else { return 1 };
        let stored = self.stored.read().get(row.storage_prefix).copied().unwrap_or(0);
        let selects = ["labelSelector", "fieldSelector"].iter().any(|key| query.non_empty(key).is_some());
        let limit = query.get("limit").and_then(|l| l.parse::<u64>().ok()).unwrap_or(0);
        let read = if limit == 0 || selects { stored } else { stored.min(limit) };
        read.div_ceil(OBJECTS_PER_SEAT).clamp(1, MOST_SEATS)
    }

    /// Requests in flight: reads and writes.
    pub(crate) fn in_flight(&self) -> (i64, i64) {
        (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }

    /// How many objects are stored, by the prefix of their keys.
    pub(crate) fn stored(&self) -> HashMap<&'static str, u64> {
        self.stored.read().clone()
    }
}

#[cfg(test)]
mod tests;
