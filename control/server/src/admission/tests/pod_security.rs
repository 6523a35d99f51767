//! Pod security: what each check says, which version has it, and what labels and workloads come to.

use super::*;
use crate::admission::{PodSecurity, PodSecurityConfig};

/// A cluster whose namespace `safe` has these labels (without their prefix).
fn labelled(labels: &[(&str, &str)]) -> Cluster {
    let cluster = cluster();
    cluster.objects.put("", "namespaces", namespace(labels));
    cluster
}

fn namespace(labels: &[(&str, &str)]) -> Value {
    let labels: Value = labels
        .iter()
        .map(|(name, value)| (format!("pod-security.kubernetes.io/{name}"), json!(value)))
        .collect();
    json!({"metadata": {"name": "safe", "labels": labels}})
}

struct Ask<'a> {
    operation: Operation,
    resource: &'a str,
    old: Option<Value>,
    config: PodSecurityConfig,
}

impl Ask<'_> {
    fn create(resource: &str) -> Ask<'_> {
        Ask { operation: Operation::Create, resource, old: None, config: PodSecurityConfig::default() }
    }

    async fn of(self, cluster: &Cluster, object: &Value) -> Result<Vec<String>, ApiError> {
        let (path, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let (api_group, resource) = match path {
            "deployments" => ("apps", path),
            other => ("", other),
        };
        let attributes = Attributes {
            user: UserInfo::new("jane", []),
            api_group: api_group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "safe".into(),
            ..Attributes::default()
        };
        let (operation, old) = (self.operation, self.old.as_ref());
        let request = AdmissionRequest { attributes: &attributes, operation, kind: "", old, dry_run: false };
        PodSecurity::new(cluster.objects(), self.config).validate(&request, Some(object)).await
    }
}

/// A pod that breaks nothing, changed by a patch of its spec and of its container.
fn good(spec: Value, container: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        }}],
    }});
    merge(&mut pod["spec"], spec);
    merge(&mut pod["spec"]["containers"][0], container);
    pod
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

/// What `enforce` at this standard says of the pod; empty when it passes.
async fn verdict(level: &str, version: &str, pod: &Value) -> String {
    let cluster = labelled(&[("enforce", level), ("enforce-version", version)]);
    match Ask::create("pods").of(&cluster, pod).await {
        Ok(_) => String::new(),
        Err(error) => {
            let begin = format!("pods \"p\" is forbidden: violates PodSecurity \"{level}:{version}\": ");
            error.message.strip_prefix(&begin).unwrap_or(&error.message).to_owned()
        }
    }
}

fn security(context: Value) -> Value {
    json!({ "securityContext": context })
}

#[tokio::test]
async fn a_plain_pod_in_a_restricted_namespace_hears_everything_at_once() {
    let said = verdict("restricted", "latest", &pod(json!({"containers": [{"name": "c"}]}))).await;
    let expected = "allowPrivilegeEscalation != false (container \"c\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(verdict("restricted", "latest", &good(json!({}), json!({}))).await, "");
    assert_eq!(verdict("baseline", "latest", &pod(json!({"containers": [{"name": "c"}]}))).await, "");
}

#[tokio::test]
async fn what_the_baseline_forbids() {
    let none = || json!({});
    let selinux = json!({"seLinuxOptions": {"type": "spc_t", "user": "root"}});
    let volumes = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
    let probe = json!({"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 1}}});
    let cases = [
        (
            json!({"hostNetwork": true, "hostIPC": true}),
            none(),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (volumes, none(), "hostPath volumes (volume \"v\")"),
        (none(), json!({"ports": [{"hostPort": 80}]}), "hostPort (container \"c\" uses hostPort 80)"),
        (
            none(),
            security(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            none(),
            security(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}})),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            security(selinux),
            none(),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            security(json!({"seccompProfile": {"type": "Unconfined"}})),
            security(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (pod and container \"c\" must not set securityContext.seccompProfile.type to \
             \"Unconfined\")",
        ),
        (
            none(),
            security(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            security(json!({"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]})),
            none(),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            none(),
            probe,
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            security(json!({"appArmorProfile": {"type": "Unconfined"}})),
            none(),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            security(json!({"windowsOptions": {"hostProcess": true}})),
            none(),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (spec, container, expected) in cases {
        assert_eq!(verdict("baseline", "latest", &good(spec, container)).await, expected);
    }
}

#[tokio::test]
async fn what_restricted_forbids_beyond_it() {
    let none = || json!({});
    let volumes = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}]});
    for (spec, container, expected) in [
        (
            volumes,
            none(),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            none(),
            security(json!({"runAsNonRoot": false})),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (security(json!({"runAsUser": 0})), none(), "runAsUser=0 (pod must not set runAsUser=0)"),
        (
            none(),
            security(json!({"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}})),
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in \
             securityContext.capabilities.add)",
        ),
        (security(json!({"seccompProfile": {"type": "Localhost"}})), none(), ""),
    ] {
        assert_eq!(verdict("restricted", "latest", &good(spec, container)).await, expected);
    }
}

#[tokio::test]
async fn versions_decide_which_checks_there_are() {
    let sysctl = |name: &str| good(security(json!({"sysctls": [{"name": name}]})), json!({}));
    let own_users = good(json!({"hostUsers": false}), security(json!({"procMount": "Unmasked"})));
    let root = good(json!({"hostUsers": false}), security(json!({"runAsUser": 0})));
    let mut windows = good(json!({"os": {"name": "windows"}}), json!({}));
    windows["spec"]["containers"][0]["securityContext"] = json!({});
    let probe = good(json!({}), json!({"livenessProbe": {"tcpSocket": {"host": "h"}}}));
    for (level, version, pod, passes) in [
        ("baseline", "v1.31", sysctl("net.ipv4.tcp_rmem"), false),
        ("baseline", "v1.32", sysctl("net.ipv4.tcp_rmem"), true),
        ("baseline", "v1.33", probe.clone(), true),
        ("baseline", "v1.34", probe, false),
        ("baseline", "v1.34", own_users.clone(), false),
        ("baseline", "v1.35", own_users.clone(), true),
        ("restricted", "latest", own_users, false),
        ("restricted", "v1.34", root.clone(), false),
        ("restricted", "latest", root, true),
        ("restricted", "v1.24", windows.clone(), false),
        ("restricted", "v1.25", windows, true),
        ("restricted", "v1.22", good(security(json!({"runAsUser": 0})), json!({})), true),
    ] {
        let said = verdict(level, version, &pod).await;
        assert_eq!(said.is_empty(), passes, "{level}:{version} {pod}: {said}");
    }
}

#[tokio::test]
async fn workloads_are_warned_of_and_pods_that_stay_as_they_were_pass() {
    let cluster = labelled(&[("enforce", "baseline"), ("warn", "restricted"), ("warn-version", "v1.20")]);
    let bad = good(json!({"hostPID": true}), json!({}));
    let workload = json!({"metadata": {"name": "d"}, "spec": {"template": bad}});
    let warnings = Ask::create("deployments").of(&cluster, &workload).await.unwrap();
    assert_eq!(warnings, ["would violate PodSecurity \"restricted:v1.20\": host namespaces (hostPID=true)"]);
    let update =
        |old: &Value| Ask { operation: Operation::Update, old: Some(old.clone()), ..Ask::create("pods") };
    assert!(update(&bad).of(&cluster, &bad).await.is_ok());
    let mut other = bad.clone();
    other["spec"]["containers"][0]["image"] = json!("other");
    assert_eq!(update(&bad).of(&cluster, &other).await.unwrap_err().code, 403);
    let status = Ask { resource: "pods/status", ..update(&bad) };
    assert!(status.of(&cluster, &other).await.is_ok());
    // Who makes a workload hears what its pods will be refused for, also without a label that asks for it.
    let silent = labelled(&[("enforce", "baseline")]);
    assert_eq!(Ask::create("deployments").of(&silent, &workload).await.unwrap().len(), 1);
}

#[tokio::test]
async fn exemptions_come_from_the_configuration() {
    let cluster = labelled(&[("enforce", "restricted")]);
    let bad = good(json!({"hostPID": true, "runtimeClassName": "vm"}), json!({}));
    let config = |exemptions: Value| {
        PodSecurityConfig::read(&json!({
            "apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
            "defaults": {"enforce": "baseline", "enforce-version": "v1.30"}, "exemptions": exemptions,
        }))
        .unwrap()
    };
    for (exemptions, passes) in [
        (json!({}), false),
        (json!({"usernames": ["jane"]}), true),
        (json!({"usernames": ["joe"]}), false),
        (json!({"namespaces": ["safe"]}), true),
        (json!({"runtimeClasses": ["vm"]}), true),
    ] {
        let ask = Ask { config: config(exemptions.clone()), ..Ask::create("pods") };
        assert_eq!(ask.of(&cluster, &bad).await.is_ok(), passes, "{exemptions}");
    }
    let plain = labelled(&[]);
    let ask = Ask { config: config(json!({})), ..Ask::create("pods") };
    assert!(ask.of(&plain, &bad).await.unwrap_err().message.contains("\"baseline:v1.30\""));
    assert!(PodSecurityConfig::read(&json!({"kind": "Other"})).is_err());
}

#[tokio::test]
async fn labels_of_an_exempt_namespace_are_said_to_mean_nothing() {
    let cluster = labelled(&[]);
    let ask = |operation: Operation, old: Option<Value>| Ask {
        operation,
        old,
        resource: "namespaces",
        config: PodSecurityConfig { namespaces: vec!["safe".into()], ..PodSecurityConfig::default() },
    };
    let strict = namespace(&[("enforce", "baseline"), ("warn", "restricted"), ("warn-version", "v1.30")]);
    let expected = "namespace \"safe\" is exempt from Pod Security, and the policy (enforce=baseline:latest, \
                    warn=restricted:v1.30) will be ignored";
    let created = ask(Operation::Create, None).of(&cluster, &strict).await.unwrap();
    assert_eq!(created, [expected]);
    let changed = ask(Operation::Update, Some(namespace(&[]))).of(&cluster, &strict).await.unwrap();
    assert_eq!(changed, [expected]);
    let plain = ask(Operation::Create, None).of(&cluster, &namespace(&[("enforce", "privileged")])).await;
    assert_eq!(plain.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn labels_have_to_mean_something_and_changes_name_the_pods_that_violate() {
    let cluster = labelled(&[]);
    for (name, bad) in [("b", true), ("a", true), ("fine", false)] {
        let mut pod = good(if bad { json!({"hostPID": true}) } else { json!({}) }, json!({}));
        pod["metadata"] = json!({"name": name, "namespace": "safe"});
        cluster.objects.put("", "pods", pod);
    }
    let wrong = namespace(&[("enforce", "strict"), ("warn-version", "1.2")]);
    let refused = Ask::create("namespaces").of(&cluster, &wrong).await.unwrap_err();
    assert_eq!(refused.code, 422);
    assert!(
        refused.message.contains("must be one of privileged, baseline, restricted"),
        "{}",
        refused.message
    );
    assert!(refused.message.contains("must be \"latest\" or \"v1.x\""), "{}", refused.message);
    let change = |old: &[(&str, &str)]| Ask {
        operation: Operation::Update,
        old: Some(namespace(old)),
        ..Ask::create("namespaces")
    };
    let strict = namespace(&[("enforce", "baseline")]);
    let warnings = change(&[]).of(&cluster, &strict).await.unwrap();
    let expected = [
        "existing pods in namespace \"safe\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "a (and 1 other pod): host namespaces",
    ];
    assert_eq!(warnings, expected);
    let relaxed = change(&[("enforce", "restricted")]).of(&cluster, &strict).await.unwrap();
    assert_eq!(relaxed, Vec::<String>::new());
    // What was wrong already does not keep others from changing something else.
    assert!(change(&[("enforce", "strict"), ("warn-version", "1.2")]).of(&cluster, &wrong).await.is_ok());
}
