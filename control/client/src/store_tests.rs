//! Tests of the store: indexes, relists, order, and waiting for one's own writes.

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

fn object(namespace: &str, name: &str, revision: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            resource_version: Some(revision.to_string()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn by_first_letter(object: &ConfigMap, file: &mut dyn FnMut(&str)) {
    file(&object.metadata.name.as_deref().unwrap_or_default()[..1]);
}

fn names(objects: Vec<Arc<ConfigMap>>) -> Vec<String> {
    let mut names: Vec<_> = objects.iter().filter_map(|o| o.metadata.name.clone()).collect();
    names.sort();
    names
}

fn listed(store: &Store<ConfigMap>, objects: Vec<ConfigMap>) -> Vec<Change<ConfigMap>> {
    let mut changes = store.apply(Event::Init);
    for object in objects {
        changes.extend(store.apply(Event::InitApply(object)));
    }
    changes.extend(store.apply(Event::InitDone));
    changes
}

#[test]
fn indexes_follow_objects() {
    let store = Store::new(vec![by_first_letter as Indexer<ConfigMap>]);
    listed(&store, vec![object("a", "one", 1), object("a", "two", 2), object("b", "tree", 3)]);
    assert_eq!(names(store.namespace("a")), ["one", "two"]);
    assert_eq!(names(store.indexed(0, "t")), ["tree", "two"]);
    store.apply(Event::Delete(object("a", "two", 4)));
    assert_eq!(names(store.indexed(0, "t")), ["tree"]);
    assert_eq!(names(store.namespace("a")), ["one"]);
}

#[test]
fn a_relist_reports_what_went_and_what_changed_only() {
    let store = Store::new(vec![]);
    listed(&store, vec![object("a", "kept", 1), object("a", "gone", 2), object("a", "changed", 3)]);
    let changes = listed(&store, vec![object("a", "kept", 1), object("a", "changed", 9)]);
    let mut seen: Vec<_> = changes
        .iter()
        .map(|c| (c.latest().unwrap().metadata.name.clone().unwrap(), c.new.is_some()))
        .collect();
    seen.sort();
    assert_eq!(seen, [("changed".to_owned(), true), ("gone".to_owned(), false)]);
}

#[test]
fn older_news_never_replace_newer() {
    let store = Store::new(vec![]);
    listed(&store, vec![]);
    store.apply(Event::Apply(object("a", "x", 7)));
    assert!(store.apply(Event::Apply(object("a", "x", 6))).is_empty());
    assert!(store.apply(Event::Delete(object("a", "x", 5))).is_empty());
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_until_the_write_is_seen() {
    let store = Arc::new(Store::new(vec![]));
    listed(&store, vec![object("a", "x", 10)]);
    let limit = Duration::from_secs(5);
    store.caught_up(10, 1, limit).await.unwrap();
    assert!(store.caught_up(11, 1, limit).await.is_err());
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.caught_up(11, 1, limit).await })
    };
    tokio::task::yield_now().await;
    store.apply(Event::Apply(object("a", "y", 12)));
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_begun_after_the_write_has_seen_it() {
    let store = Store::new(vec![]);
    listed(&store, vec![object("a", "x", 10)]);
    let lists = store.progress().borrow().lists_begun;
    let limit = Duration::from_millis(10);
    // The object written at 50 was deleted before the list: nothing in the list is that new.
    listed(&store, vec![object("a", "x", 10)]);
    store.caught_up(50, lists, limit).await.unwrap();
    // A list that was under way when the write happened proves nothing.
    store.apply(Event::Init);
    let lists = store.progress().borrow().lists_begun;
    store.apply(Event::InitDone);
    assert!(store.caught_up(60, lists, limit).await.is_err());
}
