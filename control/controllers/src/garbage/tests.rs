//! Who goes with whom: the graph and the decision.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use proptest::prelude::*;

use super::plan::{FOREGROUND, ORPHAN};
use super::*;
use crate::plan::{Propagation, Verb};
use crate::resource::CONFIG_MAP;
use crate::testing::ago;

fn owner(uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: uid.into(),
        uid: uid.into(),
        block_owner_deletion: Some(true),
        controller: None,
    }
}

fn meta(uid: &str, owners: &[&str]) -> ObjectMeta {
    ObjectMeta {
        namespace: Some("ns".into()),
        name: Some(uid.into()),
        uid: Some(uid.into()),
        resource_version: Some("7".into()),
        owner_references: (!owners.is_empty()).then(|| owners.iter().map(|o| owner(o)).collect()),
        ..ObjectMeta::default()
    }
}

fn ending(mut meta: ObjectMeta, finalizer: &str) -> ObjectMeta {
    meta.deletion_timestamp = Some(ago(0));
    meta.finalizers = Some(vec!["example.com/other".into(), finalizer.into()]);
    meta
}

fn dependent(uid: &str, of: &str, waits: bool) -> Dependent {
    Dependent {
        resource: CONFIG_MAP,
        key: Key::new("ns", uid),
        uid: uid.into(),
        revision: Some("7".into()),
        owners: vec![owner(of), owner("other")],
        blocks: true,
        deleting: waits,
        waits,
    }
}

fn judge(meta: ObjectMeta, states: &[OwnerState], dependents: Vec<Dependent>) -> Vec<String> {
    let owners = meta.owner_references.clone().unwrap_or_default();
    let owners = owners.into_iter().zip(states.iter().copied()).collect();
    let plan = plan(&Snapshot { resource: CONFIG_MAP, meta, owners, dependents });
    plan.actions()
        .map(|a| match &a.verb {
            Verb::Delete { propagation, uid, revision, .. } => {
                assert!(uid.is_some(), "a deletion must name the uid");
                let policy = propagation.unwrap();
                format!("delete {policy:?}{}", if revision.is_some() { "" } else { " at any revision" })
            }
            Verb::Patch { body, .. } => {
                assert!(
                    body["metadata"]["uid"].is_string() && body["metadata"]["resourceVersion"].is_string()
                );
                let uids = |list: &serde_json::Value| {
                    let all = list.as_array().unwrap().iter();
                    all.map(|o| o["uid"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(",")
                };
                match &body["metadata"]["finalizers"] {
                    serde_json::Value::Null => {
                        format!("{} owners [{}]", a.key.name, uids(&body["metadata"]["ownerReferences"]))
                    }
                    finalizers => format!("{} finalizers {finalizers}", a.key.name),
                }
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

use OwnerState::{Absent, Solid, Waiting};

#[test]
fn an_object_goes_when_its_last_owner_is_gone() {
    assert_eq!(judge(meta("x", &["a"]), &[Solid], vec![]), [""; 0]);
    assert_eq!(judge(meta("x", &["a"]), &[Absent], vec![]), ["delete Background"]);
    assert_eq!(judge(meta("x", &["a", "b"]), &[Absent, Absent], vec![]), ["delete Background"]);
    assert_eq!(judge(meta("x", &["a", "b"]), &[Absent, Solid], vec![]), ["x owners [b]"]);
    assert_eq!(judge(meta("x", &["a", "b"]), &[Waiting, Solid], vec![]), ["x owners [b]"]);
    assert_eq!(judge(meta("x", &[]), &[], vec![]), [""; 0]);
}

#[test]
fn an_owner_that_waits_passes_its_wish_on() {
    assert_eq!(judge(meta("x", &["a"]), &[Waiting], vec![]), ["delete Background"]);
    let with_own = judge(meta("x", &["a"]), &[Waiting], vec![dependent("d", "x", false)]);
    assert_eq!(with_own, ["delete Foreground"]);
    let cycle = judge(meta("x", &["a"]), &[Waiting], vec![dependent("a", "x", true)]);
    assert_eq!(cycle, ["x owners [a]", "delete Foreground at any revision"]);
}

#[test]
fn foreground_waits_for_those_that_block() {
    let waiting = || ending(meta("x", &[]), FOREGROUND);
    assert_eq!(judge(waiting(), &[], vec![dependent("d", "x", false)]), [""; 0]);
    let mut free = dependent("d", "x", false);
    free.blocks = false;
    let expected = [r#"x finalizers ["example.com/other"]"#];
    assert_eq!(judge(waiting(), &[], vec![free]), expected);
    assert_eq!(judge(waiting(), &[], vec![]), expected);
}

#[test]
fn orphaning_strips_the_references_before_the_owner_goes() {
    let leaving = ending(meta("x", &[]), ORPHAN);
    assert_eq!(
        judge(leaving, &[], vec![dependent("d", "x", false)]),
        ["d owners [other]", r#"x finalizers ["example.com/other"]"#]
    );
}

#[test]
fn an_object_on_its_way_out_is_left_alone() {
    assert_eq!(judge(ending(meta("x", &["a"]), "example.com/hold"), &[Absent], vec![]), [""; 0]);
}

#[test]
fn deletions_keep_the_policy_of_their_finalizers() {
    let mut leaves = meta("x", &["a"]);
    leaves.finalizers = Some(vec![ORPHAN.into()]);
    assert_eq!(judge(leaves, &[Absent], vec![]), [format!("delete {:?}", Propagation::Orphan)]);
}

struct Scene {
    graph: Graph,
    queue: Arc<Queue>,
}

impl Scene {
    fn new() -> Self {
        let queue = Arc::new(Queue::default());
        Self { graph: Graph::new(Arc::clone(&queue)), queue }
    }

    fn seen(&self, meta: &ObjectMeta) -> Vec<String> {
        self.graph.news(&CONFIG_MAP, MetaNews::Seen(meta));
        self.examined()
    }

    fn gone(&self, meta: &ObjectMeta) -> Vec<String> {
        self.graph.news(&CONFIG_MAP, MetaNews::Gone(meta));
        self.examined()
    }

    /// Takes out what is to be examined.
    fn examined(&self) -> Vec<String> {
        let mut uids = Vec::new();
        while let Some(key) = futures::FutureExt::now_or_never(self.queue.next()) {
            self.queue.done(&key);
            uids.push(key.name);
        }
        uids.sort();
        uids
    }
}

#[tokio::test]
async fn the_graph_names_those_that_a_change_concerns() {
    let scene = Scene::new();
    assert_eq!(scene.seen(&meta("x", &["a"])), ["x"], "its owner is not known");
    assert_eq!(scene.seen(&meta("a", &[])), [""; 0]);
    assert_eq!(scene.seen(&meta("y", &["a"])), [""; 0]);
    assert_eq!(scene.seen(&ending(meta("a", &[]), FOREGROUND)), ["a", "x", "y"]);
    assert_eq!(scene.gone(&meta("x", &["a"])), ["a"], "it may wait no longer");
    assert_eq!(scene.seen(&meta("y", &[])), ["a"], "y is no longer a dependent");
    assert_eq!(scene.graph.dependents("a"), []);
    assert_eq!(scene.seen(&meta("z", &["a"])), ["z"], "a late dependent of an owner on its way out");
    assert_eq!(scene.gone(&meta("a", &[])), ["z"]);
    assert_eq!(scene.seen(&ending(meta("o", &[]), ORPHAN)), ["o"]);
}

#[tokio::test]
async fn a_relist_finds_what_went_meanwhile() {
    let scene = Scene::new();
    scene.seen(&meta("a", &[]));
    scene.seen(&meta("x", &["a"]));
    scene.graph.relisted(&CONFIG_MAP, &HashSet::from(["x".to_owned()]));
    assert_eq!(scene.examined(), ["x"]);
    assert_eq!(scene.graph.identity("a"), None);
}

#[tokio::test]
async fn the_graph_is_complete_when_every_watched_kind_was_listed() {
    let scene = Scene::new();
    scene.graph.synced(&CONFIG_MAP);
    assert!(!scene.graph.complete(), "the kinds are not known yet");
    let watched = HashSet::from([CONFIG_MAP, crate::resource::POD]);
    scene.graph.set_kinds(Vec::new(), watched);
    assert!(!scene.graph.complete());
    scene.graph.synced(&crate::resource::POD);
    assert!(scene.graph.complete());
}

proptest! {
    #[test]
    fn dependents_are_those_whose_references_say_so(
        steps in prop::collection::vec((0..8_u8, prop::collection::hash_set(0..8_u8, 0..3), any::<bool>()), 0..60)
    ) {
        let scene = Scene::new();
        let mut truth: std::collections::HashMap<u8, HashSet<u8>> = Default::default();
        for (object, owners, gone) in steps {
            let names: Vec<String> = owners.iter().map(u8::to_string).collect();
            let meta = meta(&object.to_string(), &names.iter().map(String::as_str).collect::<Vec<_>>());
            if gone {
                scene.graph.news(&CONFIG_MAP, MetaNews::Gone(&meta));
                truth.remove(&object);
            } else {
                scene.graph.news(&CONFIG_MAP, MetaNews::Seen(&meta));
                truth.insert(object, owners);
            }
        }
        for owner in 0..8_u8 {
            let mut found: Vec<String> = scene.graph.dependents(&owner.to_string()).into_iter().map(|d| d.uid).collect();
            found.sort();
            let mut wanted: Vec<String> = truth.iter().filter(|(_, owners)| owners.contains(&owner)).map(|(o, _)| o.to_string()).collect();
            wanted.sort();
            prop_assert_eq!(found, wanted);
        }
    }
}

#[test]
fn the_memory_of_absent_owners_is_bounded() {
    let mut absent = AbsentOwners::default();
    (0..ABSENT + 5).for_each(|n| absent.insert(&n.to_string()));
    assert_eq!((absent.known.len(), absent.order.len()), (ABSENT, ABSENT));
    assert!(!absent.known.contains("0") && absent.known.contains(&(ABSENT + 4).to_string()));
}
