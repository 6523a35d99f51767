//! Slices and Endpoints from pods.

use k8s_openapi::api::core::v1::{ContainerPort, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cache::Container;
use crate::plan::Verb;
use crate::testing::{self, PodBuilder, apply_merge};

fn service() -> Service {
    let port = ServicePort {
        name: Some("http".into()),
        port: 80,
        target_port: Some(IntOrString::String("web".into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata: testing::meta("svc"),
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.96.0.7".into()),
            selector: Some(testing::labels(&[("app", "web")])),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn pod(name: &str, ip: &str) -> PodBuilder {
    let mut pod = PodBuilder::new(name).labelled(&[("app", "web")]).on("n1").running().ip(ip);
    let port = ContainerPort {
        name: Some("web".into()),
        container_port: 8080,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    pod.0.spec.containers = vec![Container { ports: vec![port], restart_policy: None }];
    pod
}

fn snapshot(service: Service, pods: &[PodBuilder], slices: Vec<EndpointSlice>) -> Snapshot {
    Snapshot {
        service: Some(Arc::new(service)),
        pods: pods.iter().map(PodBuilder::arc).collect(),
        slices: slices.into_iter().map(Arc::new).collect(),
        ..Snapshot::default()
    }
}

/// Applies a plan to slices as the API server would.
fn apply(plan: &Plan, slices: &mut Vec<EndpointSlice>) {
    for action in plan.actions() {
        match &action.verb {
            Verb::Create { body } => {
                let mut slice: EndpointSlice = serde_json::from_value(body.clone()).unwrap();
                let number =
                    slices.iter().filter_map(|s| s.metadata.name.as_ref()?.parse::<u32>().ok()).max();
                let name = format!("{:04}", number.unwrap_or(0) + 1);
                slice.metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    labels: slice.metadata.labels.clone(),
                    ..testing::meta(&name)
                };
                slices.push(slice);
            }
            Verb::Patch { body, .. } => {
                let at =
                    slices.iter().position(|s| s.metadata.name.as_ref() == Some(&action.key.name)).unwrap();
                let mut value = json!(slices[at]);
                apply_merge(&mut value, body);
                slices[at] = serde_json::from_value(value).unwrap();
            }
            Verb::Delete { .. } => slices.retain(|s| s.metadata.name.as_ref() != Some(&action.key.name)),
            other => panic!("{other:?}"),
        }
    }
}

fn created(plan: &Plan) -> Value {
    let Verb::Create { body } = &plan.actions().next().unwrap().verb else { panic!("{plan:?}") };
    body.clone()
}

#[test]
fn an_endpoint_shows_address_port_node_target_and_conditions() {
    let pods = [pod("a", "10.244.0.5").ready_for(3)];
    let body = created(&plan_slices(&snapshot(service(), &pods, vec![])));
    assert_eq!(body["addressType"], "IPv4");
    assert_eq!(body["metadata"]["labels"][SERVICE_NAME], "svc");
    assert_eq!(body["metadata"]["labels"][MANAGED_BY], MANAGER);
    assert_eq!(body["ports"], json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]));
    let endpoint = &body["endpoints"][0];
    assert_eq!(endpoint["addresses"], json!(["10.244.0.5"]));
    assert_eq!(endpoint["conditions"], json!({ "ready": true, "serving": true, "terminating": false }));
    assert_eq!(endpoint["nodeName"], "n1");
    assert_eq!(endpoint["targetRef"]["uid"], "uid-a");
}

#[test]
fn terminating_and_unready_pods_are_not_ready_unless_published() {
    let conditions = |service: Service, pod: PodBuilder| {
        let body = created(&plan_slices(&snapshot(service, &[pod], vec![])));
        let c = &body["endpoints"][0]["conditions"];
        (c["ready"] == true, c["serving"] == true, c["terminating"] == true)
    };
    let mut publishing = service();
    publishing.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    let unready = || pod("a", "10.0.0.1");
    let leaving = || pod("a", "10.0.0.1").ready_for(1).deleted();
    assert_eq!(conditions(service(), unready()), (false, false, false));
    assert_eq!(conditions(service(), leaving()), (false, true, true));
    assert_eq!(conditions(publishing.clone(), unready()), (true, false, false));
    assert_eq!(conditions(publishing, leaving()), (true, true, true));
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let mut slices = Vec::new();
    apply(&plan_slices(&snapshot(service(), &[], vec![])), &mut slices);
    assert_eq!(slices.len(), 1);
    assert!(slices[0].endpoints.is_empty());
    assert_eq!(plan_slices(&snapshot(service(), &[], slices)).steps, []);
}

#[test]
fn a_headless_service_labels_its_slices_and_names_hosts() {
    let mut headless = service();
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    let mut member = pod("a", "10.0.0.1").ready_for(1);
    member.0.spec.hostname = Some("a-0".into());
    member.0.spec.subdomain = Some("svc".into());
    let body = created(&plan_slices(&snapshot(headless, &[member], vec![])));
    assert_eq!(body["metadata"]["labels"][HEADLESS], "");
    assert_eq!(body["endpoints"][0]["hostname"], "a-0");
}

#[test]
fn one_changed_pod_writes_one_slice() {
    let mut pods: Vec<_> = (0..250)
        .map(|n| pod(&format!("p{n:03}"), &format!("10.0.{}.{}", n / 200, n % 200 + 1)).ready_for(1))
        .collect();
    let mut slices = Vec::new();
    apply(&plan_slices(&snapshot(service(), &pods, vec![])), &mut slices);
    let sizes: Vec<_> = slices.iter().map(|s| s.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    pods[120] = pod("p120", "10.0.0.121");
    let plan = plan_slices(&snapshot(service(), &pods, slices.clone()));
    assert_eq!(plan.actions().count(), 1);
    pods.push(pod("new", "10.0.3.1").ready_for(1));
    let plan = plan_slices(&snapshot(service(), &pods, slices));
    assert_eq!(
        plan.actions().count(),
        2,
        "the full slice keeps its place, the new pod goes where there is room"
    );
}

#[test]
fn endpoints_split_ready_from_not_ready() {
    let pods = [
        pod("a", "10.0.0.2").ready_for(1),
        pod("b", "10.0.0.1"),
        pod("c", "10.0.0.3").ready_for(1).deleted(),
    ];
    let body = created(&plan_endpoints(&snapshot(service(), &pods, vec![])));
    let subset = &body["subsets"][0];
    assert_eq!(subset["addresses"][0]["ip"], "10.0.0.2");
    assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.0.0.1");
    assert_eq!(subset["addresses"].as_array().unwrap().len(), 1);
    assert_eq!(subset["ports"], json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]));
}

#[test]
fn endpoints_go_with_their_service_and_others_stay() {
    let mut own = Endpoints { metadata: testing::meta("svc"), subsets: None };
    let judge = |endpoints: &Endpoints| {
        let snapshot = Snapshot { endpoints: Some(Arc::new(endpoints.clone())), ..Snapshot::default() };
        plan_endpoints(&snapshot).actions().count()
    };
    assert_eq!(judge(&own), 0);
    own.metadata.labels =
        Some(testing::labels(&[("endpoints.kubernetes.io/managed-by", "endpoint-controller")]));
    assert_eq!(judge(&own), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Add(u16),
    Remove(u16),
    Ready(u16, bool),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn slices_follow_pods_within_their_limit(batches in prop::collection::vec(prop::collection::vec(prop_oneof![
        3 => (0..400_u16).prop_map(Step::Add),
        1 => (0..400_u16).prop_map(Step::Remove),
        1 => (0..400_u16, any::<bool>()).prop_map(|(n, ready)| Step::Ready(n, ready)),
    ], 0..120), 1..8)) {
        let mut pods: std::collections::BTreeMap<u16, bool> = Default::default();
        let mut slices = Vec::new();
        for batch in batches {
            for step in batch {
                match step {
                    Step::Add(n) => { pods.entry(n).or_insert(true); }
                    Step::Remove(n) => { pods.remove(&n); }
                    Step::Ready(n, ready) => { pods.entry(n).and_modify(|r| *r = ready); }
                }
            }
            let built: Vec<_> = pods.iter().map(|(n, ready)| {
                let pod = pod(&format!("p{n}"), &format!("10.1.{}.{}", n / 250, n % 250 + 1));
                if *ready { pod.ready_for(1) } else { pod }
            }).collect();
            apply(&plan_slices(&snapshot(service(), &built, slices.clone())), &mut slices);
            let mut shown: Vec<(String, bool)> = slices.iter().flat_map(|s| &s.endpoints).map(|e| {
                (e.target_ref.as_ref().unwrap().uid.clone().unwrap(), e.conditions.as_ref().unwrap().ready.unwrap())
            }).collect();
            shown.sort();
            let mut wanted: Vec<(String, bool)> = pods.iter().map(|(n, ready)| (format!("uid-p{n}"), *ready)).collect();
            wanted.sort();
            prop_assert_eq!(shown, wanted);
            prop_assert!(slices.iter().all(|s| s.endpoints.len() <= PER_SLICE));
            prop_assert!(!slices.is_empty());
            let again = plan_slices(&snapshot(service(), &built, slices.clone()));
            prop_assert_eq!(again.steps, vec![]);
        }
    }
}
