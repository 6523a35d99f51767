//! The driver: failures back off, panics do not stop anything, and what was written is seen before the next plan.

use std::sync::atomic::{AtomicUsize, Ordering};

use carrack_client::Recorder;
use http::{Request, Response, StatusCode};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::plan::Action;
use crate::resource::REPLICA_SET;
use crate::testing;

/// A server that refuses the first `failures` requests and then answers with revision 9.
fn client(failures: usize) -> Client {
    let left = Arc::new(AtomicUsize::new(failures));
    let service = tower::service_fn(move |_: Request<Body>| {
        let left = Arc::clone(&left);
        async move {
            let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            let refused = json!({ "kind": "Status", "status": "Failure", "code": 500, "message": "broken" });
            let done = json!({ "kind": "ReplicaSet", "metadata": { "name": "a", "resourceVersion": "9" } });
            let body: Value = if fails { refused } else { done };
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            if fails {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Client::new(service, "default")
}

/// Panics in its first `panics` plans, then writes something in each.
struct Scripted {
    plans: Arc<AtomicUsize>,
    panics: usize,
}

impl Controller for Scripted {
    type Snapshot = ();
    const NAME: &'static str = "scripted";

    async fn snapshot(&self, _key: &Key) -> Result<Option<()>, LookError> {
        Ok(Some(()))
    }

    fn plan(&self, _snapshot: &(), _now: Timestamp) -> Plan {
        let number = self.plans.fetch_add(1, Ordering::SeqCst);
        assert!(number >= self.panics, "as planned");
        let mut plan = Plan::none();
        plan.push(Action::merge(REPLICA_SET, Key::new("ns", "a"), "", json!({})));
        plan
    }
}

struct Scene {
    plans: Arc<AtomicUsize>,
    queue: Arc<Queue>,
    caches: Arc<Caches>,
    stop: CancellationToken,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn scene(failures: usize, panics: usize) -> Scene {
    let client = client(failures);
    let caches = Arc::new(Caches::default());
    let (recorder, _writer) = Recorder::new(client.clone(), "test");
    let executor = Arc::new(Executor::new(client, recorder, Arc::clone(&caches)));
    let (plans, queue, stop) = (Arc::default(), Arc::default(), CancellationToken::new());
    let controller = Scripted { plans: Arc::clone(&plans), panics };
    let driver = Driver::new(controller, Arc::clone(&queue), executor, Arc::clone(&caches));
    tokio::spawn(driver.run(stop.clone()));
    Scene { plans, queue, caches, stop }
}

impl Scene {
    /// How many plans were made once everything has come to rest for `time`.
    async fn plans_after(&self, time: Duration) -> usize {
        tokio::time::sleep(time).await;
        self.plans.load(Ordering::SeqCst)
    }

    fn show(&self, revision: &str) {
        let mut set = ReplicaSet { metadata: testing::meta("a"), ..ReplicaSet::default() };
        set.metadata.resource_version = Some(revision.into());
        self.caches.replica_sets.apply(Event::Apply(set));
    }
}

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn failures_and_panics_are_tried_again() {
    let failing = scene(2, 0);
    failing.queue.add(Key::new("ns", "a"));
    assert_eq!(failing.plans_after(SHORT).await, 3, "two refusals, then success");
    let panicking = scene(0, 2);
    panicking.queue.add(Key::new("ns", "a"));
    assert_eq!(panicking.plans_after(SHORT).await, 3, "two panics, then success");
}

#[tokio::test(start_paused = true)]
async fn no_plan_is_made_from_a_cache_that_has_not_seen_the_last_write() {
    let scene = scene(0, 0);
    scene.queue.add(Key::new("ns", "a"));
    assert_eq!(scene.plans_after(SHORT).await, 1);
    scene.queue.add(Key::new("ns", "a"));
    assert_eq!(scene.plans_after(SHORT).await, 1, "revision 9 was written and not seen");
    scene.show("8");
    assert_eq!(scene.plans_after(SHORT).await, 1, "older news do not count");
    scene.show("9");
    assert_eq!(scene.plans_after(SHORT).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_seen_when_the_object_is_gone_going_or_another() {
    let caches = Caches::default();
    let written = Written::Deleted { resource: REPLICA_SET, key: Key::new("ns", "a"), uid: "uid-a".into() };
    let mut set = ReplicaSet { metadata: testing::meta("a"), ..ReplicaSet::default() };
    let limit = Duration::from_millis(10);
    caches.show(&written, limit).await.unwrap();
    caches.replica_sets.apply(Event::Apply(set.clone()));
    assert!(caches.show(&written, limit).await.is_err(), "still there");
    set.metadata.resource_version = Some("2".into());
    set.metadata.deletion_timestamp = Some(testing::ago(0));
    caches.replica_sets.apply(Event::Apply(set.clone()));
    caches.show(&written, limit).await.unwrap();
    set.metadata.resource_version = Some("3".into());
    set.metadata.deletion_timestamp = None;
    set.metadata.uid = Some("another".into());
    caches.replica_sets.apply(Event::Apply(set));
    caches.show(&written, limit).await.unwrap();
}
