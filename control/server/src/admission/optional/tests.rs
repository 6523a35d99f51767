//! Golden cases of the plugins that are off by default: a request and an object in, what becomes of them out.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::authn::tests::Memory;
use crate::{
    Admission, AdmissionRequest, ApiError, Attributes, Authorizer, Decision, Draft, Operation, UserInfo,
};

const CREATE: Operation = Operation::Create;
const UPDATE: Operation = Operation::Update;

/// Allows what it lists, as `verb resource[/subresource]:name`.
struct Only(&'static [&'static str]);

impl Authorizer for Only {
    fn authorize(&self, asked: &Attributes) -> Decision {
        let question = format!("{} {}:{}", asked.verb, asked.full_resource(), asked.name);
        match self.0.contains(&question.as_str()) {
            true => Decision::Allow,
            false => Decision::NoOpinion("no".into()),
        }
    }
}

/// Runs one plugin on a request about `resource[/subresource]` in the namespace web: mutation, then judgement.
async fn run(
    plugin: &dyn Admission,
    operation: Operation,
    resource: &str,
    old: Option<&Value>,
    object: &Value,
) -> Result<Value, String> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = Attributes {
        user: UserInfo::new("jane", []),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: "web".into(),
        name: "a".into(),
        ..Attributes::default()
    };
    let request = AdmissionRequest { attributes: &attributes, operation, kind: "Thing", old, dry_run: false };
    let mut object = object.clone();
    let words = |error: ApiError| error.message.clone();
    plugin.mutate(&request, &mut Draft::new(&mut object)).await.map_err(words)?;
    plugin.validate(&request, Some(&object)).await.map_err(words)?;
    Ok(object)
}

fn objects(annotations: Value) -> Arc<Memory> {
    let objects = Arc::new(Memory::default());
    objects.put("", "namespaces", json!({"metadata": {"name": "web", "annotations": annotations}}));
    objects
}

#[tokio::test]
async fn images_are_always_pulled() {
    let image = |name: &str| json!({"name": "c", "image": name});
    let pod = |name: &str| {
        json!({"spec": {"containers": [image(name)], "initContainers": [image("i")],
            "volumes": [{"name": "v", "image": {"reference": "data"}}, {"name": "w"}]}})
    };
    let made = run(&AlwaysPullImages, CREATE, "pods", None, &pod("x")).await.unwrap();
    for place in [
        "/spec/containers/0/imagePullPolicy",
        "/spec/initContainers/0/imagePullPolicy",
        "/spec/volumes/0/image/pullPolicy",
    ] {
        assert_eq!(made.pointer(place), Some(&json!("Always")), "{place}");
    }
    // What brings no new image stays as it is.
    let same = run(&AlwaysPullImages, UPDATE, "pods", Some(&pod("x")), &pod("x")).await.unwrap();
    assert_eq!(same, pod("x"));
    let new = run(&AlwaysPullImages, UPDATE, "pods", Some(&pod("x")), &pod("y")).await.unwrap();
    assert_eq!(new["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(run(&AlwaysPullImages, UPDATE, "pods/status", None, &pod("x")).await.unwrap(), pod("x"));
}

#[tokio::test]
async fn devices_bring_tolerations() {
    let plugin = ExtendedResourceToleration;
    let pod = json!({"spec": {
        "containers": [{"resources": {"requests": {"nvidia.com/gpu": "1", "cpu": "1", "kubernetes.io/x": "1"}}}],
        "initContainers": [{"resources": {"requests": {"a.b/c": "1", "requests.x/y": "1"}}}],
    }});
    let made = run(&plugin, CREATE, "pods", None, &pod).await.unwrap();
    let tolerated = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoSchedule"});
    assert_eq!(made["spec"]["tolerations"], json!([tolerated("a.b/c"), tolerated("nvidia.com/gpu")]));
    assert_eq!(run(&plugin, CREATE, "pods", None, &made).await.unwrap(), made, "once is enough");
}

#[tokio::test]
async fn simple_refusals() {
    let affine = |key: &str| {
        json!({"spec": {"affinity": {"podAntiAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key}]}}}})
    };
    let service = |ips: Value| json!({"spec": {"externalIPs": ips}});
    let (none, one, two) =
        (service(json!([])), service(json!(["1.1.1.1"])), service(json!(["1.1.1.1", "2.2.2.2"])));
    let nowhere = NamespaceExists::new(Arc::new(Memory::default()));
    let there = NamespaceExists::new(objects(json!({})));
    let topology = LimitPodHardAntiAffinityTopology;
    let deny = DenyServiceExternalIPs;
    let ips = "services \"a\" is forbidden: Use of external IPs is denied by admission control";
    let (host, zone) = (affine("kubernetes.io/hostname"), affine("zone"));
    type Case<'a> = (&'a dyn Admission, Operation, &'a str, Option<&'a Value>, &'a Value, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (&AlwaysAdmit, CREATE, "pods", None, &none, ""),
        (
            &AlwaysDeny,
            CREATE,
            "pods",
            None,
            &none,
            "pods \"a\" is forbidden: admission control is denying all modifications",
        ),
        (&topology, CREATE, "pods", None, &host, ""),
        (
            &topology,
            CREATE,
            "pods",
            None,
            &zone,
            "pods \"a\" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key \
             kubernetes.io/hostname is allowed",
        ),
        (&deny, CREATE, "services", None, &none, ""),
        (&deny, CREATE, "services", None, &one, ips),
        (&deny, UPDATE, "services", Some(&two), &one, ""),
        (&deny, UPDATE, "services", Some(&one), &two, ips),
        (&deny, UPDATE, "services/status", Some(&one), &two, ""),
        (&nowhere, Operation::Delete, "pods", None, &none, "namespaces \"web\" not found"),
        (&nowhere, CREATE, "namespaces", None, &none, ""),
        (&there, Operation::Delete, "pods", None, &none, ""),
    ];
    for (plugin, operation, resource, old, object, expected) in cases {
        let found = run(plugin, operation, resource, old, object).await.err().unwrap_or_default();
        assert_eq!(found, expected, "{operation:?} {resource} {object}");
    }
}

#[tokio::test]
async fn owners_are_for_those_who_may_delete_them() {
    let owned = |blocks: bool, kind: (&str, &str)| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": kind.0, "kind": kind.1, "name": "o", "uid": "u",
            "blockOwnerDeletion": blocks}]}})
    };
    let set = ("apps/v1", "ReplicaSet");
    let (plain, free, blocking) = (json!({"metadata": {}}), owned(false, set), owned(true, set));
    let (custom, strange) = (owned(true, ("x.io/v1", "Widget")), owned(true, ("y.io/v1", "Thing")));
    let objects = objects(json!({}));
    let definition = json!({"metadata": {"name": "widgets.x.io"}, "spec": {"group": "x.io", "scope": "Cluster",
        "names": {"kind": "Widget", "plural": "widgets"}}});
    objects.put("apiextensions.k8s.io", "customresourcedefinitions", definition);
    let no_delete = "cannot set an ownerRef on a resource you can't delete: no, <nil>";
    let no_finalizers = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: no, <nil>";
    let cases: Vec<(&'static [&'static str], Option<&Value>, &Value, &str)> = vec![
        (&[], None, &free, ""),
        (&[], None, &blocking, no_finalizers),
        (&["update replicasets/finalizers:o"], None, &blocking, ""),
        (&[], Some(&plain), &free, no_delete),
        (&["delete pods:a"], Some(&plain), &free, ""),
        (&["delete pods:a"], Some(&free), &blocking, no_finalizers),
        (&[], Some(&blocking), &blocking, ""),
        (&[], Some(&blocking), &plain, no_delete),
        (&["update widgets/finalizers:o"], None, &custom, ""),
        (
            &[],
            None,
            &strange,
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion y.io/v1 Kind Thing",
        ),
    ];
    for (allowed, old, new, expected) in cases {
        let operation = if old.is_some() { UPDATE } else { CREATE };
        let plugin =
            OwnerReferencesPermissionEnforcement::new(objects.clone(), vec![Arc::new(Only(allowed))]);
        let found = run(&plugin, operation, "pods", old, new).await.err().unwrap_or_default();
        let expected =
            if expected.is_empty() { String::new() } else { format!("pods \"a\" is forbidden: {expected}") };
        assert_eq!(found, expected, "{allowed:?} {new}");
        assert!(run(&plugin, operation, "pods/status", old, new).await.is_ok());
    }
}

#[tokio::test]
async fn pods_go_where_their_namespace_says() {
    const KEY: &str = "scheduler.alpha.kubernetes.io/node-selector";
    let config = NodeSelectors::read(&json!({"podNodeSelectorPluginConfig":
        {"clusterDefaultNodeSelector": "pool=common", "web": "pool=web,disk=ssd,zone=a"}}))
    .unwrap();
    let pod = |selector: Value| json!({"spec": {"nodeSelector": selector}});
    let conflict =
        "pods \"a\" is forbidden: pod node label selector conflicts with its namespace node label selector";
    let outside =
        "pods \"a\" is forbidden: pod node label selector labels conflict with its namespace whitelist";
    for (annotations, own, expected) in [
        (json!({KEY: "pool=web"}), json!({}), Ok(json!({"pool": "web"}))),
        (json!({KEY: "pool=web"}), json!({"disk": "ssd"}), Ok(json!({"disk": "ssd", "pool": "web"}))),
        (json!({KEY: "pool=web"}), json!({"pool": "other"}), Err(conflict)),
        (json!({KEY: "pool=web"}), json!({"rack": "1"}), Err(outside)),
        (json!({KEY: ""}), json!({"zone": "a"}), Ok(json!({"zone": "a"}))),
        (json!({}), json!({}), Err(outside)),
        (
            json!({KEY: "nonsense"}),
            json!({}),
            Err("namespaces \"web\" is forbidden: invalid selector: \"nonsense\""),
        ),
    ] {
        let plugin = PodNodeSelector::new(objects(annotations.clone()), config.clone());
        let made = run(&plugin, CREATE, "pods", None, &pod(own)).await;
        let made = made.map(|pod| pod["spec"]["nodeSelector"].clone());
        assert_eq!(made, expected.map_err(str::to_owned), "{annotations}");
    }
    assert!(NodeSelectors::read(&json!({"podNodeSelectorPluginConfig": {"web": "x"}})).is_err());
}

#[tokio::test]
async fn tolerations_are_given_and_limited() {
    let tolerates = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoSchedule"});
    let pressed = tolerates("node.kubernetes.io/memory-pressure");
    let defaults = "scheduler.alpha.kubernetes.io/defaultTolerations";
    let list = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
    let config = json!({"apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration",
        "default": [tolerates("common")], "whitelist": [tolerates("common"), tolerates("web"), pressed]});
    let config = TolerationLists::read(&config).unwrap();
    let pod = |own: Value| json!({"spec": {"tolerations": own}, "status": {"qosClass": "BestEffort"}});
    let text = |all: Value| all.to_string();
    let no = |whose: &str| {
        Err(format!(
            "pods \"a\" is forbidden: pod tolerations (possibly merged with namespace default tolerations) conflict with its \
             {whose} whitelist"
        ))
    };
    let (web, common, all) = (tolerates("web"), tolerates("common"), json!({"operator": "Exists"}));
    for (annotations, own, expected) in [
        (json!({}), json!([]), Ok(json!([common]))),
        (json!({}), json!([web]), Ok(json!([common, web]))),
        (json!({}), json!([all]), no("cluster")),
        (json!({defaults: text(json!([web]))}), json!([]), Ok(json!([web]))),
        (json!({defaults: "[]"}), json!([tolerates("x")]), no("cluster")),
        (json!({list: "[]"}), json!([all]), Ok(json!([all]))),
        (json!({list: text(json!([common]))}), json!([web]), no("namespace")),
    ] {
        let plugin = PodTolerationRestriction::new(objects(annotations.clone()), config.clone());
        let made = run(&plugin, CREATE, "pods", None, &pod(own)).await;
        assert_eq!(made.map(|pod| pod["spec"]["tolerations"].clone()), expected, "{annotations}");
    }
    let mut sized = pod(json!([]));
    sized["status"]["qosClass"] = json!("Burstable");
    let plugin = PodTolerationRestriction::new(objects(json!({})), config);
    let made = run(&plugin, CREATE, "pods", None, &sized).await.unwrap();
    assert_eq!(made["spec"]["tolerations"], json!([common, pressed]));
}

#[tokio::test]
async fn pods_learn_the_zone_of_their_node() {
    let objects = objects(json!({}));
    let labels = json!({"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r", "x": "y"});
    objects.put("", "nodes", json!({"metadata": {"name": "n", "labels": labels}}));
    let plugin = PodTopologyLabels::new(objects);
    let zoned = json!({"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r"});
    let binding = json!({"metadata": {}, "target": {"kind": "Node", "name": "n"}});
    let bound = run(&plugin, CREATE, "pods/binding", None, &binding).await.unwrap();
    assert_eq!(bound["metadata"]["labels"], zoned);
    let own =
        json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "b"}}, "spec": {"nodeName": "n"}});
    let made = run(&plugin, CREATE, "pods", None, &own).await.unwrap();
    let expected = json!({"topology.kubernetes.io/zone": "b", "topology.kubernetes.io/region": "r"});
    assert_eq!(made["metadata"]["labels"], expected);
    for untouched in
        [json!({"metadata": {}, "spec": {}}), json!({"metadata": {}, "spec": {"nodeName": "other"}})]
    {
        assert_eq!(run(&plugin, CREATE, "pods", None, &untouched).await.unwrap(), untouched);
    }
}
