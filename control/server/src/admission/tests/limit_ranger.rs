//! LimitRanges: what containers are given, and what is refused.

use super::*;
use crate::admission::LimitRanger;

fn range(limits: Value) -> Cluster {
    let cluster = cluster();
    let range = json!({"metadata": {"namespace": "web", "name": "r"}, "spec": {"limits": limits}});
    cluster.objects.put("", "limitranges", range);
    cluster
}

async fn run(cluster: &Cluster, request: Request<'_>, object: Value) -> Result<Value, ApiError> {
    let plugins: Vec<Arc<dyn Admission>> = vec![Arc::new(LimitRanger::new(cluster.objects()))];
    request.run(&plugins, Some(object)).await
}

async fn create(cluster: &Cluster, object: Value) -> Result<Value, ApiError> {
    run(cluster, Request::new(Operation::Create, "pods", "web", ""), object).await
}

fn container(resources: Value) -> Value {
    pod(json!({"containers": [{"name": "c", "resources": resources}]}))
}

#[tokio::test]
async fn containers_get_what_they_do_not_name() {
    let cluster = range(json!([{
        "type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"},
    }]));
    let made = create(
        &cluster,
        pod(json!({
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "5m"}}}],
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}],
        })),
    );
    let made = made.await.unwrap();
    let c = json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], c);
    let i = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "5m"}});
    assert_eq!(made["spec"]["initContainers"][0]["resources"], i);
    let said = "LimitRanger plugin set: cpu request for container c; memory limit for container c; \
                cpu, memory limit for init container i";
    assert_eq!(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"], said);
    // A second run finds nothing to give.
    assert_eq!(create(&cluster, made.clone()).await.unwrap(), made);
}

#[tokio::test]
async fn what_is_outside_the_bounds_is_refused() {
    let bounds = |sort: &str| json!([{"type": sort, "min": {"cpu": "100m"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "4"}}]);
    let both = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    for (sort, resources, why) in [
        ("Container", both("500m", "2"), ""),
        ("Container", both("50m", "150m"), "minimum cpu usage per Container is 100m, but request is 50m"),
        ("Container", both("1", "3"), "maximum cpu usage per Container is 2, but limit is 3"),
        (
            "Container",
            both("400m", "2"),
            "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000",
        ),
        (
            "Pod",
            json!({}),
            "[minimum cpu usage per Pod is 100m.  No request is specified, \
             maximum cpu usage per Pod is 2.  No limit is specified, \
             cpu max limit to request ratio per Pod is 4, but no request is specified or request is 0]",
        ),
        ("Pod", both("3", "3"), "maximum cpu usage per Pod is 2, but limit is 3"),
    ] {
        let result = create(&range(bounds(sort)), container(resources.clone())).await;
        if why.is_empty() {
            assert!(result.is_ok(), "{resources}");
            continue;
        }
        assert_eq!(refusal(result), (403, format!("pods \"a\" is forbidden: {why}")), "{sort} {resources}");
    }
}

#[tokio::test]
async fn claims_have_bounds_and_pods_that_are_resized_too() {
    let cluster = range(json!([
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
        {"type": "Container", "max": {"cpu": "1"}},
    ]));
    let claim = |size: &str| json!({"metadata": {"name": "d"}, "spec": {"resources": {"requests": {"storage": size}}}});
    let request = |operation| Request::new(operation, "persistentvolumeclaims", "web", "d");
    assert!(run(&cluster, request(Operation::Create), claim("2Gi")).await.is_ok());
    let why = |bound: &str| format!("persistentvolumeclaims \"d\" is forbidden: {bound}");
    let small = run(&cluster, request(Operation::Create), claim("1Mi")).await;
    let bound = "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi";
    assert_eq!(refusal(small), (403, why(bound)));
    let grown = run(&cluster, request(Operation::Update).over(claim("2Gi")), claim("3Gi")).await;
    let bound = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi";
    assert_eq!(refusal(grown), (403, why(bound)));
    let kept = run(&cluster, request(Operation::Update).over(claim("9Gi")), claim("9Gi")).await;
    assert!(kept.is_ok(), "what is stored is right as it is");

    let sized = |cpu: &str| container(json!({"limits": {"cpu": cpu}, "requests": {"cpu": "1"}}));
    let resize = || Request::new(Operation::Update, "pods/resize", "web", "a").over(sized("1"));
    assert_eq!(refusal(run(&cluster, resize(), sized("2")).await).0, 403);
    let update = || Request::new(Operation::Update, "pods", "web", "a").over(sized("1"));
    assert!(run(&cluster, update(), sized("2")).await.is_ok(), "an update cannot change it anyway");
}
