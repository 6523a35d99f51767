//! Who waits for what: so that a change wakes the watches that it concerns, and no others.
//!
//! One task sees all changes of the store, once and in order. Each watch is entered under the [`Topic`]s that hold all it
//! can be interested in; the task notes the revision of each change at the watches of the change's topics, and wakes them.
//! A watch that is woken goes straight to that revision ([`Feed`]). What it is told is where to look, not what it sees:
//! it judges each change itself, so that a topic may be wider than the watch. The change is dispatched once for all, where
//! each of a thousand nodes that watch their own pods would have to look at each change of any pod.

mod feed;
mod topic;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use carrack_api::ResourceRef;
use carrack_api::select::{Selection, View};
use carrack_store::{Event, EventKind, KeyRange, KeyValue, Revision, Store, Watch, WatchError};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use feed::Feed;

use crate::object::view;
use topic::Topic;

/// Changes that are noted for a watch that does not come to see them; after more it looks through the history itself.
const MOST_HITS: usize = 1024;

/// Wait before changes are followed again, after an error.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// All watches of a server.
#[derive(Default)]
pub(crate) struct Interests {
    board: Arc<Mutex<Board>>,
    /// Whether a task follows the changes.
    started: OnceLock<()>,
}

/// What is known of the watches.
#[derive(Default)]
struct Board {
    /// All changes up to here are noted.
    position: Revision,
    groups: HashMap<GroupKey, Group>,
    next_id: u64,
    /// The store is shut down.
    closed: bool,
}

/// Where the objects of a resource are, and the version in which they are watched: another one may show other fields.
type GroupKey = (&'static str, &'static str);

/// The watches of one resource.
struct Group {
    row: ResourceRef,
    watches: HashMap<Topic, BTreeMap<u64, Arc<Slot>>>,
    /// How many topics there are about each label, and about each field.
    labels: Counts,
    fields: Counts,
}

type Counts = BTreeMap<Box<str>, usize>;

/// What one watch is told.
#[derive(Default)]
struct Slot {
    news: Mutex<News>,
    wake: Notify,
}

#[derive(Default)]
struct News {
    /// Revisions to look at, in order.
    hits: VecDeque<Revision>,
    /// From the first to the second nothing is noted, and `hits` is empty.
    lost: Option<(Revision, Revision)>,
    closed: bool,
}

impl Slot {
    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock());
        self.wake.notify_one();
    }

    fn hit(&self, revision: Revision) {
        self.tell(|news| match news.hits.back() {
            Some(last) if *last == revision => {}
            _ if news.lost.is_some() || news.hits.len() >= MOST_HITS => news.lose(revision, revision),
            _ => news.hits.push_back(revision),
        });
    }
}

impl News {
    /// Forgets what is noted: what it was, and all from `from` to `upto`, has to be looked for.
    fn lose(&mut self, from: Revision, upto: Revision) {
        let first = self.lost.map(|(first, _)| first).or(self.hits.front().copied());
        self.hits.clear();
        self.lost = Some((first.unwrap_or(from), upto));
    }
}

impl Interests {
    /// Watches these keys, which are the resource's or those of one of its namespaces or objects, for what the selection
    /// may select, after `since` (`None`: from now on). What it brings still has to be judged. `store` is the same in all
    /// calls.
    pub(crate) fn watch(
        &self,
        store: &Store,
        row: &ResourceRef,
        keys: KeyRange,
        in_namespace: bool,
        selection: &Selection,
        since: Option<Revision>,
    ) -> Result<Feed, WatchError> {
        self.start(store);
        // A conversion may change labels, and fields of custom resources are found in the form that is asked for.
        let by_content = row.custom().is_none();
        let topics = topic::of_watch(&keys, in_namespace, selection, by_content);
        let watch = Watch { start_revision: since.map(|revision| revision + 1), ..Watch::of(keys) };
        let watcher = store.watch(watch)?;
        let entry = Entry::new(&self.board, row, topics);
        Ok(Feed::new(watcher, entry))
    }

    /// Follows the changes from now on, if it does not do so yet, in the runtime that this is called in.
    pub(crate) fn start(&self, store: &Store) {
        self.started.get_or_init(|| {
            self.board.lock().position = store.revision();
            tokio::spawn(follow(store.clone(), Arc::downgrade(&self.board)));
        });
    }
}

/// A watch's place on the board, which it leaves with this.
struct Entry {
    board: Arc<Mutex<Board>>,
    key: GroupKey,
    topics: Vec<Topic>,
    id: u64,
    slot: Arc<Slot>,
    /// What was noted before it was entered.
    position: Revision,
}

impl Entry {
    fn new(board: &Arc<Mutex<Board>>, row: &ResourceRef, topics: Vec<Topic>) -> Entry {
        let slot = Arc::<Slot>::default();
        let key = (row.storage_prefix, row.api_version);
        let mut all = board.lock();
        slot.news.lock().closed = all.closed;
        let (position, id) = (all.position, all.next_id);
        all.next_id += 1;
        let group = all.groups.entry(key).or_insert_with(|| Group::new(row.clone()));
        for topic in &topics {
            group.enter(topic, id, &slot);
        }
        drop(all);
        Entry { board: Arc::clone(board), key, topics, id, slot, position }
    }

    fn position(&self) -> Revision {
        self.board.lock().position
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut board = self.board.lock();
        let Some(group) = board.groups.get_mut(&self.key) else { return };
        for topic in &self.topics {
            group.leave(topic, self.id);
        }
        if group.watches.is_empty() {
            board.groups.remove(&self.key);
        }
    }
}

impl Group {
    fn new(row: ResourceRef) -> Group {
        Group { row, watches: HashMap::new(), labels: BTreeMap::new(), fields: BTreeMap::new() }
    }

    fn count(&mut self, topic: &Topic) -> Option<(&mut Counts, Box<str>)> {
        match topic {
            Topic::Label(key, _) => Some((&mut self.labels, key.clone())),
            Topic::Field(name, _) => Some((&mut self.fields, name.clone())),
            Topic::All | Topic::Key(_) | Topic::Under(_) => None,
        }
    }

    fn enter(&mut self, topic: &Topic, id: u64, slot: &Arc<Slot>) {
        let watches = self.watches.entry(topic.clone()).or_default();
        watches.insert(id, Arc::clone(slot));
        if watches.len() == 1
            && let Some((counts, name)) = self.count(topic)
        {
            *counts.entry(name).or_default() += 1;
        }
    }

    fn leave(&mut self, topic: &Topic, id: u64) {
        let Some(watches) = self.watches.get_mut(topic) else { return };
        watches.remove(&id);
        if !watches.is_empty() {
            return;
        }
        self.watches.remove(topic);
        if let Some((counts, name)) = self.count(topic)
            && let Some(count) = counts.get_mut(&name)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(&name);
            }
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.watches.values().flat_map(BTreeMap::values)
    }

    /// Notes a change at the watches that it may concern.
    fn note(&self, event: &Event) {
        let revision = event.kv.mod_revision;
        let Some(topics) = self.topics(event) else {
            return self.slots().for_each(|slot| slot.hit(revision));
        };
        for topic in topics {
            self.watches.get(&topic).into_iter().flatten().for_each(|(_, slot)| slot.hit(revision));
        }
    }

    /// What a change is about, one thing perhaps twice; `None` if that cannot be told: what was there before is compacted, or
    /// it is encrypted. The key to it may be with a plugin that does not answer, for which not all watches are to wait.
    fn topics(&self, event: &Event) -> Option<Vec<Topic>> {
        let kv = &event.kv;
        let mut topics = topic::of_key(&kv.key).to_vec();
        if self.labels.is_empty() && self.fields.is_empty() {
            return Some(topics);
        }
        let is_new = kv.create_revision == kv.mod_revision;
        let gone = event.kind == EventKind::Delete;
        if event.prev.is_none() && (gone || !is_new) {
            return None;
        }
        let forms: [Option<&KeyValue>; 2] = [event.prev.as_deref(), (!gone).then_some(&**kv)];
        for form in forms.into_iter().flatten() {
            // Objects are stored as JSON.
            if !form.value.starts_with(b"{") {
                return None;
            }
            let view = view(&self.row, form);
            topics.extend(self.of_content(&view));
        }
        Some(topics)
    }

    fn of_content(&self, view: &View) -> impl Iterator<Item = Topic> {
        let labels = self.labels.keys().filter_map(|key| topic::of_label(view, key));
        labels.chain(self.fields.keys().map(|name| topic::of_field(view, name)))
    }
}

impl Board {
    /// Notes the changes of one revision.
    fn note(&mut self, revision: Revision, events: &[Event]) {
        for event in events {
            let concerned =
                self.groups.iter().filter(|((prefix, _), _)| event.kv.key.starts_with(prefix.as_bytes()));
            concerned.for_each(|(_, group)| group.note(event));
        }
        self.position = revision;
    }

    /// After changes up to `revision` were not seen.
    fn lose(&mut self, revision: Revision) {
        let from = self.position + 1;
        self.position = self.position.max(revision);
        self.groups
            .values()
            .flat_map(Group::slots)
            .for_each(|slot| slot.tell(|news| news.lose(from, revision)));
    }

    fn close(&mut self) {
        self.closed = true;
        self.groups.values().flat_map(Group::slots).for_each(|slot| slot.tell(|news| news.closed = true));
    }
}

/// Notes all changes, until the store or the board is gone.
async fn follow(store: Store, board: Weak<Mutex<Board>>) {
    loop {
        let Some(position) = board.upgrade().map(|board| board.lock().position) else { return };
        match store.watch_kept(Watch::of(KeyRange::all()).since(position + 1)) {
            Err(WatchError::Stopped) => break,
            Err(error) => tracing::debug!(%error, "changes that watches wait for are followed anew"),
            Ok(mut changes) => loop {
                match changes.next().await {
                    Some(Ok(batch)) => {
                        let Some(board) = board.upgrade() else { return };
                        board.lock().note(batch.revision, &batch.events);
                    }
                    // The watches that it concerns find out by themselves.
                    Some(Err(error)) => {
                        tracing::debug!(%error, "changes that watches wait for are followed anew");
                        break;
                    }
                    None => return closed(&board),
                }
            },
        }
        let Some(board) = board.upgrade() else { return };
        board.lock().lose(store.revision());
        drop(board);
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    closed(&board);
}

fn closed(board: &Weak<Mutex<Board>>) {
    if let Some(board) = board.upgrade() {
        board.lock().close();
    }
}

#[cfg(test)]
mod tests;
