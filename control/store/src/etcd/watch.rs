//! `Watch`: many watches on one stream.
//!
//! A stream has no task and no queue of its own: when the connection can take more, it looks at each watch in turn.
//! A client that does not read is not looked at, and costs its positions in the history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Stream};
use prost::Message;
use tokio::sync::watch as signal;
use tokio::time::Interval;
use tonic::{Status, Streaming};

use super::Shared;
use super::convert;
use super::error;
use super::proto::kv as pb;
use super::proto::watch::*;
use crate::error::WatchError;
use crate::kv::{KeyValue, Revision};
use crate::shared::Progress;
use crate::watch::{Event, EventKind, Look, Watch, Watcher};

/// Changes are gathered into one message up to so many bytes; a revision that has more is not cut unless the client
/// can put fragments together.
const GATHER_BYTES: usize = 256 << 10;

/// Looks without a pause after which a stream asks what its client wants.
const BUSY_LOOKS: u32 = 16;

/// The most watches on one stream.
const MAX_WATCHES: usize = 64 << 10;

/// What stands for all watches of a stream.
const ALL_WATCHES: i64 = -1;

pub(super) async fn watch(
    face: Shared,
    incoming: Streaming<WatchRequest>,
) -> Result<impl Stream<Item = Result<WatchResponse, Status>> + Send + 'static, Status> {
    let every = face.config.progress_interval.max(Duration::from_millis(1));
    let session = Session {
        changes: face.store.changes(),
        tick: tokio::time::interval_at(tokio::time::Instant::now() + every, every),
        face,
        incoming,
        watches: BTreeMap::new(),
        next_id: 0,
        ready: VecDeque::new(),
        progress_wanted: false,
        busy: 0,
        over: false,
    };
    Ok(futures::stream::unfold(session, Session::next))
}

struct Session {
    face: Shared,
    incoming: Streaming<WatchRequest>,
    changes: signal::Receiver<Progress>,
    tick: Interval,
    watches: BTreeMap<i64, One>,
    next_id: i64,
    /// Made, but not sent yet: what one request, or one look at each watch, brought.
    ready: VecDeque<WatchResponse>,
    /// Whether the client waits to hear how far all its watches are.
    progress_wanted: bool,
    /// Looks since it last waited.
    busy: u32,
    over: bool,
}

/// A watch.
struct One {
    watcher: Watcher,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Whether something was sent since the last tick.
    spoke: bool,
}

/// What woke a session.
enum Wake {
    Request(Result<Option<WatchRequest>, Status>),
    Changed,
    Tick,
    Stopped,
}

impl Session {
    async fn next(mut self) -> Option<(Result<WatchResponse, Status>, Session)> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Some((Ok(response), self));
            }
            if self.over {
                return None;
            }
            tokio::task::coop::consume_budget().await;
            self.busy += 1;
            // A client with much to see can still cancel.
            if self.busy.is_multiple_of(BUSY_LOOKS)
                && let Some(request) = self.incoming.message().now_or_never()
            {
                self.request(request);
                continue;
            }
            self.changes.borrow_and_update();
            let all_seen = self.look().await;
            if !self.ready.is_empty() || !all_seen {
                continue;
            }
            if std::mem::take(&mut self.progress_wanted) {
                let response = self.response(ALL_WATCHES, self.progress());
                self.ready.push_back(response);
                continue;
            }
            self.busy = 0;
            match self.wait().await {
                Wake::Request(request) => self.request(request),
                Wake::Changed => {}
                Wake::Tick => self.tick(),
                Wake::Stopped => {
                    self.over = true;
                    return Some((Err(error::status(error::STOPPED)), self));
                }
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let Session { face, incoming, changes, tick, .. } = self;
        tokio::select! {
            biased;
            () = face.stopped() => Wake::Stopped,
            request = incoming.message() => Wake::Request(request),
            // An error would mean that the store is gone, which `look` finds out.
            _ = changes.changed() => Wake::Changed,
            _ = tick.tick() => Wake::Tick,
        }
    }

    /// What every watch has seen.
    fn progress(&self) -> Revision {
        let slowest = self.watches.values().map(|one| one.watcher.progress()).min();
        slowest.unwrap_or_else(|| self.face.store.revision())
    }

    fn response(&self, watch_id: i64, revision: Revision) -> WatchResponse {
        WatchResponse { header: self.face.header(revision), watch_id, ..WatchResponse::default() }
    }

    fn request(&mut self, request: Result<Option<WatchRequest>, Status>) {
        // A client that ends its side, or its connection, is not interested any more.
        let Ok(Some(WatchRequest { call })) = request else {
            self.over = true;
            return;
        };
        match call {
            Some(WatchCall::Create(create)) => self.create(create),
            Some(WatchCall::Cancel(cancel)) => self.cancel(cancel.watch_id),
            Some(WatchCall::Progress(_)) => self.progress_wanted = true,
            // As etcd does, for what newer clients may ask.
            None => {}
        }
    }

    fn create(&mut self, request: WatchCreateRequest) {
        let now = self.face.store.revision();
        let refused = |session: &mut Session, reason: &str| {
            let response = session.response(ALL_WATCHES, now);
            let cancel_reason = reason.to_owned();
            session.ready.push_back(WatchResponse {
                created: true,
                canceled: true,
                cancel_reason,
                ..response
            });
        };
        if self.watches.contains_key(&request.watch_id) && request.watch_id != 0 {
            return refused(self, "mvcc: duplicate watch ID provided on the WatchStream");
        }
        if self.watches.len() >= MAX_WATCHES {
            return refused(self, "etcdserver: too many watches on one stream");
        }
        // No key is smaller.
        let key = if request.key.is_empty() { bytes::Bytes::from_static(b"\0") } else { request.key };
        let keys = convert::keys(key, request.range_end);
        if keys.bounds().is_none() {
            return refused(self, "mvcc: watcher range is empty");
        }
        let start_revision =
            Some(request.start_revision).filter(|start| *start != 0).map(|start| start.max(1));
        let watcher = self.face.store.watch(Watch { keys, start_revision, prev_kv: request.prev_kv });
        let id = if request.watch_id != 0 { request.watch_id } else { self.free_id() };
        let response = self.response(id, now);
        self.ready.push_back(WatchResponse { created: true, ..response });
        match watcher {
            Ok(watcher) => {
                let one = One {
                    watcher,
                    puts: !request.filters.contains(&0),
                    deletes: !request.filters.contains(&1),
                    prev_kv: request.prev_kv,
                    fragment: request.fragment,
                    progress_notify: request.progress_notify,
                    spoke: false,
                };
                self.watches.insert(id, one);
            }
            Err(error) => self.canceled(id, error),
        }
    }

    fn cancel(&mut self, watch_id: i64) {
        if self.watches.remove(&watch_id).is_some() {
            let response = self.response(watch_id, self.face.store.revision());
            self.ready.push_back(WatchResponse { canceled: true, ..response });
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Says that a watch is over, and why.
    fn canceled(&mut self, id: i64, error: WatchError) {
        let response = self.response(id, self.face.store.revision());
        let response = WatchResponse { canceled: true, ..response };
        self.ready.push_back(match error {
            WatchError::Compacted { compacted, .. } => {
                WatchResponse { compact_revision: compacted, ..response }
            }
            other => WatchResponse { cancel_reason: error::of_watch(other).message().to_owned(), ..response },
        });
    }

    /// Looks once at each watch. Says whether all have seen everything.
    async fn look(&mut self) -> bool {
        let mut all_seen = true;
        let mut failed = Vec::new();
        let most = self.face.store.max_request_bytes();
        for (id, one) in &mut self.watches {
            match one.gather().await {
                Ok(gathered) => {
                    all_seen &= gathered.looked == Look::UpToDate;
                    self.over |= gathered.looked == Look::Ended;
                    if !gathered.events.is_empty() {
                        one.spoke = true;
                        let header = self.face.header(gathered.revision);
                        let response = WatchResponse { header, watch_id: *id, ..WatchResponse::default() };
                        fragments(response, gathered.events, one.fragment.then_some(most), &mut self.ready);
                    }
                }
                Err(error) => failed.push((*id, error)),
            }
        }
        for (id, error) in failed {
            self.watches.remove(&id);
            self.canceled(id, error);
        }
        all_seen
    }

    /// Tells idle watches that asked for it how far they are.
    fn tick(&mut self) {
        for (id, one) in &mut self.watches {
            if one.progress_notify && !one.spoke {
                let header = self.face.header(one.watcher.progress());
                self.ready.push_back(WatchResponse { header, watch_id: *id, ..WatchResponse::default() });
            }
            one.spoke = false;
        }
    }
}

/// What a look at one watch brought.
struct Gathered {
    /// Encoded.
    events: Vec<Bytes>,
    /// Everything up to here is in `events`, or was sent before.
    revision: Revision,
    looked: Look,
}

impl One {
    async fn gather(&mut self) -> Result<Gathered, WatchError> {
        let One { watcher, puts, deletes, prev_kv, .. } = self;
        let mut events = Vec::new();
        let mut take = |event: &Event| {
            let wanted = match event.kind {
                EventKind::Put => *puts,
                EventKind::Delete => *deletes,
            };
            if wanted {
                events.push(encode(event, *prev_kv));
            }
            events.last().filter(|_| wanted).map_or(0, Bytes::len)
        };
        let looked = watcher.feed(GATHER_BYTES, &mut take).await?;
        Ok(Gathered { events, revision: self.watcher.progress(), looked })
    }
}

/// An event as it goes over the wire.
fn encode(event: &Event, prev_kv: bool) -> Bytes {
    let encode = |prev: Option<&Arc<KeyValue>>| {
        let encoded = pb::Event {
            kind: i32::from(event.kind == EventKind::Delete),
            kv: Some(convert::key_value(&event.kv)),
            prev_kv: prev.map(convert::key_value),
        };
        Bytes::from(encoded.encode_to_vec())
    };
    match event.prev.as_ref().filter(|_| prev_kv) {
        None => event.encoded(|_| encode(None)).clone(),
        prev => encode(prev),
    }
}

/// Makes one message of `events`, or several of at most `most` bytes each, of which all but the last say so.
fn fragments(
    response: WatchResponse,
    events: Vec<Bytes>,
    most: Option<usize>,
    into: &mut VecDeque<WatchResponse>,
) {
    let Some(most) = most else {
        into.push_back(WatchResponse { events, ..response });
        return;
    };
    let (mut part, mut bytes) = (Vec::new(), 0);
    for event in events {
        let len = event.len();
        if bytes + len > most && !part.is_empty() {
            let events = std::mem::take(&mut part);
            into.push_back(WatchResponse { events, fragment: true, ..response.clone() });
            bytes = 0;
        }
        bytes += len;
        part.push(event);
    }
    into.push_back(WatchResponse { events: part, ..response });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_marked_but_for_the_last() {
        let event = |n: u8| Bytes::from(vec![n; 100]);
        let cut = |most| {
            let mut into = VecDeque::new();
            fragments(WatchResponse::default(), (0..5).map(event).collect(), most, &mut into);
            into.into_iter().map(|part| (part.events.len(), part.fragment)).collect::<Vec<_>>()
        };
        assert_eq!(cut(None), [(5, false)]);
        assert_eq!(cut(Some(250)), [(2, true), (2, true), (1, false)]);
        assert_eq!(cut(Some(1)), [(1, true), (1, true), (1, true), (1, true), (1, false)], "each goes out");
    }
}
