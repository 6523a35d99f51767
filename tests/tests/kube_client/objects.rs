//! Built-in objects: verbs, patches, pages, watches, leases, events.

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event as Told;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, PropagationPolicy,
};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

fn map(name: &str, set: &str) -> ConfigMap {
    let labels = Some([("set".to_owned(), set.to_owned())].into());
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// The code that a request was refused with.
fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> Result<u16> {
    match result {
        Err(kube::Error::Api(status)) => Ok(status.code),
        other => bail!("not refused: {other:?}"),
    }
}

pub(super) async fn objects(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made = maps.create(&PostParams::default(), &map("a", "crud")).await?;
    ensure!(refused(maps.create(&PostParams::default(), &map("a", "crud")).await)? == 409);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map("never", "crud")).await?;
    ensure!(maps.get_opt("never").await?.is_none(), "a dry run leaves something");
    let mut changed = made.clone();
    changed.data = Some([("k".to_owned(), "v".to_owned())].into());
    let changed = maps.replace("a", &PostParams::default(), &changed).await?;
    ensure!(refused(maps.replace("a", &PostParams::default(), &made).await)? == 409, "an old version won");
    let merge = json!({"data": {"merge": "1"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&merge)).await?;
    let strategic = json!({"data": {"strategic": "1"}});
    maps.patch("a", &PatchParams::default(), &Patch::Strategic(&strategic)).await?;
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"applied": "1"}});
    maps.patch("a", &PatchParams::apply("rust"), &Patch::Apply(&applied)).await?;
    let taken = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"applied": "2"}});
    ensure!(refused(maps.patch("a", &PatchParams::apply("other"), &Patch::Apply(&taken)).await)? == 409);
    let forced = maps.patch("a", &PatchParams::apply("other").force(), &Patch::Apply(&taken)).await?;
    let data = forced.data.context("data")?;
    let expected = [("applied", "2"), ("k", "v"), ("merge", "1"), ("strategic", "1")];
    ensure!(data.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{data:?}");
    let metadata = maps.get_metadata("a").await?;
    ensure!(metadata.metadata.uid == changed.metadata.uid && metadata.labels()["set"] == "crud");
    let guarded = DeleteParams {
        preconditions: Some(kube::api::Preconditions { uid: Some("another".into()), ..Default::default() }),
        ..DeleteParams::default()
    };
    ensure!(refused(maps.delete("a", &guarded).await)? == 409, "a precondition does not hold anything up");
    let deletion =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    maps.delete("a", &deletion).await?;
    ensure!(refused(maps.get("a").await)? == 404);
    Ok(())
}

pub(super) async fn pages(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for i in 0..25 {
        maps.create(&PostParams::default(), &map(&format!("page-{i:02}"), "pages")).await?;
    }
    let mut params = ListParams::default().labels("set=pages").limit(10);
    let mut names = Vec::new();
    loop {
        let page = maps.list(&params).await?;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    ensure!(names == (0..25).map(|i| format!("page-{i:02}")).collect::<Vec<_>>(), "{names:?}");
    let params = ListParams::default().labels("set=pages");
    maps.delete_collection(&DeleteParams::default(), &params).await?;
    ensure!(maps.list(&params).await?.items.is_empty(), "something of the collection is left");
    Ok(())
}

/// A watcher whose first list is streamed, with a store behind it.
pub(super) async fn watches(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.create(&PostParams::default(), &map("there", "watched")).await?;
    let config = watcher::Config::default().labels("set=watched").streaming_lists();
    let (reader, writer) = reflector::store();
    let events = reflector(writer, watcher(maps.clone(), config)).default_backoff();
    let seen = events.map_ok(|event| match event {
        watcher::Event::Init => "init".to_owned(),
        watcher::Event::InitApply(map) => format!("initially {}", map.name_any()),
        watcher::Event::InitDone => "done".to_owned(),
        watcher::Event::Apply(map) => format!("applied {}", map.name_any()),
        watcher::Event::Delete(map) => format!("deleted {}", map.name_any()),
    });
    let mut seen = std::pin::pin!(seen);
    let mut next = async |expected: &str| -> Result<()> {
        let found = seen.next().await.context("the watch ended")??;
        ensure!(found == expected, "{found} instead of {expected}");
        Ok(())
    };
    for expected in ["init", "initially there", "done"] {
        next(expected).await?;
    }
    maps.create(&PostParams::default(), &map("new", "watched")).await?;
    next("applied new").await?;
    ensure!(reader.state().len() == 2, "the store holds {:?}", reader.state());
    // It leaves the selector.
    let patch = json!({"metadata": {"labels": {"set": "other"}}});
    maps.patch("there", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    next("deleted there").await?;
    maps.delete("new", &DeleteParams::default()).await?;
    next("deleted new").await?;
    ensure!(reader.state().is_empty(), "the store holds {:?}", reader.state());
    Ok(())
}

/// Candidates that all want a Lease: in each term exactly one gets it.
pub(super) async fn election(client: &Client) -> Result<()> {
    const CANDIDATES: usize = 8;
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let metadata = ObjectMeta { name: Some("term".into()), ..ObjectMeta::default() };
    leases.create(&PostParams::default(), &Lease { metadata, spec: None }).await?;
    for term in 1..=5 {
        let seen = leases.get("term").await?;
        let votes = (0..CANDIDATES).map(|i| {
            let (leases, mut lease) = (leases.clone(), seen.clone());
            lease.spec = Some(LeaseSpec {
                holder_identity: Some(format!("candidate-{i}")),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(term),
                ..LeaseSpec::default()
            });
            async move { leases.replace("term", &PostParams::default(), &lease).await }
        });
        let results = futures::future::join_all(votes).await;
        let elected = results.iter().filter(|r| r.is_ok()).count();
        ensure!(elected == 1, "{elected} leaders in term {term}");
        for lost in results.into_iter().filter(Result::is_err) {
            ensure!(refused(lost)? == 409);
        }
    }
    Ok(())
}

/// An event that is told twice is one object with a count.
pub(super) async fn events(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let about = maps.create(&PostParams::default(), &map("about", "events")).await?;
    let reference: ObjectReference = about.object_ref(&());
    let reporter = Reporter { controller: "rust.example.com".into(), instance: Some("one".into()) };
    let recorder = Recorder::new(client.clone(), reporter);
    for _ in 0..2 {
        let event = Event {
            type_: EventType::Normal,
            reason: "Tried".into(),
            note: Some("it was tried".into()),
            action: "Trying".into(),
            secondary: None,
        };
        recorder.publish(&event, &reference).await?;
    }
    let events: Api<Told> = Api::default_namespaced(client.clone());
    let told = events.list(&ListParams::default().fields("regarding.name=about")).await?;
    ensure!(told.items.len() == 1, "{:?}", told.items);
    let count = told.items[0].series.as_ref().map(|series| series.count);
    ensure!(count == Some(2), "the series counts {count:?}");
    // The same as the core group shows it.
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::default_namespaced(client.clone());
    let told = events.list(&ListParams::default().fields("involvedObject.name=about,reason=Tried")).await?;
    ensure!(told.items.len() == 1 && told.items[0].message.as_deref() == Some("it was tried"));
    Ok(())
}
