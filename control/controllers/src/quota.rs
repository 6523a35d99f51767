//! ResourceQuotas: counts what a quota limits when it is new, when it changed, and now and then.
//!
//! The API server keeps `status.used` right with every write that it does. What it cannot know is counted here: what
//! was there before the quota, and pods that should have ended and are still there. A count reads the API past every
//! cache, after the quota, and its result is refused when the quota was charged meanwhile: it never undoes a charge.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::quota::{Kind, Quota, overdue_at, to_value};
use carrack_client::Key;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{Caches, Feeds, Pod};
use crate::diff;
use crate::discovery;
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::{RESOURCE_QUOTA, Resource};

/// A quota is counted anew after this time, whatever happened.
const RESYNC: Duration = Duration::from_secs(300);
/// And this long after a change of what it limits: a write that was under way then may have known the old quota.
const SETTLE: Duration = Duration::from_secs(10);
/// A pod counts as overdue here this much later than in the API server, whose clock may be behind: a pod that was
/// left out here must not be released there.
const CLOCKS: SignedDuration = SignedDuration::from_secs(2);

/// What the plan for one quota is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The quota as the API has it.
    pub quota: Value,
    /// The objects of its namespace that it may count, by group and plural of their kind.
    pub objects: Vec<((String, String), Vec<Value>)>,
}

/// The controller; its keys are quotas.
pub struct Quotas {
    caches: Arc<Caches>,
    client: Client,
}

impl Quotas {
    /// A controller that counts through `client`.
    #[must_use]
    pub fn new(caches: Arc<Caches>, client: Client) -> Self {
        Self { caches, client }
    }

    /// Feeds `queue` with quotas that are to be counted.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.quotas.push(Box::new(move |change| {
            // Charges come here too, and leave nothing to count.
            if let Some(quota) = change.new.as_ref().filter(|quota| is_stale(quota)) {
                own.add(Key::of(&quota.metadata));
            }
        }));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| {
            let Some(pod) = change.latest().filter(|pod| pod.terminating() && !pod.ended()) else { return };
            let Some(wait) = until_overdue(pod, Timestamp::now()) else { return };
            // A pod that went in time was released by the server.
            if change.new.is_none() && !wait.is_zero() {
                return;
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            for quota in known.quotas.namespace(namespace) {
                own.add_after(Key::of(&quota.metadata), wait);
            }
        }));
    }

    /// Every object of a kind in a namespace, as it is now; none of a kind that is not served.
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, LookError> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<Value>,
        }
        let resource = match group {
            "" => Some(Resource {
                group: "".into(),
                version: "v1".into(),
                kind: "".into(),
                plural: plural.to_owned().into(),
                namespaced: true,
            }),
            _ => self.served(group, plural).await?,
        };
        let Some(resource) = resource else { return Ok(Vec::new()) };
        let path = resource.collection(namespace);
        match self.read::<List>(&path).await {
            Ok(list) => Ok(list.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(source) => Err(LookError::Read { what: path, source: Box::new(source) }),
        }
    }

    async fn served(&self, group: &str, plural: &str) -> Result<Option<Resource>, LookError> {
        let found = discovery::deletable(&self.client).await?;
        let mut resources = found.kinds.into_iter().map(|kind| kind.resource);
        let served = resources.find(|r| r.group == group && r.plural == plural && r.namespaced);
        // Not to know a kind is not to know that there are none of it.
        let unknown = found.failed.iter().any(|version| version.split('/').next() == Some(group));
        if served.is_none() && unknown {
            return Err(LookError::NotYet("the server that a quota's kind is of does not answer"));
        }
        Ok(served)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, kube::Error> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

/// Whether the status does not speak of what the spec limits.
#[must_use]
pub fn is_stale(quota: &ResourceQuota) -> bool {
    let spec = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = quota.status.as_ref();
    let hard = status.and_then(|status| status.hard.as_ref());
    let used = status.and_then(|status| status.used.as_ref());
    let names = |amounts: Option<&std::collections::BTreeMap<String, _>>| -> BTreeSet<String> {
        amounts.into_iter().flat_map(|amounts| amounts.keys().cloned()).collect()
    };
    spec.cloned().unwrap_or_default() != hard.cloned().unwrap_or_default() || names(spec) != names(used)
}

/// How long until a pod that is to end is overdue; zero when it is.
fn until_overdue(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let deleted = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds?);
    let overdue = deleted.checked_add(grace).ok()?.checked_add(CLOCKS).ok()?;
    // One more second: times of pods are whole seconds.
    let wait = overdue.duration_since(now) + SignedDuration::from_secs(1);
    Some(if overdue < now { Duration::ZERO } else { Duration::try_from(wait).unwrap_or_default() })
}

/// Writes what was counted, if that is not what the status says.
#[must_use]
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    plan.again_after(RESYNC);
    let quota = Quota::read(&snapshot.quota);
    let objects = snapshot.objects.iter().flat_map(|((group, plural), objects)| {
        objects.iter().map(|object| (Kind::new(group, plural), object))
    });
    let as_of = now.checked_sub(CLOCKS).unwrap_or(now);
    let used = quota.recount(objects, as_of);
    let hard = snapshot.quota.pointer("/spec/hard").cloned().unwrap_or_else(|| json!({}));
    let status = snapshot.quota.get("status").cloned().unwrap_or_else(|| json!({}));
    let same = used == quota.used && status.get("hard").unwrap_or(&json!({})) == &hard;
    // Pods that are going count until they are overdue: look again then.
    let pods = snapshot.objects.iter().filter(|((_, plural), _)| plural == "pods");
    let next = pods.flat_map(|(_, pods)| pods).filter_map(overdue_at).filter(|at| *at > as_of).min();
    if let Some(wait) = next.and_then(|at| Duration::try_from(at.duration_since(as_of)).ok()) {
        plan.again_after(wait + Duration::from_secs(1));
    }
    if same {
        return plan;
    }
    let wanted = json!({ "hard": hard, "used": to_value(&used) });
    let metadata = &snapshot.quota["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let body = json!({
        "metadata": { "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"] },
        "status": diff::merge(&status, &wanted),
    });
    let key = Key::new(text("namespace"), text("name"));
    plan.push(Action::merge(RESOURCE_QUOTA, key, "status", body).missing_ok());
    plan.note(format!("counted {} resources", used.len()));
    plan.again_after(SETTLE);
    plan
}

impl Controller for Quotas {
    type Snapshot = Snapshot;
    const NAME: &'static str = "resourcequota";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        if self.caches.quotas.get(key).is_none() {
            return Ok(None);
        }
        let path = RESOURCE_QUOTA.object(key, "");
        let quota: Value = match self.read(&path).await {
            Ok(quota) => quota,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(source) => return Err(LookError::Read { what: path, source: Box::new(source) }),
        };
        let mut objects = Vec::new();
        for (group, plural) in Quota::read(&quota).kinds() {
            let found = self.list(&group, &plural, &key.namespace).await?;
            objects.push(((group, plural), found));
        }
        Ok(Some(Snapshot { quota, objects }))
    }

    fn plan(&self, snapshot: &Snapshot, now: Timestamp) -> Plan {
        plan(snapshot, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Verb;
    use crate::testing;

    fn snapshot(status: Value, pods: Vec<Value>) -> Snapshot {
        let quota = json!({
            "metadata": {"namespace": "ns", "name": "q", "uid": "u", "resourceVersion": "7"},
            "spec": {"hard": {"pods": "5", "count/pods": "9"}},
            "status": status,
        });
        Snapshot { quota, objects: vec![((String::new(), "pods".to_owned()), pods)] }
    }

    fn written(plan: &Plan) -> Value {
        let Verb::Patch { body, subresource: "status", .. } = &plan.actions().next().unwrap().verb else {
            panic!("{plan:?}")
        };
        body.clone()
    }

    #[test]
    fn a_new_quota_is_counted_and_a_right_one_left_alone() {
        let pods = vec![json!({}), json!({"status": {"phase": "Failed"}})];
        let made = plan(&snapshot(json!(null), pods.clone()), testing::now());
        let expected =
            json!({"hard": {"pods": "5", "count/pods": "9"}, "used": {"pods": "1", "count/pods": "2"}});
        let body = written(&made);
        assert_eq!(body["status"], expected);
        assert_eq!(body["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        let again = plan(&snapshot(expected, pods), testing::now());
        assert_eq!(again.actions().count(), 0);
        assert_eq!(again.report.again, Some(RESYNC));
    }

    #[test]
    fn what_is_no_longer_limited_leaves_the_status() {
        let stale = json!({"hard": {"secrets": "1"}, "used": {"secrets": "1", "pods": "3"}});
        let body = written(&plan(&snapshot(stale, vec![]), testing::now()));
        assert_eq!(body["status"]["used"], json!({"secrets": null, "pods": "0", "count/pods": "0"}));
        assert_eq!(body["status"]["hard"]["secrets"], Value::Null);
    }

    #[test]
    fn pods_that_should_have_ended_are_left_out_once_every_clock_says_so() {
        let going = |seconds: i64| {
            let at = testing::ago(seconds).0.to_string();
            json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}})
        };
        for (seconds, used) in [(0, "1"), (30, "1"), (31, "1"), (33, "0")] {
            let body = written(&plan(&snapshot(json!(null), vec![going(seconds)]), testing::now()));
            assert_eq!(body["status"]["used"]["pods"], used, "{seconds} s after the end");
        }
        let soon = plan(&snapshot(json!(null), vec![going(27)]), testing::now());
        assert_eq!(soon.report.again, Some(Duration::from_secs(6)));
    }

    #[test]
    fn only_a_changed_spec_makes_a_status_stale() {
        let quota = |spec: &str, hard: Value, used: Value| -> ResourceQuota {
            serde_json::from_value(json!({
                "metadata": {}, "spec": {"hard": {"pods": spec}}, "status": {"hard": hard, "used": used},
            }))
            .unwrap()
        };
        let five = || json!({"pods": "5"});
        assert!(!is_stale(&quota("5", five(), json!({"pods": "2"}))));
        assert!(is_stale(&quota("6", five(), json!({"pods": "2"}))));
        assert!(is_stale(&quota("5", five(), json!({}))));
        assert!(is_stale(&quota("5", json!({}), json!({"pods": "2"}))));
    }
}
